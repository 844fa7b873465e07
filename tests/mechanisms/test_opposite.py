"""The other side of what failed, once, and only of what failed."""

from dataclasses import replace

import pytest
from trying import go

from bilevel.mechanism import View
from bilevel.mechanisms.opposite import Opposite
from bilevel.model import Draft, Move, Outcome, Param, Space, Trial, Values

LINE = Space(
    (
        Param("X", "float", 0.5, low=0.0, high=1.0),
        Param("RATE", "float", 0.1, low=0.01, high=1.0, log=True),
        Param("KIND", "choice", "b", choices=("a", "b", "c")),
    )
)
BASE = Trial(0, None, LINE.defaults(), "ok", 1.0, {}, 1.0, seed=1, kept=True, role="baseline")
PLAIN = [Move(parents=(0,))]


def tried(**changes: float | str) -> Trial:
    """A discarded step from the baseline."""
    values = {**BASE.values, **changes}
    draft = Draft(0, 0, Move(parents=(0,)), values)
    return Trial(2, draft, values, "ok", 0.5, {}, 1.0, seed=1, kept=False)


def planned(*past: Trial, incumbent: Trial = BASE) -> list[Move]:
    return Opposite().plan(View(LINE, (BASE, *past), incumbent, incumbent, 1, left=9), PLAIN)


@pytest.mark.parametrize(
    ("name", "value", "other"), [("X", 0.7, 0.3), ("X", 0.05, 0.95), ("RATE", 0.2, 0.05)]
)
def test_turns_round_on_the_parameters_own_scale(name: str, value: float, other: float) -> None:
    (move,) = planned(tried(**{name: value}))
    assert move.values is not None
    assert move.values == {**BASE.values, name: pytest.approx(other)}


def test_turns_both_numbers_and_leaves_the_choice() -> None:
    (move,) = planned(tried(X=0.7, RATE=0.2, KIND="c"))
    assert move.values == {"X": pytest.approx(0.3), "RATE": pytest.approx(0.05), "KIND": "b"}


def test_leaves_alone_what_has_no_other_side() -> None:
    assert planned(tried(KIND="c")) == PLAIN
    kept = Trial(2, tried(X=0.7).draft, {**BASE.values, "X": 0.7}, "ok", 2.0, {}, 1.0, 1, kept=True)
    assert planned(kept, incumbent=kept) == PLAIN


def test_a_failure_from_before_the_incumbent_stays_as_it_is() -> None:
    kept = replace(tried(RATE=0.2), id=3, score=2.0, kept=True)
    view = View(LINE, (BASE, tried(X=0.7), kept), kept, kept, 1, slots=2, left=9)
    assert Opposite().plan(view, PLAIN) == PLAIN


def test_its_own_failures_are_not_turned_back() -> None:
    trial = tried(X=0.9)
    assert trial.draft is not None
    own = replace(trial.draft, move=Move((0,), trial.values, tag="opposite"))
    assert planned(replace(trial, draft=own)) == PLAIN


def test_a_run_turns_each_failed_step_round_once() -> None:
    def valley(values: Values, seed: int) -> Outcome:
        loss = abs(float(values["X"]) - 0.6) + abs(float(values["RATE"]) - 0.2)
        return Outcome("ok", loss, {"loss": loss})

    run = go(Opposite(), space=LINE, measure=valley, evals=30)
    pairs = zip(run.trials, run.trials[1:], strict=False)
    turns = [(a, b) for a, b in pairs if b.draft and b.draft.move.tag == "opposite"]
    assert len(turns) > 5
    assert not any(failed.kept for failed, _ in turns)
