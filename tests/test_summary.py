"""The numbers of a run: gains, noise, fresh seeds, refusals, in both directions."""

import json
import math
from dataclasses import asdict, replace

import pytest

from bilevel.describe import (
    REFUSAL_KINDS,
    number,
    one_line,
    refusal_kind,
    repair_reason,
    trial_changes,
)
from bilevel.errors import InvalidCandidate
from bilevel.history import History
from bilevel.model import Call, Move, Param, Proposal, Refusal, Space, Stop, Trial
from bilevel.noise import T_975, interval
from bilevel.proposer import parse
from bilevel.render.render import (
    confirmation_text,
    llm_text,
    runs_table,
    summary_panel,
    trials_table,
)
from bilevel.summary import summarise
from factories import ACCURACY, GPT, GPT_RUN, gpt_log, measured, proposal, shown, trial


def plain(text: str) -> str:
    """Without the frame and line breaks, which depend on the width."""
    return " ".join(text.replace("│", " ").split())


def t_distribution(t: float, freedom: int) -> float:
    """P(T <= t) for t > 0, by Simpson's rule over the density."""
    scale = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2)
    scale /= math.sqrt(freedom * math.pi)
    width = t / 2000
    density = [
        scale * (1 + (i * width) ** 2 / freedom) ** (-(freedom + 1) / 2) for i in range(2001)
    ]
    odd, even = sum(density[1:-1:2]), sum(density[2:-1:2])
    return 0.5 + width / 3 * (density[0] + density[-1] + 4 * odd + 2 * even)


@pytest.mark.parametrize("freedom", range(1, len(T_975) + 1))
def test_quantiles_are_those_of_students_t(freedom: int) -> None:
    t = T_975[freedom - 1]
    assert t_distribution(t - 0.0006, freedom) < 0.975 < t_distribution(t + 0.0006, freedom)


def test_interval() -> None:
    assert interval([]) is None
    assert interval([1.0]) is None
    low, high = interval([1.0, 2.0, 3.0, 4.0, 5.0]) or (0, 0)
    # Standard error sqrt(2.5 / 5), t(4) = 2.776.
    assert (low, high) == pytest.approx((3 - 1.96293, 3 + 1.96293), abs=1e-4)
    many = interval([0.0, 1.0] * 50) or (0, 0)
    assert many[0] < 0.5 - 1.98 * math.sqrt(0.2525 / 99 * 99 / 100), "no narrower than the truth"


@pytest.mark.parametrize(("direction", "sign"), [("min", 1), ("max", -1)])
def test_gain_is_positive_when_better_in_either_direction(direction: str, sign: int) -> None:
    base = [3.4, 3.5, 3.3]
    run, log = measured([sign * v for v in base], (), direction, best=sign * 3.2)  # type: ignore[arg-type]
    summary = summarise(run, log)  # type: ignore[arg-type]
    assert summary.gain == pytest.approx(0.2)
    assert summary.gain_percent == pytest.approx(100 * 0.2 / 3.4)
    assert summary.baseline.value == sign * 3.4
    assert summary.baseline.mean == pytest.approx(sign * 3.4)
    assert summary.baseline.sd == pytest.approx(0.1)
    assert summary.gain_in_noise == pytest.approx(2.0)
    assert summary.best is not None
    assert (summary.best.trial, summary.best.value, summary.best.of) == (1, sign * 3.2, 2)
    assert summary.best.changes == ("TOTAL_BATCH_SIZE 2**12 -> 2**10",)
    assert summary.stop == "done"


CLEAR = [3.2, 3.21, 3.19, 3.22, 3.18]
BASE = [3.4, 3.4, 3.41, 3.39, 3.42, 3.38]


