"""Uniform, on the log scale where there is one, and never twice the same."""

import statistics

from searching import GRID, proposals, search, trials

from bilevel.mechanisms.random_search import RandomSearch


def test_draws_are_uniform_in_units() -> None:
    log = search(RandomSearch(), evals=300)
    rates = [float(t.values["RATE"]) for t in trials(log)]
    assert abs(statistics.median(rates) - 0.0316) < 0.01  # the middle of 0.001 to 1, log scale
    kinds = [t.values["PATTERN"] for t in trials(log)]
    assert all(80 < kinds.count(k) < 120 for k in ("SSSL", "SL", "L"))


def test_tries_every_configuration_of_a_small_space_once() -> None:
    log = search(RandomSearch(), world="grid")
    assert len({GRID.key(t.values) for t in trials(log)}) == 11


def test_a_space_that_is_used_up_is_left_to_the_moves_below() -> None:
    log = search(RandomSearch(), world="grid", evals=12)
    assert len(trials(log)) == 11
    assert [m.values for m in proposals(log)[-1].moves] == [None]
