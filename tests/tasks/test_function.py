"""Function tasks: the contract, and functions that fail in their own process."""

from pathlib import Path

import pytest
from test_script import run

from bilevel.conformance.task import TaskSuite
from bilevel.errors import ConfigError
from bilevel.model import JobResult, Objective, Outcome
from bilevel.space import Param, Space, Values
from bilevel.tasks import callfn
from bilevel.tasks.function import FunctionTask
from bilevel.tasks.loading import load_task

SPACE = Space((Param("x", "float", 0.5, 0.0, 1.0), Param("n", "int", 2, 1, 8)))

FUNCTIONS = """
import math, os, sys, time
from dataclasses import dataclass
from bilevel.errors import InvalidCandidate

@dataclass
class Point:
    x: float

def square(values, seed):
    print("METRIC loss=-999")
    print("loss: -999", end="")
    return Point((values["x"] - 0.25) ** 2 * values["n"]).x

def several(values, seed):
    return {"loss": values["x"], "seed": seed, "steps": 3}

def raises(values, seed):
    raise ValueError(f"x is {values['x']}")

def dies(values, seed):
    os.abort()

def hangs(values, seed):
    time.sleep(60)

def nan(values, seed):
    return math.nan

def text(values, seed):
    return "0.1"

def other(values, seed):
    return {"los": 1}

def refuses(values, seed):
    print("METRIC loss=-999")
    raise InvalidCandidate(f"x is {values['x']}\\nbut n is {values['n']}")

def forges(values, seed):
    return {"loss": 1.0, "a\\nMETRIC loss": -999}

def leaves(values, seed):
    sys.exit(0)
"""


def task(folder: Path, name: str, timeout: float = 30.0, seeded: bool = True) -> FunctionTask:
    (folder / "functions.py").write_text(FUNCTIONS)
    target = f"{folder / 'functions.py'}:{name}"
    return FunctionTask(target, SPACE, Objective("loss"), timeout=timeout, seeded=seeded)


def outcome(tmp_path: Path, name: str, timeout: float = 30.0) -> Outcome:
    made = task(tmp_path, name, timeout)
    return made.read(run(made.job({"x": 0.75, "n": 2}, 7), tmp_path / "jobs"))


class TestFunction(TaskSuite):
    @pytest.fixture(autouse=True, params=[True, False])
    def _folder(self, tmp_path: Path, request: pytest.FixtureRequest) -> None:
        self.folder, self.seeded = tmp_path, request.param

    def task(self) -> FunctionTask:
        return task(self.folder, "square", seeded=self.seeded)

    def good(self) -> list[Values]:
        return [{"x": 0.25, "n": 2}, {"x": 0.5, "n": 3}]


def test_the_result_counts_and_not_what_was_printed(tmp_path: Path) -> None:
    assert outcome(tmp_path, "square").value == 0.5


def test_several_metrics(tmp_path: Path) -> None:
    found = outcome(tmp_path, "several")
    assert found == Outcome("ok", 0.75, {"loss": 0.75, "seed": 7, "steps": 3})


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("raises", "ValueError: x is 0.75\nat functions.py line 19: raise ValueError("),
        ("dies", "killed by SIGABRT"),
        ("nan", "loss is nan"),
        ("text", "TypeError: loss is '0.1', but a metric must be a number"),
        ("other", "printed no line `loss: NUMBER`"),
        ("leaves", "printed no line `loss: NUMBER`"),
        ("forges", "a name must be printable text"),
        ("missing", "has no attribute 'missing'"),
    ],
)
def test_a_function_that_fails_is_a_crash(tmp_path: Path, name: str, part: str) -> None:
    found = outcome(tmp_path, name)
    assert (found.status, found.value) == ("crash", None)
    assert part in found.error


def test_a_function_may_refuse_values(tmp_path: Path) -> None:
    found = outcome(tmp_path, "refuses")
    assert found == Outcome("invalid", None, error="x is 0.75\nbut n is 2")


@pytest.mark.parametrize("exit", [callfn.REFUSED, 0])
def test_a_refusal_needs_its_words_and_its_status(tmp_path: Path, exit: int) -> None:
    made = task(tmp_path, "square")
    words = "" if exit else f"{callfn.REFUSAL}because\n"
    assert made.read(JobResult(exit, words, 1.0)).status == "crash"
    killed = JobResult(callfn.REFUSED, f"{callfn.REFUSAL}because\n", 1.0, "timeout")
    assert made.read(killed).status == "timeout"


def test_a_function_that_hangs_is_a_timeout(tmp_path: Path) -> None:
    assert outcome(tmp_path, "hangs", timeout=1.0).status == "timeout"


@pytest.mark.parametrize("target", ["functions.py:several", "functions:several"])
def test_from_a_manifest(tmp_path: Path, target: str) -> None:
    folder = tmp_path / "task"
    folder.mkdir()
    (folder / "functions.py").write_text(FUNCTIONS + "import helper\n")
    (folder / "helper.py").write_text("")
    (folder / "task.toml").write_text(f"""
        [task]
        metric = "loss"
        kind = "function"
        [function]
        target = "{target}"
        timeout = 20
        [params.x]
        default = 0.5
        low = 0
        high = 1
        [params.n]
        default = 4
        locked = true
    """)
    made = load_task(folder)
    assert (made.name, made.seeded) == ("several", False)
    assert "n = 4" in made.brief()
    found = made.read(run(made.job({"x": 0.125}, 7), tmp_path / "jobs"))
    assert (found.value, found.metrics["seed"]) == (0.125, 0)


@pytest.mark.parametrize(
    ("target", "why"),
    [("functions", "must be module:function"), ("a b:c", "must be module:function"),
     ("m:f()", "must be module:function"), ("none.py:f", "cannot be read")],
)  # fmt: skip
def test_a_target_that_is_none(tmp_path: Path, target: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        FunctionTask(target, SPACE, Objective("loss"), folder=tmp_path)
