"""The suite for tasks passes a right task, and finds what is wrong with others."""

import itertools
import math
import re
from collections.abc import Callable

import pytest

from bilevel.conformance.task import TaskSuite
from bilevel.model import Job, JobResult, Objective, Outcome, Param, Space, Values


class Toy:
    """A task whose job prints `loss: X`."""

    name = "toy"
    objective = Objective("loss")
    seeded = True
    baselines = 2
    confirms = 2
    space = Space((Param("depth", "int", 4, 1, 8), Param("act", "choice", "a", choices=("a", "b"))))

    def brief(self) -> str:
        return "Make the loss low."

    def job(self, values: Values, seed: int) -> Job:
        checked = self.space.check(values)
        return Job(("train", str(seed), *map(str, checked.values())), collect=("loss.txt",))

    def read(self, result: JobResult) -> Outcome:
        if result.killed == "timeout":
            return Outcome("timeout", None, error="it took too long")
        found = re.findall(r"^loss: ([0-9]+\.[0-9]+)$", result.output, re.MULTILINE)
        if result.exit != 0 or not found:
            return Outcome("crash", None, error="it printed no loss")
        return Outcome("ok", float(found[-1]), {"loss": float(found[-1])})


class TestToy(TaskSuite):
    def task(self) -> Toy:
        return Toy()

    def good(self) -> list[Values]:
        return [{"depth": 2, "act": "b"}]


class Silent(Toy):
    def brief(self) -> str:
        return " "


class OutsideDefault(Toy):
    space = Space((Param("depth", "int", 9, 1, 8),))


class Impure(Toy):
    count = itertools.count()

    def job(self, values: Values, seed: int) -> Job:
        return Job(("train", str(next(self.count)), *map(str, self.space.check(values).values())))


class Seedless(Toy):
    def job(self, values: Values, seed: int) -> Job:
        return super().job(values, 0)


class Deaf(Toy):
    def job(self, values: Values, seed: int) -> Job:
        self.space.check(values)
        return Job(("train", str(seed)))


class Unchecked(Toy):
    def job(self, values: Values, seed: int) -> Job:
        return Job(("train", str(seed), *map(str, values.values())))


class Raising(Toy):
    def read(self, result: JobResult) -> Outcome:
        value = float(result.output.partition("loss: ")[2])
        return Outcome("ok", value, {"loss": value})


class Hopeful(Toy):
    def read(self, result: JobResult) -> Outcome:
        return super().read(JobResult(0, result.output, result.seconds))


class Infinite(Toy):
    def read(self, result: JobResult) -> Outcome:
        return Outcome("crash", None, {"loss": math.nan}, "none")


@pytest.mark.parametrize(
    ("task", "test"),
    [
        (Silent, TaskSuite.test_it_says_what_a_proposer_must_know),
        (OutsideDefault, TaskSuite.test_the_defaults_keep_the_spaces_rules),
        (Impure, TaskSuite.test_a_job_depends_on_values_and_seed_only),
        (Seedless, TaskSuite.test_the_seed_matters_just_where_it_says),
        (Deaf, TaskSuite.test_other_values_make_another_job),
        (Unchecked, TaskSuite.test_values_outside_the_space_are_refused),
        (Raising, TaskSuite.test_any_result_is_read),
        (Infinite, TaskSuite.test_any_result_is_read),
        (Hopeful, TaskSuite.test_a_failed_job_is_no_success),
    ],
    ids=lambda part: part.__name__,
)
def test_the_suite_finds_what_is_wrong(task: type[Toy], test: Callable[[TaskSuite], None]) -> None:
    class Suite(TestToy):
        def task(self) -> Toy:
            return task()

    with pytest.raises(Exception):  # noqa: B017, PT011 (an assertion, or the task's own error)
        test(Suite())
    test(TestToy())
