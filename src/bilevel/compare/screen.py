"""What a terminal or a log shows while a comparison goes on."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.text import Text

from bilevel.assemble import Watcher
from bilevel.compare.compare import Cell, Comparison
from bilevel.compare.comparison import RunFigures, run_figures
from bilevel.compare.output import clock
from bilevel.describe import number
from bilevel.model import Phase, Record, Run

__all__ = ["CompareScreen", "Watching"]

DOING = {"propose": "asks for a proposal", "baseline": "measures its baseline"}


class CompareScreen:
    """A line for each run that ended, and on a terminal what goes on now."""

    def __init__(self, comparison: Comparison, console: Console, parallel: int) -> None:
        self._comparison = comparison
        self._console = console
        self._parallel = parallel
        self._status = console.status("starting")
        self._figures: dict[str, RunFigures | None] = {}
        self._began = time.monotonic()
        self._seconds: dict[bool, list[float]] = {True: [], False: []}  # of runs, by `free`

    def __enter__(self) -> CompareScreen:
        cells, left = self._comparison.plan.cells(), self._comparison.left()
        self._console.print(
            f"{len(cells)} runs of {len(self._comparison.plan.strategies)} strategies, "
            f"{len(cells) - len(left)} there already"
        )
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def starts(self, cell: Cell, run: Run) -> Watcher:
        self._began = time.monotonic()
        return Watching(cell, run, self._say)

    def ends(self, cell: Cell) -> None:
        seconds = time.monotonic() - self._began
        self._seconds[cell.free].append(seconds)
        line = self._line(cell, seconds)
        if self._console.is_terminal:
            self._console.print(line, no_wrap=True, overflow="ellipsis")
        else:
            self._console.print(line, soft_wrap=True)

    def waits(self, cells: Sequence[Cell]) -> None:
        self._say(f"waiting for {len(cells)} runs that another process makes")

    def _say(self, text: str) -> None:
        self._status.update(Text(text))

    def _line(self, cell: Cell, seconds: float) -> Text:
        done, all_cells = len(self._comparison.runs), len(self._comparison.plan.cells())
        line = Text(f"[{done}/{all_cells}] ", style="dim")
        line.append(f"{cell.strategy}, seed {cell.seed}: ", style="default")
        if cell in self._comparison.problems:
            return line.append(self._comparison.problems[cell], style="red")
        figures = self._known()[self._comparison.runs[cell].id]
        assert figures is not None, "a run whose baseline failed is a problem"
        objective = self._comparison.prototype.objective
        found = f"{objective.metric} {number(figures.best)}, gain {number(figures.gain)}"
        best = max((f.best for f in self._figures.values() if f), key=objective.score)
        rest = f"; {clock(seconds)}, about {clock(self._left())} left; best so far {number(best)}"
        return line.append(found, style="bold").append(rest)

    def _known(self) -> dict[str, RunFigures | None]:
        for run in self._comparison.runs.values():
            if run.id not in self._figures:
                records = self._comparison.workspace.records(run.id)
                self._figures[run.id] = run_figures(run, records)
        return self._figures

    def _left(self) -> float:
        """Seconds to go, at the pace so far of runs with and of runs without an LLM."""
        every = statistics.fmean([*self._seconds[True], *self._seconds[False]])
        pace = {k: statistics.fmean(s) if s else every for k, s in self._seconds.items()}
        pace[True] /= self._parallel
        return sum(pace[cell.free] for cell in self._comparison.left())


class Watching:
    """Says of a run how far it is."""

    def __init__(self, cell: Cell, run: Run, say: Callable[[str], None]) -> None:
        self._name = f"{run.id}: {cell.strategy}, seed {cell.seed}"
        self._run = run
        self._say = say

    def phase(self, phase: Phase) -> None:
        """Say what begins now."""
        doing = DOING.get(phase.kind, phase.kind)
        if phase.kind == "search" and phase.trial is not None:
            doing = f"evaluation {phase.trial - self._run.baselines + 1} of {self._run.evals}"
        self._say(f"{self._name}, {doing}")

    def record(self, record: Record) -> None:
        pass
