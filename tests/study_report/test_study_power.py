"""Repeats that would settle a question, against a search one by one and other programs."""

from __future__ import annotations

import pytest

pytest.importorskip("scipy", reason="the statistics of a study need scipy")

import numpy as np
from reported import around, found
from scipy import stats

from bilevel.study.power import Aim, power


def scanned(effect: float, tests: int) -> int:
    """The same by trying one n after another, by the share of a t that lies beyond the critical."""
    level = 0.05 / tests
    n = np.arange(10, 1001)
    beyond = stats.nct.sf(stats.t.ppf(1 - level / 2, n - 1), n - 1, effect * np.sqrt(n))
    return int(n[np.argmax(beyond >= 0.8)])


@pytest.mark.parametrize(("effect", "repeats"), [(0.8, 15), (0.5, 34), (0.3, 90), (0.2, 199)])
def test_power_gives_the_repeats_of_gpower(effect: float, repeats: int) -> None:
    """G*Power 3.1, matched pairs, two tails, alpha 0.05, power 0.8."""
    got = power([Aim(found(around(effect, 10)))])
    assert got is not None
    assert got.repeats == repeats
    assert got.cautious is not None
    assert got.cautious > repeats


@pytest.mark.parametrize("tests", [1, 9, 14])
def test_the_repeats_are_those_of_a_search_one_by_one(tests: int) -> None:
    known = {(14, 0.74): 31, (14, 1.1): 16, (1, 0.76): 16}
    for effect in (*np.arange(0.2, 3, 0.11).round(2), 0.74, 0.76, 1.1):
        got = power([Aim(found(around(effect, 10)))], 0.05 / tests)
        assert got is not None
        assert got.repeats == known.get((tests, effect), scanned(effect, tests)), effect


def test_the_power_of_a_search_is_that_of_samples() -> None:
    """By 200,000 samples of 16, at the level of 14 tests."""
    samples = np.random.default_rng(0).normal(1.1, 1, (200_000, 16))
    p = stats.ttest_1samp(samples, 0, axis=1).pvalue
    assert np.mean(p < 0.05 / 14) == pytest.approx(0.82, abs=0.02)
    assert scanned(1.1, 14) == 16


def test_what_n_repeats_can_find_needs_n_repeats() -> None:
    detectable = power([Aim(found(around(0.1, 20)))])
    assert detectable is not None
    again = power([Aim(found(around(detectable.detectable, 20)))])
    assert again is not None
    assert again.repeats == 20


def test_a_large_effect_still_needs_enough_repeats_and_a_p_small_enough() -> None:
    large = found(around(9.0, 5))
    for questions, enough, least in ((1, 10, 10), (1, 2, 6), (100, 2, 12)):
        got = power([Aim(large)], 0.05 / questions, enough)
        assert got is not None
        assert got.repeats == least
        assert 2.0 ** (1 - least) <= 0.05 / questions < 2.0 ** (2 - least) or least == enough


def test_power_says_when_it_cannot_say() -> None:
    nothing = power([Aim(found(around(0.0, 10)))])
    assert nothing is not None
    assert nothing.repeats is None
    assert power([Aim(found([1.0]))]) is None
    assert power([Aim(found([1.0, 1.0]))]) is None


def test_differences_that_hardly_differ_need_no_more_than_enough() -> None:
    got = power([Aim(found([1.0 + 1e-11 * i for i in range(10)]))])
    assert got is not None
    assert (got.repeats, got.cautious) == (10, 10)
