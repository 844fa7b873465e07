"""A verdict of the gate that the clock gave is a fact of its run, wherever it replays."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from bilevel import engine
from bilevel.gate.gate import Gate
from bilevel.model import Attempt, Session
from bilevel.resuming import Verdicts
from outer_worlds import KEEPS, WHOLE, Script, notes, of, planned, recorded, replayed

SLOW = "screen, with a toy: 95 % of its calls must take under 0.5 s; look at fewer candidates"
HUNG = "plan, at step 3 of the record: it gave no answer in 2 s"
DEAD = "plan, at step 3 of the record: the worker ended"
WRONG = "plan, at step 3 of the record: ZeroDivisionError: division by zero"


def attempt(rule: str = "", words: str = "", sha: str = "a") -> Attempt:
    return Attempt("fill", "w", "s", sha, "Mine", rule, words, {"influence": 0.5})


def verdicts(*attempts: Attempt, step: int = 4) -> Verdicts:
    return Verdicts([Session(step, 2, {}, attempts)])


@pytest.mark.parametrize("words", [SLOW, HUNG, DEAD])
def test_a_source_that_was_too_slow_then_is_refused_again_and_one_that_is_now_is_not(
    words: str,
) -> None:
    then = attempt("conformance", words)
    assert verdicts(then).next(4, "a", "", "") == then
    assert verdicts(attempt()).next(4, "a", "conformance", words) == attempt()
    mistaken = attempt("conformance", WRONG)
    assert verdicts(mistaken).next(4, "a", "conformance", words) == mistaken


def test_any_other_verdict_that_differs_is_a_difference() -> None:
    assert verdicts(attempt("conformance", WRONG)).next(4, "a", "", "") is None
    assert verdicts(attempt()).next(4, "a", "influence", "it changes nothing") is None


def test_an_equal_verdict_stays_and_each_stands_for_its_turn() -> None:
    slow = attempt("conformance", SLOW)
    found = verdicts(attempt(), slow, replace(slow, sha="b"))
    assert found.next(4, "a", "", "") is None
    assert found.next(4, "b", "", "") == replace(slow, sha="b")
    assert found.next(4, "a", "", "") == slow
    assert found.next(4, "a", "conformance", SLOW) is None


def test_a_session_that_is_not_recorded_has_its_own_verdicts() -> None:
    assert verdicts(attempt("conformance", SLOW)).next(9, "a", "", "") is None


@pytest.mark.parametrize("slow", ["recorded", "replayed"])
def test_a_run_replays_on_a_machine_that_is_slower_or_faster(
    monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    asked: list[object] = []

    def slow_once(make: object) -> list[str]:
        asked.append(make)
        return [SLOW] if len(asked) == 1 else []

    slower = partial(Gate, check=slow_once)
    monkeypatch.setattr(engine, "Gate", slower if slow == "recorded" else WHOLE)
    run = planned(evals=5, research="on")
    log = recorded(Script(sources=((KEEPS, notes("one")),)), run=run)
    (session, *_) = of(log, Session)
    assert (session.attempts[0].rule == "conformance") is (slow == "recorded")
    monkeypatch.setattr(engine, "Gate", slower if slow == "replayed" else WHOLE)
    result = replayed(log, run)
    assert result.difference is None, result.difference
    assert result.lapses == 1, "a record that stands in for a verdict is counted"
    assert asked
