"""Heilbronn's problem: place points so that the smallest triangle among them is large.

In the triangle, u and v of a point say where it lies: v is its height (0 on the base, 1 at the
apex), u how far it is across at that height (0 on the left side, 1 on the right). So every u and v
in [0, 1] lies inside. Areas are shares of the whole, and shares survive every affine map: the
triangle with corners (0, 0), (1, 0) and (0, 1), where u and v stand for the point (u * (1 - v), v),
serves for the equilateral one of the literature.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import sqrt

from bilevel.tasks.geometry.points import Point, distinct, integers, numbered, pairs, read

__all__ = [
    "BEST_SQUARE",
    "BEST_TRIANGLE",
    "mirrored",
    "smallest_triangle",
    "square",
    "triangle",
]

IN_TRIANGLE = numbered("uv", 11)
IN_HALF = (*numbered("uv", 5), "v11")
IN_SQUARE = numbered("xy", 8)

# Best known, as a share of the triangle: AlphaEvolve (Novikov et al. 2025, arXiv 2506.13131),
# appendix B.9, and the digits of its published points; 0.036 before it.
BEST_TRIANGLE = 0.036529889880030156
# Found by Comellas and Yebra 2002 (New lower bounds for Heilbronn numbers); known to be optimal:
# Modir, Monji and Kocuk 2025, arXiv 2512.14505; Sudermann-Merx 2026, arXiv 2603.11107.
BEST_SQUARE = (sqrt(13) - 1) / 36


def triangle(values: dict[str, float], seed: int) -> dict[str, float]:
    """The smallest area over 11 points u, v in a triangle of area 1, and whose it is.

    Raises InvalidCandidate for values that are no 11 different points. The seed plays no part.
    """
    numbers, unit = integers(read(values, IN_TRIANGLE))
    return _in_triangle(pairs(numbers), unit)


def mirrored(values: dict[str, float], seed: int) -> dict[str, float]:
    """As `triangle`, for points of which 6 to 10 are the mirror images of 1 to 5, across.

    Point 11 lies on the mirror line, at height v11. The best known points are of this kind.
    """
    numbers, unit = integers([*read(values, IN_HALF), 0.5])
    *numbers, v11, half = numbers
    left = pairs(numbers)
    return _in_triangle([*left, *((unit - u, v) for u, v in left), (half, v11)], unit)


def square(values: dict[str, float], seed: int) -> dict[str, float]:
    """The smallest area over 8 points x, y in the unit square, and whose it is.

    Raises InvalidCandidate for values that are no 8 different points. The seed plays no part.
    """
    numbers, unit = integers(read(values, IN_SQUARE))
    return _metrics(pairs(numbers), whole=2 * unit**2)


def smallest_triangle(points: Sequence[Point]) -> tuple[int, tuple[int, int, int]]:
    """Twice the smallest area, and the first three points, from 1, that have it."""
    return min(
        (abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)), (i, j, k))
        for (i, (ax, ay)), (j, (bx, by)), (k, (cx, cy)) in combinations(enumerate(points, 1), 3)
    )


def _in_triangle(points: Sequence[Point], unit: int) -> dict[str, float]:
    """Metrics of points u, v, in units."""
    inside = [(u * (unit - v), v * unit) for u, v in points]
    # The triangle's own area is half a unit, so that a determinant is a share already.
    return _metrics(inside, whole=unit**4)


def _metrics(points: Sequence[Point], whole: int) -> dict[str, float]:
    distinct(points)
    area, (a, b, c) = smallest_triangle(points)
    # The only rounding: Python divides integers to the nearest float.
    return {"min_area": area / whole, "point_a": a, "point_b": b, "point_c": c}
