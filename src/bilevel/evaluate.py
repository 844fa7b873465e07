"""Turns configurations into outcomes: by running jobs, or by looking them up in a record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from bilevel.errors import InvalidCandidate, StoreError
from bilevel.model import Draft, Objective, Outcome, Role, Trial, Values
from bilevel.protocols import Executor, InlineTask, Task
from bilevel.space import Space

POLL = 0.2


@dataclass(frozen=True)
class Request:
    """One evaluation to make."""

    values: Values
    seed: int
    role: Role
    draft: Draft | None = None


@dataclass(frozen=True)
class Evaluated:
    """The outcome of one configuration; seconds of wall-clock time."""

    key: int
    outcome: Outcome
    seconds: float


class Evaluator(Protocol):
    """Evaluates configurations, up to `slots` at a time."""

    slots: int

    def start(self, key: int, values: Values, seed: int) -> None: ...

    def finished(self) -> list[Evaluated]:
        """Those that ended since the last call; may wait a moment, may be empty."""
        ...


class JobEvaluator:
    """Runs a task's jobs on an executor. Values that the task refuses are invalid, not run."""

    def __init__(self, task: Task, executor: Executor) -> None:
        self.slots = executor.slots
        self._task = task
        self._executor = executor
        self._refused: list[Evaluated] = []

    def start(self, key: int, values: Values, seed: int) -> None:
        """Begin one evaluation. Raises ExecutorError when it cannot be started."""
        try:
            job = self._task.job(values, seed)
        except InvalidCandidate as error:
            self._refused.append(Evaluated(key, Outcome("invalid", None, error=str(error)), 0.0))
            return
        self._executor.submit(key, job)

    def finished(self) -> list[Evaluated]:
        """Refused ones at once, else the jobs that end within a moment."""
        if self._refused:
            done, self._refused = self._refused, []
            return done
        ended = self._executor.wait(POLL)
        return [Evaluated(key, self._task.read(r), r.seconds) for key, r in ended]


class InlineEvaluator:
    """Calls a task's function in this process: no job, no files, and no time limit."""

    def __init__(self, task: InlineTask) -> None:
        self.slots = 1
        self._task = task
        self._done: list[Evaluated] = []

    def start(self, key: int, values: Values, seed: int) -> None:
        """Evaluate at once. An exception of the function is a bug in it, and is let through."""
        begun = time.perf_counter()
        outcome = self._task.call(values, seed)
        self._done.append(Evaluated(key, outcome, time.perf_counter() - begun))

    def finished(self) -> list[Evaluated]:
        """All that were started."""
        done, self._done = self._done, []
        return done


class RecordedEvaluator:
    """Gives the outcomes that a run recorded, each to the trial of its number.

    The same values and seed may have been measured more than once, each time with an outcome of
    its own. slots: as in that run.
    """

    def __init__(
        self, trials: Iterable[Trial], space: Space, objective: Objective, slots: int = 1
    ) -> None:
        self.slots = slots
        self._space = space
        self._objective = objective
        self._trials = {t.id: t for t in trials}
        self._ready: list[Evaluated] = []
        self._missing = ""

    def start(self, key: int, values: Values, seed: int) -> None:
        """Look one up: the run's trial of that number, if it is of these values and this seed."""
        trial, wanted = self._trials.get(key), (self._space.key(values), seed)
        if trial is None or (self._space.key(trial.values), trial.seed) != wanted:
            # Where the log ends among several that ran at a time, those before it stand.
            self._missing = self._missing or (
                f"the record has no evaluation of {dict(values)} with seed {seed} as trial {key}"
            )
            return
        value = None if trial.score is None else self._objective.value(trial.score)
        outcome = Outcome(trial.status, value, trial.metrics, trial.error)
        self._ready.append(Evaluated(key, outcome, trial.seconds))

    def finished(self) -> list[Evaluated]:
        """All that were found; raises StoreError where there is none, as the run has no such."""
        if self._missing and not self._ready:
            raise StoreError(self._missing)
        done, self._ready = self._ready, []
        return done


def run_all(
    evaluator: Evaluator,
    objective: Objective,
    requests: list[Request],
    first: int,
    starting: Callable[[int, Request], None],
) -> Iterator[Trial]:
    """Trials numbered from `first`, in the order of the requests, not of their ending.

    `starting` is told of each before it starts. None of the trials is marked as kept.
    """
    done: dict[int, Evaluated] = {}
    started = 0
    for turn, request in enumerate(requests):
        while turn not in done:
            while started < len(requests) and started - len(done) < evaluator.slots:
                starting(first + started, requests[started])
                evaluator.start(first + started, requests[started].values, requests[started].seed)
                started += 1
            done.update({e.key - first: e for e in evaluator.finished()})
        yield _trial(first + turn, request, done[turn], objective)


def _trial(key: int, request: Request, ended: Evaluated, objective: Objective) -> Trial:
    outcome = ended.outcome
    return Trial(
        id=key,
        draft=request.draft,
        values=request.values,
        status=outcome.status,
        score=None if outcome.value is None else objective.score(outcome.value),
        metrics=outcome.metrics,
        seconds=ended.seconds,
        seed=request.seed,
        kept=False,
        error=outcome.error,
        role=request.role,
    )
