"""Simulated annealing: hot at first, cold at the end, by the noise or by the losses."""

import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest
from trying import go

from bilevel.mechanism import View
from bilevel.mechanisms.annealing import Annealing
from bilevel.model import Outcome, Trial, Values
from worlds import SPACE

BASE = Trial(0, None, SPACE.defaults(), "ok", 1.0, {}, 1.0, seed=1, kept=True, role="baseline")


def accepted(lost: float, done: int, noise: float | None) -> float:
    """Share of trials kept that lose so much, after `done` of 100 evaluations."""
    past = [replace(BASE, id=i, score=1.0 - 0.1 * (i > 0)) for i in range(done + 1)]
    view = View(SPACE, tuple(past), BASE, BASE, done, left=100 - done, noise=noise)
    trial = replace(BASE, id=200, score=1.0 - lost)
    views = [replace(view, rng=random.Random(i)) for i in range(1000)]
    return sum(Annealing().accept(v, trial, False) for v in views) / len(views)


def test_a_loss_as_large_as_the_noise_is_kept_by_metropolis_rule_at_first() -> None:
    assert accepted(0.01, done=0, noise=0.01) == pytest.approx(math.exp(-1), abs=0.05)


def test_and_never_at_the_end() -> None:
    assert accepted(0.01, done=99, noise=0.01) == 0


@pytest.mark.parametrize("noise", [None, 0.0])
def test_without_noise_the_median_loss_is_the_measure(noise: float | None) -> None:
    assert accepted(0.1, done=1, noise=noise) == pytest.approx(math.exp(-1.03), abs=0.05)
    assert accepted(0.1, done=99, noise=noise) == 0


def test_a_tie_is_kept_and_a_failure_never() -> None:
    assert accepted(0.0, done=50, noise=0.01) == 1
    assert accepted(0.0, done=0, noise=None) == 1
    failed = go(Annealing(), measure=fails_but_by_default)
    assert not any(t.kept for t in failed.trials)


def fails_but_by_default(values: Values, seed: int) -> Outcome:
    if values == SPACE.defaults():
        return Outcome("ok", 1.0, {"loss": 1.0})
    return Outcome("crash", None, error="no")


def test_walks_through_worse_configurations_of_a_run() -> None:
    run = go(Annealing(), measure=flat, evals=40)
    scores = [t.score for t in run.trials if t.kept and t.score is not None]
    assert any(later < earlier for earlier, later in pairwise(scores))


def flat(values: Values, seed: int) -> Outcome:
    """A landscape whose steps are about as large as its noise."""
    place = float(values["RATE"])
    value = (place - 1 / 3) ** 2 / 100 + seed % 7 / 1000
    return Outcome("ok", value, {"loss": value})
