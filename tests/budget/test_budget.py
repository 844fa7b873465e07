"""No limit is ever crossed, however a run is killed and resumed; and what was denied replays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import zip_longest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilevel import engine
from bilevel.attribution import leave_one_out, redecide
from bilevel.budget.budget import Budget, bill, cost, in_force, limits_of, silent
from bilevel.budget.openings import more
from bilevel.budget.pacing import PacedEvaluator
from bilevel.budget.words import limits_text, parse
from bilevel.errors import ConfigError, OverBudget
from bilevel.evaluate import Evaluated, Request, run_all
from bilevel.gate.gate import Verdict
from bilevel.model import (
    Ask,
    Call,
    Denial,
    Message,
    OuterPlan,
    Prices,
    Proposal,
    Reply,
    Session,
    Steering,
    Stop,
    Trial,
)
from bilevel.stack import Layer
from outer_worlds import of, sha_of
from spending_worlds import PRICES, RUN, Spender, again, go_on, hurried, three
from worlds import Instant, Log

LIMITS = ("tokens", "usd", "calls", "1:tokens", "1.5:tokens", "2:tokens", "2:usd", "2:calls")


class EasyGate:
    """Admits what parses; needs neither a sandbox nor a clock."""

    def __init__(self, *_: object) -> None:
        pass

    def judge(self, text: str) -> Verdict:
        rule = "parse" if "[\n" in text or text.rstrip().endswith("[") else ""
        return Verdict(rule, "mend it", text, sha_of(text), "EverySecond", {})  # type: ignore[arg-type]


@pytest.fixture(autouse=True, scope="module")
def _easy() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "Gate", EasyGate)
        yield


def by_level(log: Log, level: str) -> tuple[int, int, float]:
    """Calls, tokens and US dollars of a level's replies."""
    bills = [
        bill(c, {"scripted": PRICES}, "scripted") for c in of(log, Call) if level in ("", c.level)
    ]
    tokens = sum(b.tokens_in + b.tokens_out for b in bills)
    return len(bills), tokens, sum(b.usd or 0.0 for b in bills)


def check(limits: dict[str, float], log: Log, llm: Spender) -> None:
    for limit, most in limits.items():
        level, _, kind = limit.rpartition(":")
        calls, tokens, usd = by_level(log, level)
        if not level:
            calls, tokens, usd = len(llm.asked), llm.tokens, llm.usd
        used = {"calls": calls, "tokens": tokens, "usd": usd, "evals": 0, "wall": 0}[kind]
        assert used <= most + 1e-12, (limit, most, used)


@st.composite
def plans(draw: st.DrawFn) -> tuple[dict[str, float], int, float, list[int], list[int]]:
    """Limits, the LLM's seed and greed, the records and the calls at which the run dies."""
    limits = {}
    for name in draw(st.lists(st.sampled_from(LIMITS), min_size=1, max_size=3, unique=True)):
        kind = name.rpartition(":")[2]
        most = {"tokens": 60_000, "usd": 0.2, "calls": 40}[kind]
        amount = draw(st.floats(0, most)) if kind == "usd" else draw(st.integers(0, most))
        limits[name] = float(amount)
    deaths = draw(st.lists(st.integers(1, 60), max_size=3))
    calls = draw(st.lists(st.integers(1, 40), max_size=2))
    return limits, draw(st.integers(0, 999)), draw(st.sampled_from((0.1, 0.6, 1.0))), deaths, calls


@settings(max_examples=30)
@given(plan=plans(), layers=st.sampled_from((tuple, three)))
def test_no_call_ever_crosses_a_limit_and_the_run_replays(
    plan: tuple[dict[str, float], int, float, list[int], list[int]],
    layers: Callable[[], list[Layer]],
) -> None:
    limits, draw, greed, deaths, calls = plan
    run = replace(RUN, limits=limits)
    log, llm = Log(), Spender(draw=draw, greed=greed)
    for records, call in [*zip_longest(deaths, calls), (None, None)]:
        log.dies_at = None if records is None else len(log) + records
        llm.dies_at = 0 if call is None else len(llm.asked) + call
        go_on(run, log, llm, layers=layers)
        check(limits, log, llm)
    stop = of(log, Stop)[-1]
    assert stop.reason in ("done", "budget", "refused")
    if stop.reason == "budget":
        assert stop.detail.partition("=")[0] in limits
    assert again(run, log, layers).difference is None


