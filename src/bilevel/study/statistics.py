"""What the figures of a study say about its arms: spreads, paired differences, chances.

Everything works on plain numbers, higher is better, and gives the same result every time: each
bootstrap and each sampled permutation test draws from a generator of its own, made from a seed.
Values that do not exist (failed runs, targets never reached) are None and are never counted as 0.

How far the intervals can be trusted, by 4,000 samples of each size from a normal distribution:
of the 95 % bootstrap intervals, 73 % held the true mean at n = 3, 84 % at n = 5, 89 % at n = 10
and 92 % at n = 20; of Student's, 95 % at each. So both are given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bilevel.errors import MissingExtra
from bilevel.noise import FEWEST

try:
    import numpy as np
    import numpy.typing as npt
    from scipy import special, stats
except ImportError as error:
    raise MissingExtra(
        "the statistics of a study need scipy, which is not installed; pip install 'bilevel[study]'"
    ) from error

Values = npt.NDArray[np.float64]
LEVEL = 0.95
ALPHA = 0.05
ROUNDING = 1e-12
ENOUGH = 10  # repeats below which no question is decided


@dataclass(frozen=True)
class Resampling:
    """How often to resample, and the seed of the generator; where all ways are fewer, all."""

    count: int = 10_000
    seed: int = 0

    @property
    def lowest_p(self) -> float:
        """The smallest p of a test that samples: both tails, the values as seen among them."""
        return 2 / (self.count + 1)

    def generator(self) -> np.random.Generator:
        """A fresh one, so that a result depends on its own values only."""
        return np.random.default_rng(self.seed)


DEFAULT = Resampling()


@dataclass(frozen=True)
class Interval:
    """Ends of a 95 % interval, the low one first."""

    low: float
    high: float


@dataclass(frozen=True)
class Spread:
    """Values of one arm. sd: n - 1 in the denominator. iqm: interquartile mean.

    bootstrap: bias-corrected and accelerated, of the mean, None below FEWEST values. student: by
    the t distribution. sd and student are None for one value.
    """

    n: int
    mean: float
    median: float
    iqm: float
    sd: float | None
    bootstrap: Interval | None
    student: Interval | None


@dataclass(frozen=True)
class Difference:
    """Differences between two arms, repeat by repeat; positive when the first is better.

    p: two-sided, that they are as likely margin - x as margin + x (sign flips); lowest_p: the
    smallest that n pairs can give. effect: Hedges' g_z, mean over sd, None where all are equal.
    """

    spread: Spread
    p: float
    lowest_p: float
    effect: float | None


@dataclass(frozen=True)
class Chance:
    """Probability that a run of the first arm beats one of the second; ties count a half.

    bootstrap: None below FEWEST runs, and where every pair falls on the same side.
    """

    value: float
    bootstrap: Interval | None


def spread(values: Sequence[float], resampling: Resampling = DEFAULT) -> Spread | None:
    """Mean, median, interquartile mean and their uncertainty; None without a value.

    The interquartile mean leaves out the lowest and highest quarter, rounded down: none of three.
    """
    if not values:
        return None
    x = np.asarray(values, dtype=float)
    return Spread(
        n=len(x),
        mean=float(x.mean()),
        median=float(np.median(x)),
        # Agarwal et al. 2021 (Deep RL at the edge of the statistical precipice), as in rliable.
        iqm=float(stats.trim_mean(x, 0.25)),
        sd=_sd(x),
        bootstrap=_bootstrap(x, resampling),
        student=_student(x),
    )


def _sd(x: Values) -> float | None:
    if len(x) < 2:
        return None
    return 0.0 if _equal(x) else float(x.std(ddof=1))


def _equal(x: Values) -> bool:
    """Whether the values differ by no more than rounding."""
    return bool(np.ptp(x) <= ROUNDING * np.abs(x).max())


def _bootstrap(x: Values, resampling: Resampling) -> Interval | None:
    """Of the mean, by BCa (Efron 1987); equal values leave no spread."""
    if len(x) < FEWEST:
        return None
    if _equal(x):
        return Interval(float(x[0]), float(x[0]))
    found = stats.bootstrap(
        (x,), np.mean, n_resamples=resampling.count, confidence_level=LEVEL, method="BCa",
        rng=resampling.generator(),
    ).confidence_interval  # fmt: skip
    return Interval(float(found.low), float(found.high))


def _student(x: Values) -> Interval | None:
    if len(x) < 2:
        return None
    half = stats.t.ppf((1 + LEVEL) / 2, len(x) - 1) * stats.sem(x)
    return Interval(float(x.mean() - half), float(x.mean() + half))


def difference(
    values: Sequence[float], margin: float = 0.0, resampling: Resampling = DEFAULT
) -> Difference | None:
    """What paired differences say, against a margin; None without a pair.

    The test flips signs of what lies beyond the margin (Fisher's randomisation test for pairs),
    all 2**n ways where these are few. Its p counts both tails, so that n pairs cannot give less
    than 2**(1 - n): 0.25 for three.
    """
    found = spread(values, resampling)
    if found is None:
        return None
    p = _flipped(np.asarray(values, dtype=float) - margin, resampling)
    exact = 2**found.n <= resampling.count
    lowest = 2.0 ** (1 - found.n) if exact else resampling.lowest_p
    return Difference(found, p, lowest, _effect(found))


def _flipped(x: Values, resampling: Resampling) -> float:
    if len(x) == 1:
        return 1.0  # either sign is as likely, and scipy's test wants two values
    tested = stats.permutation_test(
        (x,), lambda x, axis: np.mean(x, axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=resampling.count, rng=resampling.generator(),
    )  # fmt: skip
    return min(1.0, float(tested.pvalue))


def _effect(found: Spread) -> float | None:
    """Cohen's d_z = mean / sd (Lakens 2013, eq. 6) times Hedges' correction for small samples.

    The correction is the exact one, by the gamma function (Hedges 1981, eq. 6e).
    """
    free = found.n - 1
    if not found.sd or free < 2:  # below two, the correction is 0
        return None
    log = special.gammaln(free / 2) - special.gammaln((free - 1) / 2)
    return float(found.mean / found.sd * math.exp(log) / math.sqrt(free / 2))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979), in the order given; at most 1."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, (len(p_values) - rank) * p_values[i])
        corrected[i] = min(1.0, highest)
    return corrected


def chance(
    ours: Mapping[int, float], theirs: Mapping[int, float], resampling: Resampling = DEFAULT
) -> Chance | None:
    """Probability of improvement over all pairs of runs (Agarwal et al. 2021); None without any.

    It is the Mann-Whitney U over its maximum. Runs come by repeat and are resampled; where both
    arms have the same repeats, which share their seeds, both runs of one together.
    """
    if not ours or not theirs:
        return None
    paired = ours.keys() == theirs.keys()
    x = np.asarray([*ours.values()], dtype=float)
    y = np.asarray([theirs[i] for i in (ours if paired else theirs)], dtype=float)
    value = float(_wins(x, y))
    if min(len(x), len(y)) < FEWEST or value in (0.0, 1.0):
        return Chance(value, None)
    found = stats.bootstrap(
        (x, y), _wins, paired=paired, vectorized=True,
        n_resamples=resampling.count, batch=500, confidence_level=LEVEL, method="percentile",
        rng=resampling.generator(),
    ).confidence_interval  # fmt: skip
    return Chance(value, Interval(float(found.low), float(found.high)))


def _wins(x: Values, y: Values, axis: int = -1) -> Values:
    """Share of pairs in which x is larger, along the last axis; ties count a half."""
    above, below = x[..., :, None], y[..., None, :]
    wins: Values = ((above > below) + 0.5 * (above == below)).mean(axis=(-2, -1))
    return wins
