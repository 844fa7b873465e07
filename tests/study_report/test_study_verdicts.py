"""Hypotheses, answered by the rules of the study's file and by nothing else."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

import pytest

pytest.importorskip("scipy", reason="the statistics of a study need scipy")

import numpy as np
from reported import run, study
from scipy import stats

from bilevel.study.data import Hypothesis, StudyData
from bilevel.study.report_words import verdict_sentence
from bilevel.study.statistics import holm
from bilevel.study.verdicts import answers

H = Hypothesis("H1", "C beats A", "C", ("A",), ("toy",))


def data(gaps: Sequence[float], *rules: Hypothesis, control: str = "A") -> StudyData:
    """C is better than A by these gaps, repeat by repeat; A gains 0.1 on its baseline."""
    runs = [run(control, i, 1.0, [0.9]) for i in range(len(gaps))]
    runs += [run("C", i, 1.0, [0.9 - gap]) for i, gap in enumerate(gaps)]
    return study(runs, evals=1, hypotheses=rules or (H,))


def wide(middle: float, n: int = 10) -> list[float]:
    return [middle + 0.01 * (i - (n - 1) / 2) for i in range(n)]


@pytest.mark.parametrize(
    ("rule", "gaps", "verdict", "why"),
    [
        (H, wide(0.1), "supported", "beyond the margin"),
        (H, wide(0.1, 3), "undecided", "3 of the 10 pairs"),
        (H, wide(0.1, 9), "undecided", "9 of the 10 pairs"),
        (H, wide(0.005), "undecided", "holds the margin"),
        (H, wide(-0.1), "not supported", "below the margin"),
        (H, wide(-0.1, 3), "undecided", "3 of the 10 pairs"),
        (replace(H, margin=0.2), wide(0.1), "not supported", "below the margin"),
        (replace(H, margin=0.05), wide(0.1), "supported", "beyond the margin"),
        (replace(H, worthwhile=0.05), wide(0.02), "not supported", "would matter"),
        (
            replace(H, ratio=5.0),
            wide(0.3),
            "not supported",
            "less 5 times the control's lies below",
        ),
        (replace(H, ratio=5.0), wide(0.41), "undecided", "less 5 times the control's holds 0"),
        (replace(H, ratio=5.0), wide(0.5), "supported", "beyond the margin, and that of"),
        (replace(H, alpha=0.0001), wide(0.1), "undecided", "p is not below"),
        (replace(H, least_repeats=3), wide(0.1, 3), "undecided", "p is not below"),
        (replace(H, least_repeats=1), [0.1], "undecided", "no interval"),
    ],
)
def test_the_rule_decides(rule: Hypothesis, gaps: list[float], verdict: str, why: str) -> None:
    (answer,) = answers(data(gaps, rule))
    assert answer.verdict == verdict
    assert why in answer.contests[0].why
    unknown = len(gaps) == 1 or rule.alpha < 2 / 1025  # which 1,024 resamples never give
    assert (answer.contests[0].power is None) == (verdict != "undecided" or unknown)


def repeats(rule: Hypothesis, gaps: Sequence[float]) -> int:
    (answer,) = answers(data(gaps, rule))
    power = answer.contests[0].power
    assert power is not None
    assert power.repeats is not None
    return power.repeats


def by_hand(effect: float, level: float, goal: float = 0.8) -> int:
    """Repeats of a paired t test, tried one after another."""
    n = np.arange(10, 10_000)
    beyond = stats.nct.sf(stats.t.ppf(1 - level / 2, n - 1), n - 1, effect * np.sqrt(n))
    return int(n[np.argmax(beyond >= goal)])


def test_the_repeats_that_would_settle_it_are_those_of_the_rule() -> None:
    gaps = wide(0.005)
    sd = statistics.stdev(gaps)
    assert repeats(H, gaps) == by_hand(0.005 / sd, 0.05)
    assert repeats(replace(H, alpha=0.01), gaps) == by_hand(0.005 / sd, 0.01)
    assert repeats(replace(H, alpha=0.9), gaps) == by_hand(0.005 / sd, 0.05)  # the interval's
    assert repeats(replace(H, margin=0.001), gaps) == by_hand(0.004 / sd, 0.05)
    assert repeats(replace(H, worthwhile=0.02), gaps) == by_hand(0.015 / sd, 0.05)


def test_a_ratio_that_is_open_alone_says_what_the_ratio_needs() -> None:
    """The difference is settled by ten pairs, the gain less five times the control's is not."""
    gaps = wide(0.41)
    sd = statistics.stdev(gaps)
    wanted = by_hand(0.01 / sd, 0.05 / 2, 0.9)  # both means with 0.9, together with 0.8
    assert repeats(replace(H, ratio=5.0), gaps) == wanted > 100
    assert repeats(replace(H, ratio=5.0), wide(0.39)) == by_hand(0.01 / sd, 0.05 / 2)


