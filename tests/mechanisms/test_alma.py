"""Good trials are sampled more, often visited ones less, and none twice in a batch."""

import math
from dataclasses import replace

import pytest
from searching import trial, view

from bilevel.mechanisms.alma import Alma
from bilevel.model import Draft, Move


def test_weights_are_those_of_the_paper() -> None:
    child = replace(trial(1, 1.0, RATE=0.2), draft=Draft(0, 0, Move((0,)), {}))
    weights = Alma()._weights(view(trial(0, -1.0), child))
    gain = 2.0  # standard deviations of the scores
    assert weights[1] == pytest.approx(math.exp((1 / (1 + math.exp(-gain))) / 0.5))
    assert weights[0] == pytest.approx(math.exp((0.5 - 0.5 * math.log(2)) / 0.5))


def test_a_batch_has_five_different_parents_or_all_there_are() -> None:
    past = [trial(i, -1 / (i + 1), RATE=(i + 1) / 20) for i in range(8)]
    batch = [m.parents for m in Alma().plan(view(*past), [])]
    assert len(set(batch)) == 5
    assert len(Alma().plan(view(*past[:2]), [])) == 2


def test_failed_trials_are_no_parents() -> None:
    some = view(trial(0, -1.0), trial(1, None, PATTERN="L"))
    assert [m.parents for m in Alma().plan(some, [])] == [(0,)]