@pytest.mark.parametrize(
    ("baseline", "winner", "verdict", "pairs"),
    [
        (BASE, [], "not measured", 0),
        (BASE, CLEAR, "confirmed", 5),
        (BASE, CLEAR[:2], "confirmed", 2),
        (BASE, CLEAR[:1], "undecided (too few)", 1),
        (BASE[:1], CLEAR, "undecided (too few)", 0),
        (BASE, [3.2, 3.6], "undecided (too few)", 2),
        (BASE, [3.2, 3.6, 3.4, 3.3, 3.5], "not confirmed", 5),
        (BASE, [3.6, 3.61, 3.59], "not confirmed", 3),
        (BASE, [*CLEAR[:4], None], "not confirmed", 4),
        ([*BASE[:5], None], CLEAR, "confirmed", 4),
    ],
    ids=[
        "none", "clear", "clear with two", "one", "no baseline yet", "two that disagree",
        "five that disagree", "worse", "winner crashed once", "baseline crashed once",
    ],
)  # fmt: skip
@pytest.mark.parametrize("direction", ["min", "max"])
def test_verdict_on_fresh_seeds(
    baseline: list[float | None],
    winner: list[float | None],
    verdict: str,
    pairs: int,
    direction: str,
) -> None:
    def turned(values: list[float | None]) -> list[float | None]:
        return [v if v is None or direction == "min" else -v for v in values]

    best = 3.2 if direction == "min" else -3.2
    run, log = measured(turned(baseline), turned(winner), direction, best)  # type: ignore[arg-type]
    found = summarise(run, log).confirmation  # type: ignore[arg-type]
    assert (found.verdict, found.pairs) == (verdict, pairs)
    if found.gain is not None and pairs >= 2:
        assert found.low is not None
        assert found.high is not None
        assert found.low <= found.gain <= found.high


def test_gains_are_paired_by_seed_not_by_order() -> None:
    run, log = measured([3.4, 3.0, 4.0], [2.9, 3.8])
    swapped = [*log[:-3], log[-2], log[-3], log[-1]]
    for records in (log, swapped):
        found = summarise(run, records).confirmation  # type: ignore[arg-type]
        assert found.gain == pytest.approx(0.15)
        assert found.sd == pytest.approx(math.sqrt(0.005))


def test_fresh_values_of_an_earlier_winner_do_not_count() -> None:
    run, log = measured(BASE, CLEAR)
    later = trial(20, -3.1, kept=True, MATRIX_LR=0.1)
    summary = summarise(run, [*log, proposal(later), later])  # type: ignore[list-item]
    assert summary.best is not None
    assert summary.best.trial == 20
    assert summary.confirmation.verdict == "not measured"
    assert summary.stop is None, "the run went on after that stop"


def test_an_empty_run_and_a_failed_baseline_have_no_numbers() -> None:
    empty = summarise(GPT_RUN, [])
    assert (empty.best, empty.gain, empty.stop, empty.baseline.n) == (None, None, None, 0)
    assert empty.counts.untouched == GPT.names
    failed = [trial(0, None, role="baseline"), Stop(0, "failed", "it broke")]
    summary = summarise(GPT_RUN, failed)
    assert (summary.best, summary.gain, summary.baseline.failed) == (None, None, 1)
    assert summary.stop == "failed"
    assert "1 measurement failed" in plain(shown(summary_panel(summary)))


def test_a_baseline_of_zero_has_no_per_cent() -> None:
    run, log = measured([0.0, 0.0], best=-1.0)
    summary = summarise(run, log)  # type: ignore[arg-type]
    assert (summary.gain, summary.gain_percent, summary.gain_in_noise) == (1.0, None, None)


def test_nothing_better_is_said_plainly() -> None:
    run, log = measured([3.4, 3.41], best=3.5)
    text = plain(shown(summary_panel(summarise(run, log))))  # type: ignore[arg-type]
    assert "none of 1 measured change was better" in text
    assert "fresh seeds" not in text


def reason_for(name: str, value: object, space: Space = GPT) -> str:
    with pytest.raises(InvalidCandidate) as raised:
        space[name].check(value)  # type: ignore[arg-type]
    return str(raised.value)


