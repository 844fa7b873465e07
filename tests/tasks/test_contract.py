"""The shipped tasks keep the contract of a task."""

from pathlib import Path

import pytest

from bilevel.conformance.task import TaskSuite
from bilevel.protocols import Task
from bilevel.space import Values
from bilevel.tasks.builtin import BUILTIN
from bilevel.tasks.loading import load_task
from resumable import SCRIPT, TASK

EXAMPLES = Path(__file__).parents[2] / "examples"


class TestGpt(TaskSuite):
    def task(self) -> Task:
        return load_task(BUILTIN["gpt"])

    def good(self) -> list[Values]:
        return [{**self.task().space.defaults(), "TOTAL_BATCH_SIZE": 2048, "MATRIX_LR": 0.05}]


class TestScript(TaskSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        (tmp_path / "train.py").write_text(SCRIPT)
        (tmp_path / "task.toml").write_text(TASK)
        self.folder = tmp_path

    def task(self) -> Task:
        return load_task(self.folder)

    def good(self) -> list[Values]:
        return [{"RATE": 0.3, "BATCH": 512}]


class TestFunction(TaskSuite):
    def task(self) -> Task:
        return load_task(EXAMPLES / "function")

    def good(self) -> list[Values]:
        return [{"X": 3.0, "Y": 2.0}]
