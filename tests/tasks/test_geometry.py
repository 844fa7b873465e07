"""Points in the plane: the contract, the published constants, and exactness."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilevel.conformance.task import TaskSuite
from bilevel.errors import InvalidCandidate
from bilevel.space import Values
from bilevel.tasks import geometry
from bilevel.tasks.function import FunctionTask
from bilevel.tasks.geometry import distances, heilbronn
from bilevel.tasks.geometry.points import integers, numbered, pairs
from bilevel.tasks.loading import load_task

FOLDER = Path(geometry.__file__).parent
FILES = ("heilbronn", "heilbronn_mirrored", "heilbronn_square", "min_max_distance")

# A local optimum of each problem from random starts: half of the 11 points, and the 16 points.
MIRRORED = [
    0.9289759590200587, 0.08207229541395751, 0.0, 0.8559690591066473, 0.6839977690893666,
    0.5072505900947863, 0.7225470220844937, 0.0, 1.0, 0.2956511458813347, 0.24378779767479974,
]  # fmt: skip
SIXTEEN = [
    0.0, 0.5080433275674352, 0.5668310500046368, 1.0, 0.8441608579306616, 0.13495142135578533,
    0.07606249771909755, 0.7761583258876578, 0.6150367606366713, 0.6843000802970148,
    0.260379931994738, 0.4086781078075181, 0.991225503348524, 0.3716857575887013,
    0.4947964334514061, 0.2579463602281283, 0.8167321605518958, 0.8766282413565916,
    0.6003181427276563, 0.0, 0.29230526828117803, 0.9519713517508067, 0.9791020900698324,
    0.6501173986318753, 0.323194293240426, 0.029555505898221722, 0.09263269431165186,
    0.18612020493005313, 0.3364424297138354, 0.6767931061277408, 0.717718065110564,
    0.4252099307446621,
]  # fmt: skip


def load(file: str) -> FunctionTask:
    task = load_task(FOLDER / f"{file}.toml")
    assert isinstance(task, FunctionTask)
    return task


class Contract(TaskSuite):
    file = ""

    def task(self) -> FunctionTask:
        return load(self.file)

    def good(self) -> list[Values]:
        names = self.task().space.names
        return [{name: i / len(names) for i, name in enumerate(names)}, dict.fromkeys(names, 1.0)]


class TestTriangle(Contract):
    file = "heilbronn"


class TestMirrored(Contract):
    file = "heilbronn_mirrored"


class TestSquare(Contract):
    file = "heilbronn_square"


class TestDistance(Contract):
    file = "min_max_distance"


# Published constants


def area(*coordinates: float) -> float:
    """The smallest area of points x1, y1, x2, y2 and so on."""
    numbers, unit = integers(coordinates)
    return heilbronn.smallest_triangle(pairs(numbers))[0] / (2 * unit**2)


def ratio(*coordinates: float) -> float:
    (near, _), (far, _) = distances.extremes(pairs(integers(coordinates)[0]))
    return distances.root(far, near)


def test_known_optima_of_rational_points_are_met_to_the_last_bit() -> None:
    # Goldberg 1972: four corners; an affine image of the regular hexagon.
    assert area(0, 0, 0, 1, 1, 0, 1, 1) == 1 / 2
    assert area(0, 0.25, 0, 0.75, 0.5, 0, 0.5, 1, 1, 0.25, 1, 0.75) == 1 / 8
    # Bateman and Erdős 1951: the square. A row has the ratio of its length.
    assert ratio(0, 0, 0, 1, 1, 0, 1, 1) == math.sqrt(2)
    assert ratio(0, 0, 0.25, 0, 0.5, 0, 0.75, 0) == 3


def test_known_optima_of_irrational_points_are_met_to_rounding() -> None:
    five = [f for k in range(5) for f in (math.cos(k * math.tau / 5), math.sin(k * math.tau / 5))]
    six = [f for k in range(6) for f in (math.cos(k * math.tau / 6), math.sin(k * math.tau / 6))]
    assert ratio(0, 0, 1, 0, 0.5, math.sqrt(3) / 2) == pytest.approx(1, rel=1e-15)
    assert ratio(*five) == pytest.approx((1 + math.sqrt(5)) / 2, rel=1e-15)
    assert ratio(0, 0, *six) == pytest.approx(2, rel=1e-15)
    a, b = (5 - math.sqrt(13)) / 6, (7 - math.sqrt(13)) / 18
    eight = [a, 0.0, 1.0, 0.0, 0.0, b, 1 - a, 2 * b, a, 1 - 2 * b, 1.0, 1 - b, 0.0, 1.0, 1 - a, 1.0]
    found = heilbronn.square(dict(zip(heilbronn.IN_SQUARE, eight, strict=True)), 0)["min_area"]
    assert found == pytest.approx(heilbronn.BEST_SQUARE, rel=1e-14)


def test_the_best_known_values_can_be_met() -> None:
    half = dict(zip(heilbronn.IN_HALF, MIRRORED, strict=True))
    found = heilbronn.mirrored(half, 0)["min_area"]
    assert found == pytest.approx(heilbronn.BEST_TRIANGLE, rel=1e-14)
    sixteen = distances.ratio(dict(zip(distances.COORDINATES, SIXTEEN, strict=True)), 0)
    assert sixteen["ratio_squared"] == pytest.approx(distances.BEST_SQUARED, rel=1e-14)
    assert sixteen["ratio"] == pytest.approx(math.sqrt(distances.BEST_SQUARED), rel=1e-14)


@pytest.mark.parametrize("file", FILES)
def test_the_goal_says_the_constant_and_the_default_is_worse(file: str) -> None:
    task, best = load(file), math.sqrt(distances.BEST_SQUARED)
    if task.objective.metric == "min_area":
        best = heilbronn.BEST_SQUARE if "square" in file else heilbronn.BEST_TRIANGLE
    assert f"{best:.10g}" in task.brief()
    default = task.call(task.space.defaults(), 0).value
    assert default is not None
    assert default != 0
    assert task.objective.score(default) < task.objective.score(best)


# Exactness

COORDINATE = st.floats(0, 1) | st.sampled_from([0.0, 5e-324, 0.1, 0.3, 0.5, 1 - 2**-53, 1.0])


def exact_area(points: list[tuple[Fraction, Fraction]]) -> Fraction:
    """Twice the smallest area, by another formula."""
    return min(
        abs(a[0] * (b[1] - c[1]) + b[0] * (c[1] - a[1]) + c[0] * (a[1] - b[1]))
        for a, b, c in combinations(points, 3)
    )


def rationals(numbers: list[float]) -> list[tuple[Fraction, Fraction]]:
    exact = [Fraction(n) for n in numbers]
    return list(zip(exact[::2], exact[1::2], strict=True))


def outcome(function: Callable[..., dict[str, float]], names: Any, numbers: list[float]) -> Any:
    """The metrics, or None where the function refuses."""
    try:
        return function(dict(zip(names, numbers, strict=True)), 0)
    except InvalidCandidate:
        return None


@given(st.lists(COORDINATE, min_size=16, max_size=16))
def test_the_square_is_exact(numbers: list[float]) -> None:
    points = rationals(numbers)
    found = outcome(heilbronn.square, heilbronn.IN_SQUARE, numbers)
    assert (found is None) == (len(set(points)) < 8)
    assert found is None or found["min_area"] == float(exact_area(points) / 2)


@given(st.lists(COORDINATE, min_size=22, max_size=22))
def test_the_triangle_is_exact(numbers: list[float]) -> None:
    points = [(u * (1 - v), v) for u, v in rationals(numbers)]
    found = outcome(heilbronn.triangle, heilbronn.IN_TRIANGLE, numbers)
    assert (found is None) == (len(set(points)) < 11)
    assert found is None or found["min_area"] == float(exact_area(points))


@given(st.lists(COORDINATE, min_size=32, max_size=32))
def test_the_ratio_is_exact(numbers: list[float]) -> None:
    squares = [
        (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 for a, b in combinations(rationals(numbers), 2)
    ]
    found = outcome(distances.ratio, distances.COORDINATES, numbers)
    if min(squares) == 0 or max(squares) / min(squares) > sys.float_info.max:
        assert found is None
    else:
        assert found["ratio_squared"] == float(max(squares) / min(squares))
        assert is_nearest_root(found["ratio"], max(squares) / min(squares))


def is_nearest_root(root: float, square: Fraction) -> bool:
    below, above = (
        (Fraction(root) + Fraction(math.nextafter(root, to))) / 2 for to in (0.0, math.inf)
    )
    return below**2 <= square <= above**2


@given(st.integers(1, 2**300), st.integers(0, 2**700))
def test_a_root_is_the_nearest_float(below: int, more: int) -> None:
    assert is_nearest_root(distances.root(below + more, below), Fraction(below + more, below))


def test_a_root_just_over_the_middle_of_two_floats_is_the_upper() -> None:
    below = 2**1000
    middle = (2**53 + 1) ** 2 * 2 ** (1000 - 106)
    assert distances.root(middle - 1, below) == 1.0
    assert distances.root(middle, below) == 1.0
    assert distances.root(middle + 1, below) == 1.0 + 2**-52


def test_shares_of_the_triangle_do_not_depend_on_its_shape() -> None:
    task = load("heilbronn")
    numbers = [float(v) for v in task.space.defaults().values()]
    height = math.sqrt(3) / 2
    corners = [
        (u * (1 - v) + v / 2, v * height) for u, v in zip(numbers[::2], numbers[1::2], strict=True)
    ]
    equilateral = area(*(c for corner in corners for c in corner)) / (height / 2)
    assert task.call(task.space.defaults(), 0).value == pytest.approx(equilateral, rel=1e-12)


def test_mirrored_points_are_those_of_the_whole_triangle() -> None:
    half = [0.125, 0.25, 0.40625, 0.75, 0.0, 0.0625, 0.28125, 0.53125, 0.4375, 0.1875]
    whole = [*half, *(f for u, v in zip(half[::2], half[1::2], strict=True) for f in (1 - u, v))]
    one = outcome(heilbronn.mirrored, heilbronn.IN_HALF, [*half, 0.875])
    assert one == outcome(heilbronn.triangle, heilbronn.IN_TRIANGLE, [*whole, 0.5, 0.875])
    assert one["min_area"] > 0


def test_names_go_point_by_point() -> None:
    assert numbered("xy", 2) == ("x1", "y1", "x2", "y2")
