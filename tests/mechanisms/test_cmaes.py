"""CMA-ES settles where the scores are best, and learns from trials that are not its own."""

import math

import pytest
from searching import search, trial, trials, view

from bilevel.mechanisms.cmaes import CmaEs
from bilevel.model import Move
from worlds import SPACE


def test_draws_come_nearer_to_the_optimum() -> None:
    found = trials(search(CmaEs(), world="odd", evals=60))
    gaps = [abs(math.log(float(t.values["RATE"]) / 0.3)) for t in found]
    assert sum(gaps[-15:]) < sum(gaps[:15]) / 3


def test_is_told_all_trials_whoever_made_them() -> None:
    far = [trial(i, -i / 100, RATE=0.9 + i / 1000, BATCH=256) for i in range(1, 13)]
    some = view(trial(0, -1.0), *far)
    before = CmaEs().rebuild(view(trial(0, -1.0)), ["RATE", "BATCH"])
    after = CmaEs().rebuild(some, ["RATE", "BATCH"])
    assert before.mean == pytest.approx([2 / 3, 0.5])  # the baseline
    assert after.mean[0] > 0.9
    assert after.mean[1] < 0.2


def test_suggests_nothing_twice_and_nothing_outside() -> None:
    moves = CmaEs().plan(view(trial(0, -1.0), slots=8), [Move((0,))])
    assert len({SPACE.key(m.values) for m in moves}) == 8
    assert all(SPACE.check(m.values) == m.values for m in moves)
