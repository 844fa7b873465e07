"""How many repeats would settle what a study leaves open: the power of a paired t test."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import special, stats

from bilevel.study.statistics import ALPHA, ENOUGH, Difference

POWER = 0.8
MOST_REPEATS = 10_000
LARGEST = 1e6  # noncentrality, beyond which no test misses and scipy's distribution has no value


@dataclass(frozen=True)
class Power:
    """Repeats that settle a question, if the true difference and sd are those observed.

    cautious: the same with the upper 80 % confidence limit of the sd, which few repeats leave wide
    open. detectable: smallest distance from the margin that n repeats find with this power.
    None: more than MOST_REPEATS.
    """

    repeats: int | None
    cautious: int | None
    detectable: float


def power(
    found: Difference, margin: float = 0.0, questions: int = 1, enough: int = ENOUGH
) -> Power | None:
    """How many repeats would settle whether a difference lies beyond a margin; None without an sd.

    Paired t test, two-sided, power 0.8, by the noncentral t distribution (Cohen 1988, section 2.3;
    Chow, Shao and Wang 2008, section 3.1.1). At worst Holm's correction divides the level by the
    number of questions. The permutation test needs 2**(1 - n) below that level, and nothing is
    decided under `enough` repeats. The limit of the sd is Browne's (1995).
    """
    n, sd = found.spread.n, found.spread.sd
    if not sd:
        return None
    level, distance = ALPHA / questions, abs(found.spread.mean - margin)
    least = max(enough, math.floor(1 - math.log2(level)) + 1)
    upper = sd * math.sqrt((n - 1) / stats.chi2.ppf(1 - POWER, n - 1))
    return Power(
        repeats=_repeats(distance / sd, level, least),
        cautious=_repeats(distance / upper, level, least),
        detectable=_detectable(n, level) * sd,
    )


def _repeats(effect: float, level: float, least: int) -> int | None:
    """Smallest n from `least` on with enough power, by bisection; None beyond MOST_REPEATS."""
    low, high = least, MOST_REPEATS
    if _power(effect, low, level) >= POWER:
        return low
    if _power(effect, high, level) < POWER:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(effect, middle, level) >= POWER else (middle, high)
    return high


def _power(effect: float, n: int, level: float) -> float:
    """Chance that a paired t test of n repeats rejects, for an effect in sds."""
    critical = special.stdtrit(n - 1, 1 - level / 2)
    # `special.nctdtr` is faster, and NaN at isolated n.
    return float(stats.nct.sf(critical, n - 1, min(effect * math.sqrt(n), LARGEST)))


def _detectable(n: int, level: float) -> float:
    """Smallest effect, in sds, that n repeats find with enough power."""
    low, high = 0.0, 1.0
    while _power(high, n, level) < POWER:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _power(middle, n, level) >= POWER else (middle, high)
    return high
