"""The ratio of the largest to the smallest distance among points in the plane, to be small."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import isqrt

from bilevel.errors import InvalidCandidate
from bilevel.tasks.geometry.points import Point, integers, numbered, pairs, read

__all__ = ["BEST_SQUARED", "extremes", "ratio", "root"]

COORDINATES = numbered("xy", 16)

# Square of the best known ratio. AlphaEvolve (Novikov et al. 2025, arXiv 2506.13131), appendix
# B.8, has 12.88926611203463; D. Cantrell (2009, in E. Friedman's collection of such sets) 12.890.
# A local optimiser from many random starts reaches this one, which several later systems report.
BEST_SQUARED = 12.889229907694006


def ratio(values: dict[str, float], seed: int) -> dict[str, float]:
    """The ratio over 16 points x, y in the unit square, its square, and whose distances they are.

    Raises InvalidCandidate for values that are no 16 different points, and for points so close
    that no float holds the ratio. The seed plays no part.
    """
    numbers, _ = integers(read(values, COORDINATES))
    (near, pair), (far, other) = extremes(pairs(numbers))
    if near == 0:
        raise InvalidCandidate(f"points {pair[0]} and {pair[1]} are the same point; move one")
    try:
        value, squared = root(far, near), far / near
    except OverflowError as error:
        raise InvalidCandidate(
            f"points {pair[0]} and {pair[1]} are too close for a float to hold the ratio; "
            "move one of them away"
        ) from error
    return {
        "ratio": value,
        "ratio_squared": squared,
        "near_a": pair[0],
        "near_b": pair[1],
        "far_a": other[0],
        "far_b": other[1],
    }


Extreme = tuple[int, tuple[int, int]]


def extremes(points: Sequence[Point]) -> tuple[Extreme, Extreme]:
    """The smallest and the largest squared distance, each with its points, counted from 1."""
    squares = [
        ((ax - bx) ** 2 + (ay - by) ** 2, (i, j))
        for (i, (ax, ay)), (j, (bx, by)) in combinations(enumerate(points, 1), 2)
    ]
    return min(squares), max(squares)


def root(above: int, below: int) -> float:
    """The float nearest to the square root of above / below, for above >= below > 0.

    Raises OverflowError when it is larger than every float.
    """
    # 64 bits of the root and whether it goes on after them, which is all that rounding to 53 asks.
    shift = max(0, 64 - (above.bit_length() - below.bit_length()) // 2)
    whole, rest = divmod(above << 2 * shift, below)
    digits = isqrt(whole)
    goes_on = rest != 0 or digits * digits != whole
    return (2 * digits + goes_on) / (1 << shift + 1)