def test_kinds_follow_the_wording_of_the_real_refusals() -> None:
    fine = Space((Param("GRID", "float", 0.0, low=0.0, high=1.0, step=0.25),))
    for reason in (
        reason_for("MATRIX_LR", 7.0),
        reason_for("MATRIX_LR", "high"),
        reason_for("WINDOW_PATTERN", "XL"),
        reason_for("TOTAL_BATCH_SIZE", 256.5),
        reason_for("GRID", 0.3, fine),
    ):
        assert refusal_kind(reason) == "out of bounds", reason
    for text, kind in (
        ("Sure!", "not JSON"),
        ("[]", "JSON of another form"),
        ('{"changes": [3]}', "JSON of another form"),
        ('{"changes": [{"name": "RATE"}]}', "JSON of another form"),
    ):
        with pytest.raises(InvalidCandidate) as raised:
            parse(text)
        assert refusal_kind(str(raised.value)) == kind, text
    with pytest.raises(InvalidCandidate) as raised:
        parse('{"changes": []}')
    assert refusal_kind(str(raised.value)) == "changes nothing"
    assert refusal_kind(reason_for("BATCH", 1)) == "other"


def test_counts_of_a_whole_run() -> None:
    run, log = gpt_log()
    summary = summarise(run, log)
    history = History(run.space, log)
    counts, usage = summary.counts, summary.usage
    assert counts.evaluations == counts.budget == 30
    assert counts.kept + counts.discarded + sum(counts.failed.values()) == 30
    assert counts.failed
    assert sum(counts.refused.values()) == len(history.refusals())
    assert counts.untouched == ("ADAM_BETA1",)
    assert sum(t.trials for t in counts.tried) == 30, "each proposal changes one parameter"
    assert sum(t.kept for t in counts.tried) == counts.kept
    calls = [r for r in log if isinstance(r, Call)]
    assert usage.llm_calls == len(calls)
    assert usage.repairs == sum(c.purpose == "repair" for c in calls)
    assert sum(usage.rejected.values()) == usage.llm_calls - 30, "all others became a trial"
    assert set(usage.rejected) <= set(REFUSAL_KINDS) - {"other"}
    assert usage.seconds_per_proposal == 0.5
    assert usage.tokens_in == 100 * len(calls)
    assert usage.jobs == len(history.trials)
    assert usage.job_seconds == pytest.approx(1.5 * usage.jobs)
    assert summary.incumbent == summary.best.trial if summary.best else False
    assert json.loads(json.dumps(asdict(summary)))["counts"]["budget"] == 30


def test_a_run_in_progress_has_no_stop_and_counts_what_is_there() -> None:
    run, log = gpt_log()
    for length in range(len(log)):
        summary = summarise(run, log[:length])
        assert summary.stop is None
        evaluated = sum(isinstance(r, Trial) and r.role == "search" for r in log[:length])
        assert summary.counts.evaluations == evaluated
        assert "bilevel resume gpt-1" in plain(shown(summary_panel(summary)))


def test_repair_reasons_are_read_back_from_the_prompt() -> None:
    _, log = gpt_log()
    repairs = [r for r in log if isinstance(r, Call) and r.purpose == "repair"]
    assert repairs
    for call in repairs:
        assert not repair_reason(call).startswith("Not accepted")
        assert refusal_kind(repair_reason(call)) != "other"


def test_a_move_with_values_of_its_own_is_no_rejected_reply() -> None:
    given = Refusal(1, Move((0,), values=GPT.defaults()), "it repeats #0 (m 3.4)", GPT.defaults())
    step = Proposal(1, (given.move,), (), (given,), ())
    summary = summarise(GPT_RUN, [trial(0, -3.4, kept=True, role="baseline"), step])
    assert summary.counts.refused == {"repeats an earlier trial": 1}
    assert summary.usage.rejected == {}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\tb\nc\r\nd", "a b c d"),
        ("\x1b[31mred\x07", "[31mred"),
        ("\u202eevil\u200b \ud800 x\u2028y", "evil x y"),
        ("größer als β", "größer als β"),
        ("", ""),
    ],
)
def test_text_of_others_becomes_one_printable_line(text: str, line: str) -> None:
    assert one_line(text) == line
    one_line(text).encode()


