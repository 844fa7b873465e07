"""Inline functions: called here, with the outcome that their job has."""

from pathlib import Path
from typing import Any

import pytest
from test_script import run

from bilevel.conformance.task import TaskSuite
from bilevel.errors import ConfigError
from bilevel.model import Objective, Outcome
from bilevel.space import Param, Space, Values
from bilevel.tasks.function import FunctionTask
from bilevel.tasks.loading import load_task

HERE = Path(__file__).parent
SPACE = Space((Param("x", "float", 0.5, 0.0, 1.0), Param("n", "int", 2, 1, 8)))
GOOD: Values = {"x": 0.7, "n": 3}


def task(name: str, seeded: bool = True) -> FunctionTask:
    target = f"inline_functions:{name}"
    env = {"PYTHONPATH": str(HERE)}
    return FunctionTask(target, SPACE, Objective("loss"), env=env, seeded=seeded, inline=True)


class TestInline(TaskSuite):
    @pytest.fixture(autouse=True, params=[True, False])
    def _seeded(self, request: pytest.FixtureRequest) -> None:
        self.seeded = request.param

    def task(self) -> FunctionTask:
        return task("square", self.seeded)

    def good(self) -> list[Values]:
        return [GOOD]


@pytest.mark.parametrize("name", ["square", "several", "nan", "infinite", "other", "refuses"])
def test_the_outcome_is_that_of_the_job(tmp_path: Path, name: str) -> None:
    made = task(name)
    assert made.call(GOOD, 7) == made.read(run(made.job(GOOD, 7), tmp_path))


def test_outcomes() -> None:
    assert task("square").call({"x": 0.75, "n": 2}, 7) == Outcome("ok", 0.5, {"loss": 0.5})
    metrics = {"loss": 0.7, "seed": 7, "third": 1 / 3}
    assert task("several").call(GOOD, 7) == Outcome("ok", 0.7, metrics)
    assert task("several", seeded=False).call(GOOD, 7).metrics["seed"] == 0
    assert task("nan").call(GOOD, 7) == Outcome("crash", None, error="loss is nan")
    assert task("other").call(GOOD, 7).status == "crash"
    refused = Outcome("invalid", None, error="x is 0.7 but n is 3")
    assert task("refuses").call(GOOD, 7) == refused


def test_values_outside_the_space_are_invalid() -> None:
    found = task("square").call({"x": 1.5, "n": 2}, 7)
    assert (found.status, found.value) == ("invalid", None)
    assert found.error.startswith("x is 1.5 but its range is 0 to 1")


def test_a_float_that_changes_is_checked_as_what_it_becomes() -> None:
    class Changing(float):
        def __float__(self) -> float:
            return 1.5

    values: dict[str, Any] = {"x": Changing(0.5), "n": 2}
    assert task("square").call(values, 7).status == "invalid"


@pytest.mark.parametrize(
    ("name", "error"), [("raises", ZeroDivisionError), ("text", TypeError), ("forges", TypeError)]
)
def test_a_bug_is_let_through(name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        task(name).call(GOOD, 7)


@pytest.mark.parametrize("target", ["inline_functions:missing", "no_such_module:f"])
def test_a_function_that_cannot_be_imported(target: str) -> None:
    made = FunctionTask(target, SPACE, Objective("loss"), inline=True)
    with pytest.raises(ConfigError, match="set inline = false"):
        made.call(GOOD, 7)


def test_a_file_is_not_inline(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text("def f(values, seed): return 1")
    with pytest.raises(ConfigError, match="must be module:function"):
        FunctionTask("f.py:f", SPACE, Objective("loss"), folder=tmp_path, inline=True)


@pytest.mark.parametrize("yes", [True, False])
def test_from_a_manifest(tmp_path: Path, yes: bool) -> None:
    word = str(yes).lower()
    (tmp_path / "task.toml").write_text(f"""
        [task]
        metric = "loss"
        kind = "function"
        [function]
        target = "inline_functions:square"
        inline = {word}
        [noise]
        deterministic = {word}
        [params.x]
        default = 0.5
        low = 0
        high = 1
        [params.n]
        default = 4
        low = 1
        high = 8
    """)
    made = load_task(tmp_path)
    assert isinstance(made, FunctionTask)
    assert (made.inline, made.deterministic) == (yes, yes)
    assert made.call({"x": 0.75, "n": 2}, 0).value == 0.5