def test_what_a_step_paid_for_is_evaluated_before_the_run_stops() -> None:
    kept = 0
    for calls in range(3, 9):
        run = replace(RUN, limits={"calls": float(calls)}, outer=OuterPlan())
        log = Log()
        go_on(run, log, Spender(greed=0.5), layers=three)
        assert of(log, Stop)[-1].reason == "budget"
        last = of(log, Proposal)[-1]
        if any(f"it was not asked for: calls={calls}" in r.reason for r in last.refusals):
            assert last.queue, "the replies before it are used"
            kept += 1
        assert again(run, log, three).difference is None
    assert kept


def whole(**limits: float) -> tuple[Log, Spender]:
    log, llm = Log(), Spender(greed=0.5)
    go_on(replace(RUN, limits=limits), log, llm)
    return log, llm


def test_without_limits_nothing_is_noted_before_a_call() -> None:
    log, llm = whole()
    assert of(log, Stop)[-1].reason == "done"
    assert not of(log, Ask)
    assert not of(log, Denial)
    assert len(of(log, Call)) == len(llm.asked)


def test_a_limit_of_the_run_stops_it_and_a_larger_one_goes_on_to_the_same_decisions() -> None:
    free, _ = whole()
    spent = by_level(free, "")[1]
    run = replace(RUN, limits={"tokens": spent // 2 + 0.0})
    log, llm = Log(), Spender(greed=0.5)
    go_on(run, log, llm)
    stop = of(log, Stop)[-1]
    assert stop.reason == "budget"
    assert stop.detail.startswith(f"tokens={spent // 2}")
    assert "the next call takes up to" in stop.detail
    assert more(run, log, stop) == f"tokens={2 * (spent // 2)}", "more than the next call needs"
    before = len(of(log, Trial))
    go_on(run, log, llm)
    assert len(of(log, Trial)) == before, "the same limit stops it at once"
    go_on(run, log, llm, {"tokens": 10.0 * spent})
    assert of(log, Stop)[-1].reason == "done"
    assert len(of(log, Trial)) > before
    assert limits_of(in_force(run, log))["tokens"] == 10 * spent
    assert again(run, log).difference is None


@pytest.mark.parametrize("limits", [{"usd": 1e-5}, {"tokens": 7.0}, {"calls": 0.0}])
def test_the_limit_to_go_on_with_is_enough_for_the_next_call(limits: dict[str, float]) -> None:
    run, log, llm = replace(RUN, limits=limits), Log(), Spender(greed=0.5)
    go_on(run, log, llm)
    assert not llm.asked
    (denial,), (limit,) = of(log, Denial), limits
    hint = parse(more(run, log, of(log, Stop)[-1]))
    assert denial.needs is not None
    assert 2 * limits[limit] < denial.needs <= hint[limit] <= 1.1 * denial.needs
    go_on(run, log, llm, hint)
    assert llm.asked
    assert again(run, log).difference is None


def test_the_wall_time_to_go_on_with_has_room_for_a_step() -> None:
    log, _ = whole()
    slow = [replace(r, seconds=200.0) if isinstance(r, Trial) else r for r in log]
    stop = Stop(9, "wall", "wall=10 s: 260 s have passed")
    hint = parse(more(replace(RUN, wall=10.0), slow, stop, gone=260.0))
    assert 460 < hint["wall"] <= 1.1 * 480
    budget = Budget(replace(RUN, wall=hint["wall"]), slow, clock=lambda: 260.0)
    assert not budget.expired()
    assert parse(more(replace(RUN, wall=5e4), slow, stop, gone=260.0)) == {"wall": 1e5}


def test_a_level_at_its_limit_falls_silent_once_and_the_inner_loop_goes_on() -> None:
    log, _ = whole(**{"2:calls": 5.0})
    assert of(log, Stop)[-1].reason == "done"
    assert len([c for c in of(log, Call) if c.level == "2"]) == 5
    (denial,) = of(log, Denial)
    assert (denial.level, denial.limit, denial.amount) == ("2", "2:calls", 5.0)
    assert "2:calls=5" in denial.why
    assert len(of(log, Steering)) >= 3, "Level 1.5 speaks as before"
    run = replace(RUN, limits={"2:calls": 5.0})
    assert silent(run, log, "2")
    assert not silent(run, log, "1.5")
    assert again(run, log).difference is None


def test_what_a_session_was_told_before_its_limit_is_kept() -> None:
    log, _ = whole(**{"2:calls": 2.0})
    (session,) = of(log, Session)
    assert list(session.notes) == ["explore", "critique"]
    assert session.attempts == ()


def test_a_level_that_may_not_begin_leaves_no_session() -> None:
    log, _ = whole(**{"2:calls": 0.0, "1.5:calls": 0.0})
    assert not of(log, Session)
    assert not of(log, Steering)
    assert {d.level for d in of(log, Denial)} == {"1.5", "2"}
    assert len(of(log, Denial)) == 2
    assert of(log, Stop)[-1].reason == "done"


def test_a_silent_level_speaks_again_with_a_larger_limit_and_both_parts_replay() -> None:
    run = replace(RUN, evals=4, limits={"1.5:calls": 0.0, "2:calls": 0.0})
    log, llm = Log(), Spender(greed=0.5)
    go_on(run, log, llm)
    assert not of(log, Steering)
    go_on(run, log, llm, {"1.5:calls": 50.0, "2:calls": 50.0, "evals": 8.0})
    assert of(log, Steering)
    assert of(log, Session)
    assert sum(t.role == "search" for t in of(log, Trial)) == 8
    assert again(run, log).difference is None


def test_more_evaluations_go_on_where_the_run_was_done() -> None:
    run = replace(RUN, evals=4)
    log, llm = Log(), Spender(greed=0.5)
    go_on(run, log, llm)
    assert of(log, Stop)[-1].reason == "done"
    go_on(run, log, llm, {"evals": 6.0})
    assert sum(t.role == "search" for t in of(log, Trial)) == 6
    assert again(run, log).difference is None


def test_a_call_that_was_killed_counts_at_its_most_for_ever() -> None:
    run = replace(RUN, limits={"tokens": 1e6})
    log, llm = Log(), Spender(greed=0.5, dies_at=3)
    go_on(run, log, llm)
    (lost,) = [a for a in of(log, Ask) if a.key not in {c.key for c in of(log, Call)}]
    before = by_level(log, "")[1]
    assert Budget(run, log).spent().tokens == before + lost.tokens
    llm.dies_at = 0
    go_on(run, log, llm)
    assert Budget(run, log).spent().tokens == by_level(log, "")[1] + lost.tokens
    assert Budget(run, log).spent().calls == len(llm.asked)


def test_tokens_that_a_server_does_not_tell_are_counted_by_the_text() -> None:
    log, llm = Log(), Spender(greed=0.5, counted=False)
    go_on(replace(RUN, limits={"tokens": 20_000.0}), log, llm)
    bills = [bill(c, {"scripted": PRICES}, "scripted") for c in of(log, Call)]
    assert bills
    assert not any(b.counted for b in bills)
    assert all(b.tokens_in > 0 for b in bills)
    assert sum(b.tokens_in + b.tokens_out for b in bills) <= 20_000


class Slow(Instant):
    """Evaluations that take 1.5 s each of a clock of their own."""

    def __init__(self, slots: int = 1) -> None:
        super().__init__(slots)
        self.now = 0.0

    def finished(self) -> list[Evaluated]:
        self.now += 1.5
        return super().finished()


def test_the_wall_stops_the_run_before_a_step_that_would_not_fit() -> None:
    log, llm, slow = Log(), Spender(greed=0.5), Slow()
    run = replace(RUN, wall=10.0)
    go_on(run, log, llm, clock=lambda: slow.now, evaluator=slow)
    stop = of(log, Stop)[-1]
    assert stop.reason == "wall"
    assert stop.detail == "wall=10s: 9s have passed, and what comes next has taken up to 2s"
    assert len(of(log, Trial)) == 6
    assert again(run, log).difference is None
    slow.now = 9.0
    go_on(run, log, llm, {"wall": 3600.0}, clock=lambda: slow.now, evaluator=slow)
    assert of(log, Stop)[-1].reason == "done"
    assert again(run, log).difference is None


def test_evaluations_under_way_are_waited_for_when_the_next_would_not_fit() -> None:
    inner = Instant(2)
    paced = PacedEvaluator(inner, lambda: "no time" if len(inner.started) == 3 else "")
    requests = [Request(dict(RUN.space.defaults()), seed, "baseline") for seed in range(4)]
    trials = []
    with pytest.raises(OverBudget, match="no time") as caught:  # noqa: PT012
        for trial in run_all(paced, RUN.objective, requests, 0, lambda key, _: None):
            trials.append(trial)
    assert caught.value.limit == "wall"
    assert [t.id for t in trials] == [0, 1, 2]


def test_longer_prompts_cost_what_their_rate_says() -> None:
    assert cost(PRICES, 1000, 100) == pytest.approx((1000 * 2 + 100 * 8) / 1e6)
    assert cost(PRICES, 1000, 100, 600) == pytest.approx((400 * 2 + 600 * 0.5 + 100 * 8) / 1e6)
    assert cost(PRICES, 5000, 100) == pytest.approx((5000 * 4 + 100 * 16) / 1e6)
    assert cost(Prices("m", "local"), 5000, 100) == 0
    assert cost(Prices("m", "unknown"), 5000, 100) is None
    assert cost(None, 5000, 100) is None


def test_a_model_that_overshoots_is_expected_to_do_so_again() -> None:
    talk = (Message("user", "x" * 1000),)
    greedy = Reply("y", "m", 900, 450)
    run = replace(RUN, limits={"tokens": 20_000.0})
    budget = Budget(run)
    first = budget.ask("a", 0, "1", "propose", talk, "", 300)
    assert isinstance(first, Ask)
    budget.add(Call("a", 0, "1", "propose", talk, "", 0, 300, greedy))
    second = budget.ask("b", 0, "1", "propose", talk, "", 300)
    assert isinstance(second, Ask)
    assert first.tokens < 1350 <= second.tokens
    thinking = budget.ask("c", 0, "1", "propose", talk, "", 300, room=8000)
    assert isinstance(thinking, Ask)
    assert thinking.tokens >= second.tokens - 150 + 8000


def test_limits_are_read_and_written() -> None:
    text = "usd=5,tokens=2M,wall=8h30m,evals=100,2:tokens=200k,1.5:usd=0.5,calls=7"
    limits = parse(text)
    assert limits == {
        "usd": 5, "tokens": 2e6, "wall": 30600, "evals": 100, "2:tokens": 2e5, "1.5:usd": 0.5,
        "calls": 7,
    }  # fmt: skip
    assert limits_text(limits) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("5", "LIMIT=AMOUNT"),
        ("eur=5", "limits 'eur'"),
        ("usd=five", "must be a number"),
        ("tokens=0.5", "whole number"),
        ("usd=-1", "must be a number"),
        ("wall=8", "must be a time"),
        ("3:usd=1", "levels are 1, 1.5, 2"),
        ("2:evals=1", "of the whole run"),
        ("usd=1,usd=2", "twice"),
    ],
)
def test_a_wrong_limit_is_refused_with_the_rule(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match="--budget") as caught:
        parse(text)
    assert words in str(caught.value)


def test_credit_goes_by_the_evaluations_that_were_left_at_the_time() -> None:
    run = replace(RUN, evals=4, outer=OuterPlan())
    log, llm = Log(), Spender(greed=0.5)
    go_on(run, log, llm, layers=hurried)
    go_on(run, log, llm, {"evals": 8.0}, layers=hurried)
    assert again(run, log, hurried).difference is None
    assert all(redecide(run, log, hurried()))
    (credit,) = leave_one_out(run, log, hurried)
    assert 0 < credit.different < credit.decisions
