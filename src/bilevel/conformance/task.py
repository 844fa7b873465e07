"""What every task keeps to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from bilevel.conformance import refuses
from bilevel.errors import InvalidCandidate
from bilevel.model import JobResult, Status
from bilevel.protocols import Task
from bilevel.space import Param, Values

TEXTS = (
    "",
    "\n\n",
    "\0\ufffd\r\r\r\x1b[31m",
    "Traceback (most recent call last):\nRuntimeError: CUDA out of memory",
    "---\n",
    "{" * 10_000,
    "[" * 10_000,
    "1" * 100_000,
    '{"a": NaN, "b": Infinity}',
    "FAIL\n",
)
FIGURES = ("nan", "inf", "-inf", "1e999", "", "abc", "0x10", "--3", "1,5", "1.5.2", "٣")


class TaskSuite:
    """`task` makes the task. `good`: configurations it must accept, besides its defaults."""

    def task(self) -> Task:
        raise NotImplementedError

    def good(self) -> list[Values]:
        return []

    def accepted(self) -> list[Values]:
        """The defaults and what `good` gives."""
        return [self.task().space.defaults(), *self.good()]

    def test_it_says_what_a_proposer_must_know(self) -> None:
        task = self.task()
        assert task.name
        assert task.brief().strip()
        assert task.objective.metric
        assert task.objective.direction in ("min", "max")
        assert len(task.space) > 0
        assert task.baselines >= 2
        assert task.confirms >= 0

    def test_two_of_the_task_are_alike(self) -> None:
        one, two = self.task(), self.task()
        assert (one.name, one.space, one.objective) == (two.name, two.space, two.objective)
        assert one.brief() == two.brief()

    def test_the_defaults_keep_the_spaces_rules(self) -> None:
        space = self.task().space
        checked = space.check(space.defaults())
        assert checked == space.defaults()
        assert [type(v) for v in checked.values()] == [type(p.default) for p in space]

    def test_a_job_depends_on_values_and_seed_only(self) -> None:
        task = self.task()
        for values in self.accepted():
            before = dict(values)
            first = task.job(values, 1)
            task.job(task.space.defaults(), 2)
            assert task.job(values, 1) == first
            assert self.task().job(values, 1) == first
            assert dict(values) == before

    def test_the_seed_matters_just_where_it_says(self) -> None:
        task = self.task()
        values = task.space.defaults()
        assert (task.job(values, 1) != task.job(values, 2)) == task.seeded

    def test_other_values_make_another_job(self) -> None:
        task = self.task()
        jobs = [task.job(values, 1) for values in self.accepted()]
        keys = [task.space.key(task.space.check(values)) for values in self.accepted()]
        for i, key in enumerate(keys):
            for j in range(i):
                assert (jobs[i] != jobs[j]) == (key != keys[j])

    def test_a_job_can_be_run(self) -> None:
        task = self.task()
        for values in self.accepted():
            job = task.job(values, 1)
            assert job.command
            assert all(isinstance(part, str) for part in job.command)
            assert 0 < job.timeout < math.inf
            assert job.max_output > 0

    def test_values_outside_the_space_are_refused(self) -> None:
        task = self.task()
        for values in wrong(task):
            with refuses(InvalidCandidate):
                task.job(values, 1)

    def test_any_result_is_read(self) -> None:
        task = self.task()
        for result in results(task):
            outcome = task.read(result)
            assert task.read(result) == outcome
            assert outcome.status in get_args(Status)
            assert (outcome.value is not None) == (outcome.status == "ok")
            assert outcome.value is None or math.isfinite(outcome.value)
            assert all(math.isfinite(value) for value in outcome.metrics.values())
            assert (outcome.error == "") == (outcome.status == "ok")

    def test_a_failed_job_is_no_success(self) -> None:
        task = self.task()
        for result in results(task):
            if result.exit != 0 or result.killed:
                assert task.read(result).status != "ok", result
            if result.killed == "timeout":
                assert task.read(result).status == "timeout", result

    def test_a_job_that_says_nothing_is_no_success(self) -> None:
        assert self.task().read(JobResult(0, "", 1.0)).status == "crash"


def wrong(task: Task) -> Iterator[dict[str, Any]]:
    """Configurations that break one rule of the space each."""
    values = task.space.defaults()
    first = task.space.names[0]
    yield {name: value for name, value in values.items() if name != first}
    yield {**values, "no_such_parameter": 1}
    for param in task.space:
        for value in bad_values(param):
            yield {**values, param.name: value}


def bad_values(param: Param) -> list[Any]:
    """Values that a parameter cannot have."""
    if param.kind == "text":
        return [1, None]
    if param.kind == "choice":
        return [None, "no such choice", object()]
    low, high = param.bounds
    numbers = [math.nan, math.inf, True, str(param.default), None]
    return numbers + [n for n in (low - 1, high + 1) if math.isfinite(n)]


def results(task: Task) -> Iterator[JobResult]:
    """Ends of jobs, most of them bad, with every text and figure above."""
    metric = task.objective.metric
    texts = list(TEXTS)
    for figure in FIGURES:
        texts += [f"---\n{metric}: {figure}\n", f"METRIC {metric}={figure}\n"]
        texts += [f'{{"{metric}": {figure}}}\n', f"step 1 {metric}: 1.0\r{metric}: {figure}"]
    texts += [f"---\n{metric}: 1.5\n", f"METRIC {metric}=1.5\n", f'{{"{metric}": 1.5}}\n']
    for text in texts:
        files: Mapping[str, str] = dict.fromkeys(task.job(task.space.defaults(), 1).collect, text)
        for output in ({}, files):
            yield JobResult(0, text, 1.0, files=output)
            yield JobResult(1, text, 1.0, files=output)
            yield JobResult(-9, text, 1.0, "timeout", output)
            yield JobResult(-9, text, 1.0, "output", output)
            yield JobResult(-9, text, 1.0, "stopped", output)
