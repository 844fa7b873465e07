"""Ten ways to cheat an evaluator of numbers, for every shipped one to reject.

1 NaN, 2 infinity, 3 one ulp out of range, 4 a missing and 5 an extra parameter, 6 a wrong type, 7
a truth value for a number, 8 a value off the grid or no choice, 9 a text with forged result lines,
10 a number that changes when it is read. `forged_outputs` and `job_beside_forged_files` are for
jobs, which could also forge what is read; `without_clock_and_chance` is for all.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_script import run

from bilevel.errors import InvalidCandidate
from bilevel.model import JobResult, Outcome
from bilevel.space import Param, Values
from bilevel.tasks.function import FunctionTask
from bilevel.tasks.script import ScriptTask

TRICKS = (
    "nan", "infinity", "one ulp out", "missing", "extra", "wrong type", "truth value", "off grid",
    "forged lines", "changing number",
)  # fmt: skip


class Changing(float):
    """A float within its range that becomes another once it is converted."""

    def __new__(cls, value: float, later: float) -> Changing:
        made = super().__new__(cls, value)
        made.later = later
        return made

    later: float

    def __float__(self) -> float:
        return self.later


class ChangingInt(int):
    """An int within its range that becomes another once it is converted."""

    def __int__(self) -> int:
        return int.__add__(self, 1)


class Convertible:
    """No number, but would become one."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        return self.value

    __index__ = __int__ = __float__  # type: ignore[assignment]


def tries(task: FunctionTask | ScriptTask, trick: str) -> Iterator[dict[str, Any]]:
    """Configurations that cheat by that trick at one parameter each."""
    honest = task.space.defaults()
    match trick:
        case "missing":
            yield from ({n: v for n, v in honest.items() if n != name} for name in honest)
            yield {}
        case "extra":
            metric = task.objective.metric
            yield from ({**honest, name: 0.0} for name in ("", metric, "__class__", *task.locked))
        case _:
            for param in task.space:
                yield from ({**honest, param.name: bad} for bad in _bad(task, param, trick))


def _bad(task: FunctionTask | ScriptTask, param: Param, trick: str) -> list[Any]:
    number = param.kind in ("float", "int")
    low, high = param.bounds
    forged = f"{param.default}\n---\nMETRIC {task.objective.metric}=-999"
    match trick:
        case "nan":
            return [math.nan, -math.nan, "nan"]
        case "infinity":
            return [math.inf, -math.inf, 1e999]
        case "one ulp out" if number:
            return [math.nextafter(low, -math.inf), math.nextafter(high, math.inf)]
        case "wrong type":
            given = str(param.default) if number else [param.default]
            return [given, None, [param.default], {"x": 1}, 1j, b"1", lambda: 1]
        case "truth value":
            return [True, False]
        case "off grid" if param.kind == "choice":
            return [f"{param.default} ", "sssl", 127.5, 0]
        case "off grid" if param.step is not None:
            return [param.default * 1.5, param.default * (1 + 1e-12), param.default + 1]
        case "forged lines":
            return [forged, f"{forged}\r\n", str(forged.encode())]
        case "changing number" if number:
            changing = Changing(float(param.default), high + 1)
            given = ChangingInt(param.default) if param.kind == "int" else changing
            return [given, Convertible(float(param.default))]
    return []


def refused(task: FunctionTask | ScriptTask, trick: str) -> bool:
    """Whether the task refuses all configurations of a trick, called or as a job."""
    tried = list(tries(task, trick))
    assert tried, f"no parameter of {task.name} can be cheated by {trick}"
    for values in tried:
        if isinstance(task, FunctionTask):
            found = task.call(values, 7)
            assert (found.status, found.value, dict(found.metrics)) == ("invalid", None, {}), values
            assert found.error
        with pytest.raises(InvalidCandidate):
            task.job(values, 7)
    return True


def forged_outputs(task: FunctionTask | ScriptTask) -> None:
    """Fails when forged lines count that stand before the result, or in a job that failed."""
    metric = task.objective.metric
    forged = f"METRIC {metric}=-999\n---\n{metric}: -999\n"
    for result in (JobResult(1, forged, 1.0), JobResult(-9, forged, 1.0, "timeout")):
        assert task.read(result).value is None
    assert task.read(JobResult(0, f"{forged}\n---\nMETRIC {metric}=2.5\n", 1.0)).value == 2.5
    if isinstance(task, FunctionTask):
        assert task.job(task.space.defaults(), 7).collect == ()


def job_beside_forged_files(task: FunctionTask, values: Values, seed: int, folder: Path) -> Outcome:
    """The outcome of the job, run in a folder that holds forged results."""
    beside = folder / "beside"
    beside.mkdir(parents=True)
    forged = f"---\nMETRIC {task.objective.metric}=-999\n"
    for name in ("run.log", "stdout", "result.json", "bilevel_call.json"):
        (beside / name).write_text(forged)
    return task.read(run(replace(task.job(values, seed), folder=str(beside)), folder / "jobs"))


def without_clock_and_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fix what a cheat could fix from within the program: its clocks and shared generator."""
    for name in ("time", "perf_counter", "monotonic"):
        monkeypatch.setattr(time, name, lambda: 0.0)
    for name in ("random", "gauss", "uniform", "normalvariate"):
        monkeypatch.setattr(random, name, lambda *_: -999.0)
    random.seed(0)
