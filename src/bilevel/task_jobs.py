"""Tasks by name, what identifies them, and single evaluations of them outside of any run."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bilevel.errors import ConfigError
from bilevel.evaluate import Evaluated, Evaluator, InlineEvaluator, JobEvaluator
from bilevel.executors.local import LocalExecutor
from bilevel.model import Outcome, Run, Trial
from bilevel.protocols import Executor, Task
from bilevel.rerun import Rerun, rerun
from bilevel.tasks import builtin
from bilevel.tasks.function import FunctionTask
from bilevel.tasks.loading import load_task


def find_task(name: str) -> tuple[Task, str]:
    """The task of a built-in name or a path, and the name or whole path to find it by again.

    Raises ConfigError where there is none.
    """
    shipped = builtin.find(name)
    if shipped is not None:
        return shipped, name
    path = Path(name)
    if not path.suffix and not path.exists():
        raise ConfigError(
            f"there is no task {name!r}; give {', '.join(builtin.names())}, a BBOB function (as "
            "bbob-f8-d5), a task.toml, a folder with one, or a script"
        )
    return load_task(path), str(path.resolve())


def evaluator_of(task: Task, executor: Executor) -> Evaluator:
    """Calls a task that is a quick, trusted function here; has any other run as a job."""
    if isinstance(task, FunctionTask) and task.inline:
        return InlineEvaluator(task)
    return JobEvaluator(task, executor)


def at_a_time(task: Task, slots: int) -> int:
    """How many evaluations of the task run at a time, of so many that may."""
    return 1 if isinstance(task, FunctionTask) and task.inline else slots


def try_baseline(name: str) -> Outcome:
    """What one evaluation of a task's own values gives, outside of any run. Raises as below."""
    return _baseline(name).outcome


def timed_baseline(name: str) -> float:
    """Seconds that one evaluation of a task's own values takes, outside of any run.

    Raises ConfigError when it fails, so that its time means nothing.
    """
    ended = _baseline(name)
    if ended.outcome.status != "ok":
        raise ConfigError(
            f"the task with its own values ended as {ended.outcome.status}: "
            f"{ended.outcome.error}; mend the task first"
        )
    return ended.seconds


def _baseline(name: str) -> Evaluated:
    """One evaluation of a task's own values.

    Raises ConfigError or ExecutorError when it cannot even start.
    """
    task, _ = find_task(name)
    with tempfile.TemporaryDirectory() as folder:
        executor = LocalExecutor(Path(folder))
        evaluator = evaluator_of(task, executor)
        evaluator.start(0, task.space.defaults(), 0)
        try:
            while not (ended := evaluator.finished()):
                pass
        finally:
            executor.close()
    return ended[0]


def rerun_jobs(
    run: Run, trials: Sequence[Trial], source: str, starting: Callable[[Trial], None]
) -> Iterator[Rerun]:
    """Each trial of a recorded run evaluated again, of the task in `source`, in order.

    Raises ConfigError where that is not the run's task, and ExecutorError.
    """
    task, _ = find_task(source)
    if fingerprint(task) != run.fingerprint:
        raise ConfigError(
            f"{source} is not the task of {run.id} as it was, so its scores would say nothing of "
            "that run's; give the right one with --task"
        )
    with tempfile.TemporaryDirectory() as folder:
        executor = LocalExecutor(Path(folder), slots=run.slots)
        try:
            yield from rerun(trials, run.objective, evaluator_of(task, executor), starting)
        finally:
            executor.close()


def fingerprint(task: Task) -> str:
    """sha256 of what the task runs and says, the same on any machine."""
    job = task.job(task.space.defaults(), 0)
    parts = [dict(job.files), job.timeout, task.brief(), repr(task.space), repr(task.objective)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
