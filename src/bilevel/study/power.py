"""How many repeats would settle what a study leaves open: the power of a paired t test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special, stats

from bilevel.study.statistics import ALPHA, DEFAULT, ENOUGH, Difference, Resampling

POWER = 0.8
MOST_REPEATS = 10_000
LARGEST = 1e6  # noncentrality, beyond which no test misses and scipy's distribution has no value


@dataclass(frozen=True)
class Power:
    """Repeats that settle a question, if the true means and sds are those observed.

    cautious: the same with the upper 80 % confidence limit of the sd, which few repeats leave wide
    open. detectable: smallest distance from the first margin that n repeats find with this power.
    None: more than MOST_REPEATS.
    """

    repeats: int | None
    cautious: int | None
    detectable: float


@dataclass(frozen=True)
class Aim:
    """A mean over pairs, and where it counts: beyond `margin` for a claim, below `bar` against it.

    margin <= bar; between them a mean speaks against the claim as well.
    """

    found: Difference
    margin: float = 0.0
    bar: float = 0.0


def power(
    aims: Sequence[Aim],
    level: float = ALPHA,
    enough: int = ENOUGH,
    resampling: Resampling = DEFAULT,
) -> Power | None:
    """How many repeats would settle a claim: all its means beyond their margins, or one below.

    Paired t test, two-sided, power 0.8, by the noncentral t distribution (Cohen 1988, section 2.3;
    Chow, Shao and Wang 2008, section 3.1.1); where several means must lie beyond their margins, as
    much for all together by Bonferroni's inequality. level: of one test, after what Holm's
    correction takes at worst. The permutation test needs 2**(1 - n) below that level, and nothing
    is decided under `enough` repeats. The limit of the sd is Browne's (1995). None without an sd,
    and where so few resamples never give a p below the level.
    """
    spreads = [aim.found.spread for aim in aims]
    n, sds = spreads[0].n, [s.sd for s in spreads if s.sd]
    if len(sds) < len(aims) or resampling.lowest_p >= level:
        return None
    against = max((a.bar - a.found.spread.mean) / sd for a, sd in zip(aims, sds, strict=True))
    least = max(enough, math.floor(1 - math.log2(level)) + 1)
    effect, goal = against, POWER
    if against <= 0:
        effect = min((a.found.spread.mean - a.margin) / sd for a, sd in zip(aims, sds, strict=True))
        goal = 1 - (1 - POWER) / len(aims)
    wider = math.sqrt((n - 1) / stats.chi2.ppf(1 - POWER, n - 1))
    return Power(
        repeats=_repeats(effect, level, least, goal),
        cautious=_repeats(effect / wider, level, least, goal),
        detectable=_detectable(n, level) * sds[0],
    )


def _repeats(effect: float, level: float, least: int, goal: float) -> int | None:
    """Smallest n from `least` on with power `goal`, by bisection; None beyond MOST_REPEATS."""
    low, high = least, MOST_REPEATS
    if _power(effect, low, level) >= goal:
        return low
    if _power(effect, high, level) < goal:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(effect, middle, level) >= goal else (middle, high)
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