def test_repeats_are_not_said_to_settle_what_has_no_pairs() -> None:
    gone = replace(H, controls=("A", "gone"))
    (answer,) = answers(data(wide(0.005), gone))
    said = "would settle it is not known: 1 of its 2 open questions have no sd."
    assert said in verdict_sentence(answer)
    (answer,) = answers(data([0.1], H))
    assert verdict_sentence(answer).endswith("how many repeats would settle it is not known.")
    (answer,) = answers(data(wide(0.1), replace(H, alpha=0.0001)))
    assert "so few resamples may never give a p small enough" in verdict_sentence(answer)
    twice = study(
        [
            run(arm, i, 1.0, [0.9 - gap])
            for arm, middle in (("A", 0.0), ("B", 0.001), ("C", 0.005))
            for i, gap in enumerate(wide(middle) if arm == "C" else [middle] * 10)
        ],
        evals=1,
        hypotheses=(replace(H, controls=("A", "B")),),
    )
    (answer,) = answers(twice)
    assert "repeats would settle each of its 2 open questions." in verdict_sentence(answer)


def test_a_hypothesis_needs_every_control_and_one_refutes_it() -> None:
    runs = [run("A", i, 1.0, [0.9 + 0.001 * i]) for i in range(10)]
    runs += [run("C", i, 1.0, [0.7]) for i in range(10)]
    runs += [run("hand", i, 1.0, [0.5 + 0.001 * i]) for i in range(10)]
    both = replace(H, controls=("A", "hand"))
    (answer,) = answers(study(runs, evals=1, hypotheses=(both,)))
    assert [c.verdict for c in answer.contests] == ["supported", "not supported"]
    assert answer.verdict == "not supported"
    assert answer.contests[0].ratio == pytest.approx(0.3 / 0.0955)


LUCKY = [*(-0.1 - 0.005 * i for i in range(8)), 0.06, 0.08]  # p is 0.023 alone


def test_one_control_that_was_lucky_among_many_does_not_refute() -> None:
    many = tuple(f"control{k}" for k in range(6))
    runs = [run("C", i, 1.0, [0.5]) for i in range(10)]
    for k, control in enumerate(many):
        gaps = LUCKY if k == 3 else wide(0.005)
        runs += [run(control, i, 1.0, [0.5 + gap]) for i, gap in enumerate(gaps)]
    (answer,) = answers(study(runs, evals=1, hypotheses=(replace(H, controls=many),)))
    assert answer.verdict == "undecided"
    why = "the whole interval lies below the margin, but p is not below 0.05"
    assert answer.contests[3].why == why

    (alone,) = answers(study(runs, evals=1, hypotheses=(replace(H, controls=many[3:4]),)))
    assert alone.verdict == "not supported"


def test_what_would_matter_has_a_p_of_its_own() -> None:
    matters = replace(H, worthwhile=0.05)
    (answer,) = answers(data(wide(0.02), matters))
    (contest,) = answer.contests
    assert contest.p_below == 20 * 2**-10 < 0.05 < contest.p
    assert answer.verdict == "not supported"
    assert answers(data(wide(0.1), matters))[0].verdict == "supported"


def test_a_ratio_that_chance_may_have_made_is_not_supported() -> None:
    """C gains 4.7 times what A gains, by two lucky runs of ten."""
    runs = [run("A", i, 1.0, [0.9]) for i in range(10)]
    runs += [run("C", i, 1.0, [0.99 - 1.0 * (i < 2) - 0.26]) for i in range(10)]
    (answer,) = answers(study(runs, evals=1, hypotheses=(replace(H, ratio=4.0),)))
    (contest,) = answer.contests
    assert contest.ratio is not None
    assert contest.ratio > 4.5
    assert (answer.verdict, len(contest.trials)) == ("undecided", 2)
    assert "the interval of the gain less 4 times the control's holds 0" in contest.why


def test_where_the_control_gains_nothing_the_contrast_decides_and_is_said_to() -> None:
    runs = [run("A", i, 1.0, [1.1]) for i in range(10)]
    runs += [run("C", i, 1.0, [0.9 - 0.01 * i]) for i in range(10)]
    (answer,) = answers(study(runs, evals=1, hypotheses=(replace(H, ratio=5.0),)))
    (contest,) = answer.contests
    assert (answer.verdict, contest.ratio) == ("supported", None)
    assert "a ratio is not defined: the gain less 5 times the control's decides" in contest.why


def test_a_control_without_runs_leaves_it_undecided() -> None:
    (answer,) = answers(data(wide(0.1), replace(H, controls=("A", "sham"))))
    assert answer.verdict == "undecided"
    assert answer.contests[1].difference is None
    assert answer.contests[1].p == 1.0


def test_p_is_corrected_over_the_tests_of_all_hypotheses_done_or_not() -> None:
    rules = (H, replace(H, name="H2", controls=("A", "gone")), replace(H, name="H3", margin=0.09))
    found = answers(data(wide(0.1), *rules))
    contests = [c for a in found for c in a.contests]
    alone = [1.0 if c.difference is None else c.difference.p for c in contests]
    assert alone[0] == 2**-9
    assert [c.p for c in contests] == pytest.approx(holm(alone))
    assert contests[0].p == pytest.approx(4 * 2**-9)
