"""Statistics of a study against values by hand, by brute force, and from other programs."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

pytest.importorskip("scipy", reason="the statistics of a study need scipy")

from reported import around, found

from bilevel.study.statistics import Resampling, chance, difference, holm, spread

FEW = Resampling(300)
values = some.lists(some.integers(-50, 50).map(float), min_size=2, max_size=7)
p_values = some.lists(some.floats(0, 1), min_size=1, max_size=8)


def flips(differences: list[float]) -> float:
    """Two-sided p by all sign flips, twice the smaller tail."""
    n, seen = len(differences), sum(differences)
    sums = [
        sum(s * d for s, d in zip(signs, differences, strict=True))
        for signs in itertools.product((1, -1), repeat=n)
    ]
    above = sum(s >= seen - 1e-9 for s in sums) / 2**n
    below = sum(s <= seen + 1e-9 for s in sums) / 2**n
    return min(1.0, 2 * min(above, below))


def test_a_spread_by_hand() -> None:
    got = spread([4.0, 1.0, 3.0, 2.0])
    assert got is not None
    assert got.student is not None
    assert (got.n, got.mean, got.median) == (4, 2.5, 2.5)
    assert got.iqm == 2.5  # of 2 and 3
    assert got.sd == pytest.approx(1.2909944)
    # t of 3 degrees of freedom at 0.975: 3.182446; 3.182446 * 1.2909944 / 2 = 2.0542609
    assert got.student.low == pytest.approx(0.4457391, abs=1e-6)
    assert got.student.high == pytest.approx(4.5542609, abs=1e-6)


def test_the_interquartile_mean_leaves_a_quarter_out_on_each_side() -> None:
    got = spread([-1000.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1000.0])
    assert got is not None
    assert got.iqm == 3.5
    three = spread([0.0, 0.0, 9.0])
    assert three is not None
    assert three.iqm == three.mean == 3.0


def test_one_value_has_no_interval_and_none_has_no_spread() -> None:
    one = spread([0.3])
    assert one is not None
    assert (one.sd, one.bootstrap, one.student) == (None, None, None)
    assert spread([]) is None
    assert difference([]) is None
    assert chance({}, {0: 1.0}) is None


def test_equal_values_have_an_interval_without_width() -> None:
    got = spread([0.1, 0.1, 0.1])
    assert got is not None
    assert got.bootstrap is not None
    assert (got.bootstrap.low, got.bootstrap.high, got.sd) == (0.1, 0.1, 0.0)


def test_two_values_have_no_bootstrap_interval() -> None:
    """All 2**2 resamples have means 0, 0.5, 0.5 and 1: its ends would be the values."""
    got = spread([0.0, 1.0])
    assert got is not None
    assert got.bootstrap is None
    assert got.student is not None
    both = chance({0: 0.0, 1: 1.0}, {0: 0.5, 1: 0.5})
    assert both is not None
    assert (both.value, both.bootstrap) == (0.5, None)


@settings(max_examples=25)
@given(values.filter(lambda numbers: len(numbers) > 2))
def test_a_bootstrap_interval_lies_within_the_values_and_repeats(numbers: list[float]) -> None:
    got = spread(numbers, FEW)
    assert got == spread(numbers, FEW)
    assert got is not None
    assert got.bootstrap is not None
    assert min(numbers) <= got.bootstrap.low <= got.bootstrap.high <= max(numbers)
    assert got.bootstrap.low <= got.mean + 1e-9
    assert got.bootstrap.high >= got.mean - 1e-9


@settings(max_examples=25)
@given(values)
def test_p_is_that_of_all_sign_flips(numbers: list[float]) -> None:
    assert found(numbers).p == pytest.approx(flips(numbers))
    assert found(numbers).p >= found(numbers).lowest_p


@pytest.mark.parametrize(("n", "lowest"), [(1, 1.0), (2, 0.5), (3, 0.25), (10, 2**-9)])
def test_n_pairs_cannot_give_a_smaller_p(n: int, lowest: float) -> None:
    got = found([float(i) for i in range(1, n + 1)])
    assert got.p == got.lowest_p == lowest


def test_beyond_all_flips_a_sample_of_them_never_gives_zero() -> None:
    got = difference([float(i) for i in range(1, 21)], resampling=Resampling(999))
    assert got is not None
    assert got.p == got.lowest_p == pytest.approx(2 / 1000)


def test_a_margin_moves_the_test_and_not_the_mean() -> None:
    numbers = [0.25, 0.75, 0.625, 0.375]
    assert found(numbers, 0.5).p == 1.0
    assert found(numbers, 0.125).p == 2**-3
    assert found(numbers, 0.125).spread == found(numbers).spread


def test_the_effect_is_mean_over_sd_with_the_correction_for_small_samples() -> None:
    numbers = around(0.8, 10)
    exact = math.gamma(4.5) / (math.sqrt(4.5) * math.gamma(4))  # Hedges 1981, 9 degrees of freedom
    assert found(numbers).effect == pytest.approx(0.8 * exact)
    assert exact == pytest.approx(1 - 3 / (4 * 9 - 1), abs=1e-3)
    assert found([1.0, 1.0, 1.0]).effect is None
    assert found([1.0, 2.0]).effect is None


def test_holm_against_r() -> None:
    """R: p.adjust(c(0.01, 0.04, 0.03, 0.005, 0.5), "holm")."""
    got = holm([0.01, 0.04, 0.03, 0.005, 0.5])
    assert got == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.5])
    assert holm([]) == []
    assert holm([0.25, 0.25, 0.25, 0.25, 0.25]) == [1.0] * 5


@given(p_values)
def test_holm_raises_keeps_the_order_and_stays_below_bonferroni(p: list[float]) -> None:
    got = holm(p)
    for before, after in zip(p, got, strict=True):
        assert before <= after <= min(1.0, len(p) * before) + 1e-12
    for i, j in itertools.permutations(range(len(p)), 2):
        assert p[i] > p[j] or got[i] <= got[j]


@settings(max_examples=25)
@given(values, values)
def test_the_chance_counts_pairs_and_ties_as_halves(ours: list[float], theirs: list[float]) -> None:
    by_repeat = [dict(enumerate(values)) for values in (ours, theirs)]
    got, back = chance(*by_repeat, FEW), chance(*reversed(by_repeat), FEW)
    assert got is not None
    assert back is not None
    wins = sum((x > y) + (x == y) / 2 for x in ours for y in theirs)
    assert got.value == pytest.approx(wins / len(ours) / len(theirs))
    assert got.value + back.value == pytest.approx(1)
    if got.bootstrap is not None:
        assert got.bootstrap.low <= got.value <= got.bootstrap.high


def test_a_chance_of_one_has_no_interval() -> None:
    got = chance(dict(enumerate([2.0, 3.0, 4.0])), dict(enumerate([0.0, 1.0, 1.5])))
    assert got is not None
    assert (got.value, got.bootstrap) == (1.0, None)


def test_runs_are_resampled_together_by_their_repeat_and_never_by_their_place() -> None:
    """Arms whose runs rise and fall together over repeats: pairing narrows the interval."""
    ours = {i: float(i) for i in range(12)}
    theirs = {i: i + 0.5 for i in range(12)}
    paired = chance(ours, theirs)
    assert paired == chance(ours, {i: theirs[i] for i in reversed(theirs)})
    apart = chance(ours, {i + 1: value for i, value in theirs.items()})
    assert paired is not None
    assert apart is not None
    assert paired.bootstrap is not None
    assert apart.bootstrap is not None
    assert paired.value == apart.value
    width = paired.bootstrap.high - paired.bootstrap.low
    assert width < 0.5 * (apart.bootstrap.high - apart.bootstrap.low)
