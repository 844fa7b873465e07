"""The bandit over step sizes: numbers move by one of five shares of their range."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from trying import MIXED, go

from bilevel.mechanism import View
from bilevel.mechanisms.multiscale import Multiscale
from bilevel.model import Draft, Move, Param, Space, Trial, Values

LINE = Space(
    (Param("X", "float", 0.5, low=0, high=1), Param("KIND", "choice", "a", choices=("a", "b")))
)
BASE = Trial(0, None, LINE.defaults(), "ok", 1.0, {}, 1.0, seed=1, kept=True, role="baseline")


def edited(scale: float, *past: Trial, **values: float | str) -> Values:
    draft = Draft(3, 3, Move(parents=(0,), tag=f"scale:{scale}"), {**BASE.values, **values})
    view = View(LINE, (BASE, *past), BASE, BASE, 3, left=9)
    return Multiscale().screen(view, [draft])[0].values


@pytest.mark.parametrize(("proposed", "expected"), [(0.51, 0.6), (0.99, 0.6), (0.2, 0.4)])
def test_the_llm_gives_the_direction_and_the_bandit_the_length(
    proposed: float, expected: float
) -> None:
    assert edited(0.1, X=proposed)["X"] == pytest.approx(expected)


def test_a_choice_and_an_unchanged_number_stay() -> None:
    assert edited(0.1, KIND="b") == {"X": 0.5, "KIND": "b"}


def test_an_edit_to_what_was_tried_is_not_made() -> None:
    past = Trial(
        1, None, {**BASE.values, "X": edited(0.1, X=0.9)["X"]}, "ok", 0.5, {}, 1.0, 1, False
    )
    assert edited(0.1, past, X=0.9)["X"] == 0.9


def test_draws_the_scale_that_gained() -> None:
    gained = Draft(0, 0, Move(tag="scale:0.05"), BASE.values)
    past = [Trial(i, gained, BASE.values, "ok", 1.0, {}, 1.0, 1, kept=True) for i in range(1, 6)]
    view = View(LINE, (BASE, *past), BASE, BASE, 6, left=9)
    tags: Counter[str] = Counter()
    for number in range(500):
        at = replace(view, rng=random.Random(number))
        tags[Multiscale().plan(at, [Move(parents=(0,))])[0].tag] += 1
    assert len(tags) == 5
    assert tags["scale:0.05"] > 250


def test_a_run_evaluates_the_edited_drafts() -> None:
    run = go(Multiscale(), space=MIXED, evals=30)
    edits = [d for d in run.drafts if d.edits]
    assert edits
    assert all(d.edits[0].why == f"a step of {d.move.tag[6:]} of the range" for d in edits)
