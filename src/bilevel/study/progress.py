"""How far a study is, and how long the rest may take, from the times at which its logs grew."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bilevel.compare.compare import Cell
from bilevel.model import Call, Record, Run, Trial
from bilevel.study.harness import Study, is_free, model_of
from bilevel.study.workers import EMBEDDED

SLACK = 60.0  # seconds between two records beyond what the second one took; more was a pause


@dataclass(frozen=True)
class ArmStanding:
    """An arm on a task. open: begun and not ended. seconds: of its ended runs, without pauses and
    without what they took over from others; mean, None before the first. problems: why runs are
    missing."""

    task: str
    arm: str
    about: str
    done: int
    open: int
    wanted: int
    seconds: float | None
    problems: tuple[str, ...]


class Pace:
    """What the runs of a study took so far; each log is read once."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._taken: dict[str, float] = {}  # seconds, by run that ended

    def taken(self, run: Run) -> float:
        """Seconds of an ended run."""
        if run.id not in self._taken:
            events = self._study.workspace.store.events(run.id)
            log = [(at, record) for _, _, at, record in events]
            self._taken[run.id] = worked(datetime.fromisoformat(run.created), log)
        return self._taken[run.id]

    def arm(self, task: str, arm: str) -> list[float]:
        """Seconds of an arm's ended runs on a task."""
        runs = self._study.comparisons[task].runs
        return [self.taken(run) for cell, run in runs.items() if cell.strategy == arm]

    def left(self, parallel: int = 1) -> float | None:
        """Seconds until the study is whole, None before the first run ended."""
        file, every, asking = self._study.file, 0.0, 0.0
        for (task, cell), count in Counter(
            (task, Cell(cell.strategy, 0)) for task, cell in self._study.left()
        ).items():
            mean = self._expected(task, cell.strategy)
            if mean is None:
                return None
            every += count * mean
            if model_of(file.arms[cell.strategy], file.study.llm).startswith(EMBEDDED):
                asking += count * mean
        return max(every / parallel, asking)

    def _expected(self, task: str, arm: str) -> float | None:
        """Mean seconds of the arm on the task, else of the likest runs there are."""
        arms = self._study.file.arms
        alike = [a for a in arms if is_free(arms[a]) == is_free(arms[arm])]
        tasks = list(self._study.comparisons)
        for among in (
            [(task, arm)],
            [(task, a) for a in alike],
            [(t, a) for t in tasks for a in alike],
            [(t, a) for t in tasks for a in arms],
        ):
            if seconds := [s for t, a in among for s in self.arm(t, a)]:
                return statistics.fmean(seconds)
        return None


def worked(created: datetime, log: Sequence[tuple[datetime | None, Record]]) -> float:
    """Seconds in which a run went on, pauses and what it took over from other runs left out."""
    total, before = 0.0, created
    for at, record in log:
        if at is None:
            continue
        own = record.seconds if isinstance(record, Trial) else 0.0
        own = record.reply.seconds if isinstance(record, Call) else own
        total += min(max(0.0, (at - before).total_seconds()), own + SLACK)
        before = at
    return total


def standing(study: Study, pace: Pace) -> list[ArmStanding]:
    """Every arm on every task, in the file's order."""
    found = []
    for task, comparison in study.comparisons.items():
        for arm, section in study.file.arms.items():
            cells = [c for c in comparison.plan.cells() if c.strategy == arm]
            done = [c for c in cells if c in comparison.runs]
            begun = [c for c in cells if c not in done and comparison.find(arm, c.seed)]
            seconds = pace.arm(task, arm)
            why = [comparison.problems[c] for c in cells if c in comparison.problems]
            unmade = [c for c in cells if c not in comparison.runs]
            dead = [run for c in unmade if (run := comparison.failed(arm, c.seed))]
            why += [f"{run.id}: its baseline failed; why: bilevel show {run.id}" for run in dead]
            found.append(
                ArmStanding(
                    task=task,
                    arm=arm,
                    about=section.about or "",
                    done=len(done),
                    open=len(begun),
                    wanted=len(cells),
                    seconds=statistics.fmean(seconds) if seconds else None,
                    problems=tuple(dict.fromkeys(why)),
                )
            )
    return found
