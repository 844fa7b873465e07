"""BBOB tasks: known optima, the contract, and what a cheat would try."""

import math
import random
import sys
from pathlib import Path

import pytest

pytest.importorskip("ioh", reason="the extra bbob is not installed")

from cheating import (
    TRICKS,
    forged_outputs,
    job_beside_forged_files,
    refused,
    without_clock_and_chance,
)
from ioh import ProblemClass, get_problem

from bilevel.conformance.task import TaskSuite
from bilevel.errors import ConfigError, MissingExtra
from bilevel.space import Values
from bilevel.tasks.bbob.tasks import bbob_task, names
from bilevel.tasks.function import FunctionTask

NAME = "bbob-f8-d3-i2"
POINT: Values = {"x1": 1.25, "x2": -0.5, "x3": 4.0}


class TestBbob(TaskSuite):
    @pytest.fixture(autouse=True, params=["bbob-f1-d2", NAME, "bbob-f24-d40"])
    def _name(self, request: pytest.FixtureRequest) -> None:
        self.name = request.param

    def task(self) -> FunctionTask:
        return bbob_task(self.name)

    def good(self) -> list[Values]:
        defaults = self.task().space.defaults()
        return [{**defaults, "x1": 5.0}, {**defaults, "x2": -5.0}]


def test_all_functions_and_dimensions_are_named() -> None:
    assert len(names()) == len(set(names())) == 24 * 6
    assert all(bbob_task(name).name == name for name in names())


@pytest.mark.parametrize("function", range(1, 25))
@pytest.mark.parametrize("instance", [1, 3])
def test_the_optimum_has_no_gap_and_the_default_has(function: int, instance: int) -> None:
    rng = random.Random(function)
    for dimension in (2, 5):
        task = bbob_task(f"bbob-f{function}-d{dimension}-i{instance}")
        optimum = get_problem(function, instance, dimension, ProblemClass.BBOB).optimum.x
        best = task.call(dict(zip(task.space.names, map(float, optimum), strict=True)), 0)
        assert best.value == pytest.approx(0.0, abs=1e-9)
        found = [task.call(task.space.defaults(), 0).value]
        for _ in range(20):
            point: Values = {n: rng.uniform(-5, 5) for n in task.space.names}
            found.append(task.call(point, 0).value)
        assert all(value is not None and value > 1e-2 for value in found)


def test_the_sphere_is_the_squared_distance() -> None:
    optimum = get_problem(1, 1, 2, ProblemClass.BBOB).optimum.x
    value = bbob_task("bbob-f1-d2").call({"x1": 1.0, "x2": 2.0}, 0).value
    assert value == pytest.approx((1.0 - optimum[0]) ** 2 + (2.0 - optimum[1]) ** 2)


def test_the_seed_changes_nothing_and_the_instance_does() -> None:
    task = bbob_task(NAME)
    assert task.call(POINT, 1) == task.call(POINT, 2)
    assert bbob_task("bbob-f8-d3").call(POINT, 1) != task.call(POINT, 1)
    assert bbob_task("bbob-f8-d3-i1").call(POINT, 1) == bbob_task("bbob-f8-d3").call(POINT, 1)


def test_the_job_gives_the_same_to_the_last_bit(tmp_path: Path) -> None:
    task = bbob_task(NAME)
    assert job_beside_forged_files(task, POINT, 7, tmp_path) == task.call(POINT, 7)


@pytest.mark.parametrize("trick", [t for t in TRICKS if t != "off grid"])
def test_values_outside_the_space_are_refused(trick: str) -> None:
    assert refused(bbob_task(NAME), trick)


@pytest.mark.parametrize("name", ["function", "dimension", "instance"])
def test_what_is_fixed_cannot_be_given(name: str) -> None:
    found = bbob_task(NAME).call({**POINT, name: 1}, 0)
    assert (found.status, found.value) == ("invalid", None)
    assert f"there is no parameter '{name}'" in found.error


def test_a_clock_or_generator_tampered_with_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = bbob_task(NAME).call(POINT, 7)
    without_clock_and_chance(monkeypatch)
    assert bbob_task(NAME).call(POINT, 7) == honest


def test_forged_output_of_a_failed_job_is_no_result() -> None:
    forged_outputs(bbob_task(NAME))


def test_one_evaluation_does_not_change_the_next() -> None:
    task = bbob_task(NAME)
    honest = task.call(POINT, 0)
    for x in (math.nextafter(5.0, 0.0), -5.0, 0.0):
        task.call({**POINT, "x1": x}, 0)
    assert task.call(POINT, 0) == honest


@pytest.mark.parametrize(
    ("name", "why"),
    [("bbob-f25-d5", "function 25 but its range is 1 to 24"), ("bbob-f0-d5", "is no BBOB"),
     ("bbob-f1-d1", "dimension 1 but its range is 2 to 40"), ("bbob-f1-d41", "dimension 41"),
     ("bbob-f1-d5-i1001", "instance 1001"), ("bbob-f1-d5-i0", "is no BBOB"),
     ("bbob-f1", "give bbob-fF-dD"), ("bbob-f1-d5\n", "is no BBOB"),
     ("bbob-f٣-d5", "is no BBOB")],
)  # fmt: skip
def test_a_name_that_is_none(name: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        bbob_task(name)


def test_without_ioh_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ioh", None)
    with pytest.raises(MissingExtra, match=r"pip install 'bilevel\[bbob\]'"):
        bbob_task(NAME)
