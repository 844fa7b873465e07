"""A candidate's points, as integers over one unit, so that nothing after this file is rounded.

A candidate is data: floats in a plain dict. Each is read once, and what is checked is what is
scored. A subclass of either is refused, for it could compare as one number and convert to another.
A finite float is a whole number over a power of two, hence no tolerance is needed, and there is
none.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from bilevel.errors import InvalidCandidate

__all__ = ["Point", "distinct", "integers", "numbered", "pairs", "read"]

Point = tuple[int, int]


def numbered(axes: str, count: int) -> tuple[str, ...]:
    """Names of the coordinates of `count` points, point by point: x1, y1, x2, y2 for "xy" and 2."""
    return tuple(f"{axis}{i}" for i in range(1, count + 1) for axis in axes)


def read(values: dict[str, float], names: tuple[str, ...]) -> list[float]:
    """The numbers of these names, in their order, each in [0, 1].

    Raises InvalidCandidate when one is missing, too many, no plain float, or out of that range.
    """
    if type(values) is not dict:
        raise InvalidCandidate(
            f"the candidate is a {type(values).__name__} but must be a plain dict of floats"
        )
    missing = [name for name in names if name not in values]
    if missing:
        raise InvalidCandidate(f"{missing[0]} has no value; give every coordinate one")
    unknown = [name for name in values if name not in names]
    if unknown:
        raise InvalidCandidate(f"there is no coordinate {unknown[0]!r}; the last is {names[-1]}")
    return [_coordinate(name, values[name]) for name in names]


def _coordinate(name: str, value: object) -> float:
    if type(value) is not float:
        raise InvalidCandidate(f"{name} is of type {type(value).__name__} but must be a float")
    # False for NaN as well. A comparison of a float is exact, so one ulp outside is outside.
    if not 0 <= value <= 1:
        raise InvalidCandidate(f"{name} is {value!r} but its range is 0 to 1; give a value in it")
    return value


def integers(numbers: Sequence[float]) -> tuple[list[int], int]:
    """The numbers times a power of two, and that power, the unit: exactly the same numbers."""
    ratios = [number.as_integer_ratio() for number in numbers]
    unit = max(below for _, below in ratios)
    return [above * (unit // below) for above, below in ratios], unit


def pairs(numbers: Sequence[int]) -> list[Point]:
    """The points of a flat list of coordinates."""
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def distinct(points: Sequence[Point]) -> None:
    """Raises InvalidCandidate when two points are one; points are counted from 1."""
    for (i, p), (j, q) in combinations(enumerate(points, 1), 2):
        if p == q:
            raise InvalidCandidate(f"points {i} and {j} are the same point; move one of them")