def test_cut_text_says_so() -> None:
    assert one_line("abcdefghij", 8) == "abcde..."
    assert one_line("abcdefgh", 8) == "abcdefgh"


def test_numbers_keep_what_matters() -> None:
    values = (3.24, 0.002, 67.5, 1e-7, -0.1, 0.0, 123456.7)
    assert [number(v) for v in values] == [
        "3.2400", "0.0020", "67.5000", "1e-07", "-0.1000", "0.0000", "1.235e+05",
    ]  # fmt: skip


def test_changes_are_against_the_parent() -> None:
    run, log = gpt_log()
    history = History(run.space, log)
    for one in history.trials:
        assert bool(trial_changes(history, one)) == (one.role == "search")
    texts = Space((Param("CODE", "text", "x = 1\n"),))
    base = Trial(0, None, texts.defaults(), "ok", 1.0, {}, 1.0, 0, True, role="baseline")
    edited = replace(trial(1, 2.0), values={"CODE": "x = 2\n" * 500})
    assert trial_changes(History(texts, [base]), edited) == ("CODE edited",)


def test_the_panel_says_what_the_search_saw_and_what_fresh_seeds_said() -> None:
    run, log = measured(BASE, CLEAR)
    text = plain(shown(summary_panel(summarise(run, log))))  # type: ignore[arg-type]
    assert "m 3.2000 in trial #1, running minimum of 2; gain 0.2000 (5.9 %)" in text
    assert "confirmed: re-measured 3.2000 (sd 0.0158) on 5 fresh seeds" in text
    assert "paired gain 0.2000 (95 % interval 0.2000 to 0.2000) against noise sd 0.0141" in text


def test_a_failed_winner_is_said_to_have_failed() -> None:
    run, log = measured(BASE, [3.2, None])
    text = confirmation_text(summarise(run, log)).plain  # type: ignore[arg-type]
    assert text.startswith("not confirmed: re-measured 3.2000 on 1 fresh seed; failed on 1 fresh")


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("objective", [GPT_RUN.objective, ACCURACY])
def test_tables_fit_and_hold_every_trial(width: int, objective: object) -> None:
    run, log = gpt_log(objective=objective)
    summary = summarise(run, log)
    text = shown(trials_table(run, log), width)
    for what in (text, shown(summary_panel(summary), width), shown(runs_table([(run, summary)]))):
        assert max(map(len, what.splitlines())) <= max(width, 80)
    rows = [line.split()[0] for line in text.splitlines() if line[:4].strip().isdigit()]
    assert rows == [str(t.id) for t in log if isinstance(t, Trial)]
    assert "the last 3 of" in shown(trials_table(run, log, last=3), width)
    assert "gpt-1" in shown(trials_table(run, [], last=3)) + shown(runs_table([(run, summary)]))


def test_untrusted_text_is_no_markup() -> None:
    sly = trial(1, None, hypothesis="[bold]loud[/bold] \x1b[31m [/oops]")
    sly = replace(sly, error="Traceback\n[red]died[/red]")
    records = [trial(0, -3.4, kept=True, role="baseline"), proposal(sly), sly]
    text = shown(trials_table(GPT_RUN, records), 200)
    assert "[bold]loud[/bold] [31m [/oops]" in text
    assert "[red]died[/red]" in text
    assert "\x1b" not in text


def test_tokens_that_no_server_told_are_no_zero() -> None:
    usage = summarise(*gpt_log()).usage
    assert f"{usage.tokens_out:,} written in" in llm_text(usage).plain
    untold = replace(usage, tokens_in=0, tokens_cached=0, tokens_out=0)
    assert "it did not tell its tokens; in" in llm_text(untold).plain
