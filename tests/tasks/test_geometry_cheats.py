"""Points in the plane: ways of cheating, at the task and at its bare function."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from cheating import (
    TRICKS,
    Changing,
    Convertible,
    forged_outputs,
    job_beside_forged_files,
    refused,
    without_clock_and_chance,
)
from test_geometry import FILES, load

from bilevel.errors import InvalidCandidate
from bilevel.tasks.callfn import resolve
from bilevel.tasks.function import FunctionTask
from bilevel.tasks.geometry import heilbronn

ONE_MORE = math.nextafter(1.0, 2.0)


@pytest.fixture(params=FILES)
def task(request: pytest.FixtureRequest) -> FunctionTask:
    return load(request.param)


@pytest.fixture(params=FILES)
def scored(request: pytest.FixtureRequest) -> Callable[[Any], float]:
    """The bare function of a task, without the task's own checks before it."""
    task = load(request.param)
    function = resolve(task.target)
    return lambda values: float(function(values, 0)[task.objective.metric])


@pytest.fixture
def honest(scored: Callable[[Any], float], request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(load(request.node.callspec.params["scored"]).space.defaults())


@pytest.mark.parametrize("trick", [trick for trick in TRICKS if trick != "off grid"])
def test_the_task_refuses(task: FunctionTask, trick: str) -> None:
    assert refused(task, trick)


class Tampered(dict[str, Any]):
    """A dict whose values are others, and allowed ones, when they are looked up."""

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(name) / 2


class OtherFloat(float):
    """A float that claims to lie in every range."""

    def __ge__(self, other: object) -> bool:
        return True

    __le__ = __ge__


def cheats(honest: dict[str, Any]) -> Iterator[Any]:
    first = next(iter(honest))
    for value in (
        math.nan, -math.nan, math.inf, -math.inf, ONE_MORE, -5e-324, 1 + 1e-6, 10**400, True, False,
        None, "0.5", "0.5\n---\nMETRIC min_area=9\nMETRIC ratio=0", b"0.5", 0.5j, [0.5],
        Fraction(1, 2), 0, 1, Convertible(0.5), Changing(0.5, 2.0), OtherFloat(2.0), lambda: 0.5,
    ):  # fmt: skip
        yield {**honest, first: value}
    yield {name: value for name, value in honest.items() if name != first}
    yield {**honest, "x99": 0.5}
    yield {**honest, "min_area": 9.0}
    yield Tampered(honest)
    yield list(honest.values())
    yield {}


def test_the_function_itself_refuses(
    scored: Callable[[Any], float], honest: dict[str, Any]
) -> None:
    assert scored(honest) > 0
    for values in cheats(honest):
        with pytest.raises(InvalidCandidate) as refusal:
            scored(values)
        assert "\n" not in str(refusal.value), "a value's text could end its line"


@pytest.mark.parametrize("file", FILES[1:])
def test_equal_points_are_refused(file: str) -> None:
    task = load(file)
    values = dict(task.space.defaults())
    names = task.space.names
    found = task.call({**values, names[0]: values[names[2]], names[1]: values[names[3]]}, 0)
    assert found.status == "invalid"
    assert "points 1 and 2 are the same point" in found.error


def test_points_are_equal_at_the_apex_whatever_their_u() -> None:
    task = load("heilbronn")
    found = task.call({**task.space.defaults(), "u3": 0.1, "v3": 1.0, "u9": 0.8, "v9": 1.0}, 0)
    assert found.error == "points 3 and 9 are the same point; move one of them"


def test_a_point_on_the_mirror_line_is_equal_to_its_image() -> None:
    task = load("heilbronn_mirrored")
    found = task.call({**task.space.defaults(), "u4": 0.5}, 0)
    assert found.error == "points 4 and 9 are the same point; move one of them"


def test_points_that_are_nearly_equal_gain_nothing() -> None:
    square = load("heilbronn_square")
    values = dict(square.space.defaults())
    near = {**values, "x2": values["x1"], "y2": math.nextafter(float(values["y1"]), 1.0)}
    found = square.call(near, 0)
    assert found.value is not None
    assert 0 < found.value < 1e-16
    assert (found.metrics["point_a"], found.metrics["point_b"]) == (1, 2)

    spread = load("min_max_distance")
    values = dict(spread.space.defaults())
    near = {**values, "x2": values["x1"], "y2": math.nextafter(float(values["y1"]), 1.0)}
    found = spread.call(near, 0)
    assert found.value is not None
    assert found.value > 1e15
    assert (found.metrics["near_a"], found.metrics["near_b"]) == (1, 2)


def test_points_too_close_for_a_float_are_refused() -> None:
    task = load("min_max_distance")
    tiny = {"x1": 0.0, "y1": 0.0, "x2": 5e-324, "y2": 0.0}
    found = task.call({**task.space.defaults(), **tiny}, 0)
    assert found.status == "invalid"
    assert "points 1 and 2 are too close" in found.error


def test_points_in_a_row_have_area_0() -> None:
    names = heilbronn.IN_SQUARE
    values = {name: i // 2 / 8 for i, name in enumerate(names)}
    assert heilbronn.square(values, 0)["min_area"] == 0


def test_a_tampered_clock_chance_math_or_numpy_changes_nothing(
    task: FunctionTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = task.space.defaults()
    before = task.call(values, 0)
    assert before.status == "ok"
    without_clock_and_chance(monkeypatch)
    for name in ("sqrt", "isqrt", "hypot", "dist", "isfinite", "fabs"):
        monkeypatch.setattr(math, name, lambda *_: 9)
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert task.call(values, 1) == before


def test_forged_output_does_not_count(task: FunctionTask) -> None:
    forged_outputs(task)


@pytest.mark.parametrize("file", ["heilbronn", "min_max_distance"])
def test_forged_files_do_not_count_and_the_job_agrees(file: str, tmp_path: Path) -> None:
    task = load(file)
    values = task.space.defaults()
    assert job_beside_forged_files(task, values, 7, tmp_path) == task.call(values, 7)
