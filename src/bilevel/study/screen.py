"""What a terminal or a log shows while a study goes on: which runs ended, and no results."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from bilevel.assemble import Watcher
from bilevel.compare.compare import Cell
from bilevel.compare.output import clock
from bilevel.compare.screen import Watching
from bilevel.model import Run
from bilevel.study.harness import Study
from bilevel.study.progress import Pace


class StudyScreen:
    """Says which runs ended, by whatever process, and what goes on now; no results."""

    def __init__(self, made: Study, console: Console, parallel: int) -> None:
        self._study = made
        self._console = console
        self._parallel = parallel
        self._pace = Pace(made)
        self._status = console.status("starting")
        self._said = self._ended()

    def __enter__(self) -> StudyScreen:
        study, done = self._study.file.study, len(self._said)
        wanted = done + len(self._study.left())
        self._console.print(
            f"{study.name}: {wanted} runs, {done} there already; "
            f"{len(self._study.comparisons)} tasks, {len(study.arms)} arms, "
            f"{study.repeats} repeats of {study.evals} evaluations"
        )
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._look()
        self._status.stop()

    def starts(self, cell: Cell, run: Run) -> Watcher:
        self._say(f"{run.id}: {cell.strategy}, seed {cell.seed}")
        return Watching(cell, run, self._say)

    def ends(self, cell: Cell) -> None:
        self._look()

    def waits(self, cells: Sequence[Cell]) -> None:
        self._say(f"waiting for {len(cells)} runs that other processes make")
        self._study.look()
        self._look()

    def _say(self, text: str) -> None:
        self._status.update(Text(text))

    def _ended(self) -> dict[str, tuple[str, Cell]]:
        every = self._study.comparisons.items()
        return {run.id: (task, cell) for task, c in every for cell, run in c.runs.items()}

    def _look(self) -> None:
        ended = self._ended()
        runs = {r.id: r for c in self._study.comparisons.values() for r in c.runs.values()}
        left = self._study.left()
        new = [name for name in ended if name not in self._said]
        for number, name in enumerate(new, len(self._said) + 1):
            task, cell = ended[name]
            took = clock(self._pace.taken(runs[name]))
            rest = self._pace.left(self._parallel)
            about = f"; about {clock(rest)} left" if rest else ""
            self._console.print(
                f"[{number}/{len(ended) + len(left)}] {cell.strategy} on {task}, seed "
                f"{cell.seed}: {name}, {took}{about}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
        self._said = ended
