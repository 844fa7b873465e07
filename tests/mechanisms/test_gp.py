"""The Gaussian process evaluates what promises most, its own or the LLM's."""

import math

from searching import search, trial, trials, view

from bilevel.mechanisms.gp import GaussianProcess
from bilevel.model import Draft, Move
from worlds import SPACE


def valley(rate: float) -> float:
    return -abs(math.log(rate / 0.03))


PAST = [trial(i, valley(r), RATE=r) for i, r in enumerate((0.1, 0.5, 0.002, 0.01, 0.08, 0.04, 0.9))]


def draft(number: int, rate: float) -> Draft:
    return Draft(number, 7, Move((0,)), {**SPACE.defaults(), "RATE": rate})


def test_ranks_the_drafts_of_the_llm_by_what_they_promise() -> None:
    drafts = [draft(0, 0.7), draft(1, 0.028), draft(2, 0.0015)]
    assert [d.id for d in GaussianProcess().screen(view(*PAST), drafts)] == [1]
    two = GaussianProcess().screen(view(*PAST, slots=2), drafts)
    assert two[0].id == 1


def test_leaves_a_plan_of_several_moves_to_the_llm() -> None:
    moves = [Move((0,)), Move((0,), note="another")]
    assert GaussianProcess().plan(view(*PAST), moves) == moves
    (alone,) = GaussianProcess().plan(view(*PAST), moves[:1])
    assert alone.values is not None


def test_finds_the_optimum_of_a_smooth_task() -> None:
    found = trials(search(GaussianProcess(), world="odd", evals=15))
    assert max(t.score for t in found) > -0.02
