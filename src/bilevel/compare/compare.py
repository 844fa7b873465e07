"""Many strategies on one task and one budget: every run is an ordinary one in the store.

A comparison keeps no record of its own. Its runs are those in the store that equal what it would
begin, so that the same command goes on where any other left off, and two may go on at a time.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from bilevel import codec, mechanisms
from bilevel.assemble import Watcher, conduct
from bilevel.compare.strategies import FREE, PLAIN, broken, stack
from bilevel.errors import BilevelError, ConfigError, RunBusy
from bilevel.model import Record, Run, Stop, Trial
from bilevel.planning import Settings, enter, planned
from bilevel.protocols import LLM
from bilevel.sandbox.policy import Wall
from bilevel.tape.sharing import Sharing
from bilevel.task_jobs import find_task
from bilevel.workspace import Workspace

ENDED = ("done", "refused")  # reasons for which a run stops that there is no going on from
FAILURES = 3  # runs in a row that could not go on, after which the fault is not the strategies'
# What may differ between a run and its like. Not where the task lies: a fingerprint does not know
# the data beside a script, so that equal scripts in two folders may be two tasks.
APART: dict[str, Any] = {
    "id": "",
    "created": "",
    "machine": {},
    "sandbox": "",
    "allow_weak": False,
}
PAUSE = 1.0  # seconds between two looks at runs that another process has


@dataclass(frozen=True)
class Plan:
    """What is compared. strategies: `plain`, a mechanism, or several stacked as `tabu+mine.py`.

    task: as `bilevel run` takes it. seeds: their number, from 0; all strategies run on each.
    baselines, confirms: None for as many as the task asks for. sandbox: what holds users' files.
    hypotheses: whether proposals say why they should help.
    Raises ConfigError for a plan that makes no sense.
    """

    task: str
    strategies: tuple[str, ...]
    evals: int = 30
    seeds: int = 3
    llm: str = "embedded"
    baselines: int | None = None
    confirms: int | None = 0
    sandbox: Wall = "auto"
    hypotheses: bool = True

    def __post_init__(self) -> None:
        for label, value in (("seeds", self.seeds), ("evals", self.evals)):
            if value < 1:
                raise ConfigError(f"{label} is {value} but must be at least 1")

    def cells(self) -> list[Cell]:
        """All runs, seed by seed, so that what is there at any stop is balanced."""
        return [Cell(s, seed) for seed in range(self.seeds) for s in self.strategies]

    def settings(self, cell: Cell) -> Settings:
        """What a run is begun with; no memories of others, so that the order does not matter."""
        return Settings(
            evals=self.evals,
            seed=cell.seed,
            llm=self.llm,
            baselines=self.baselines,
            confirms=self.confirms,
            stack=stack(cell.strategy),
            remember=False,
            sandbox=self.sandbox,
            hypotheses=self.hypotheses,
        )


@dataclass(frozen=True)
class Cell:
    """One run of the plan."""

    strategy: str
    seed: int

    @property
    def free(self) -> bool:
        """Whether it is expected to make no LLM call."""
        return set(stack(self.strategy) or (PLAIN,)) <= set(FREE)


class Screen(Protocol):
    """Told how a comparison goes on; decides nothing."""

    def starts(self, cell: Cell, run: Run) -> Watcher:
        """A run begins or goes on; what is to watch it."""
        ...

    def ends(self, cell: Cell) -> None:
        """It ended, or could not go on."""
        ...

    def waits(self, cells: Sequence[Cell]) -> None:
        """All that is left is being run by other processes."""
        ...


class Comparison:
    """The runs of a plan, made one by one or found.

    runs: by cell, those that ended. problems: by cell, why there is none. shares: whether runs take
    over each other's replies, and where the task is deterministic outcomes. baselines: whether of
    any task they take over those of the baseline. since: runs created before it do not count.
    """

    def __init__(
        self,
        workspace: Workspace,
        plan: Plan,
        shares: bool = True,
        baselines: bool = False,
        since: str = "",
    ) -> None:
        self.workspace = workspace
        self.plan = plan
        self.shares = shares
        self.runs: dict[Cell, Run] = {}
        failing = {c: broken(plan.settings(c).stack) for c in plan.cells()}
        self.problems = {cell: why for cell, why in failing.items() if why}
        self._since = since
        self._kinds: dict[tuple[object, ...], Run] = {}
        cells = [c for c in failing if c not in self.problems] or list(failing)
        self.prototype = self.planned(cells[0])
        task, _ = find_task(plan.task)
        space, objective = self.prototype.space, self.prototype.objective
        self._sharing = Sharing(space, objective, task.deterministic, baselines) if shares else None
        self._cells = {identity(self.planned(c)): c for c in cells}
        self._names = {cell: name for name, cell in self._cells.items()}
        self._kin = {_kin(self.planned(c)) for c in cells}
        self._lenders: dict[str, int] = {}  # by run, its seed, of those with another stack
        self._begun: dict[str, Cell | None] = {}  # by run, None for those of no cell
        self._shared: dict[str, int] = {}  # by run, how much of its log is taken in
        self._failures = 0

    def look(self) -> None:
        """Find the runs of the plan that the store holds already."""
        for run in self.workspace.store.runs():
            if run.id not in self._begun:
                counts = run.created >= self._since
                self._begun[run.id] = self.cell_of(run) if counts else None
                if counts and self._begun[run.id] is None and _kin(run) in self._kin:
                    self._lenders[run.id] = run.seed
            cell = self._begun[run.id]
            if cell is not None and cell not in self.runs and self._ended(run):
                self.runs[cell] = run
                self.problems.pop(cell, None)

    def cell_of(self, run: Run) -> Cell | None:
        """The cell whose run this is, None for one that the plan would not make."""
        return self._cells.get(identity(run))

    def left(self) -> list[Cell]:
        """Runs that are not there yet, in order."""
        return [c for c in self.plan.cells() if c not in self.runs and c not in self.problems]

    def find(self, strategy: str, seed: int) -> Run | None:
        """The run of a cell that ended, else one that was begun; None where there is none."""
        cell = Cell(strategy, seed)
        return self.runs.get(cell) or self._open(cell)

    def failed(self, strategy: str, seed: int) -> Run | None:
        """The last run of a cell whose baseline failed, None where there is none."""
        dead = [n for n, alive in self._begun_alive(Cell(strategy, seed)).items() if not alive]
        return self.workspace.store.run(dead[-1]) if dead else None

    def logs(self) -> dict[str, list[tuple[Run, list[Record]]]]:
        """By strategy, its runs that ended, each with its log."""
        logs: dict[str, list[tuple[Run, list[Record]]]] = {s: [] for s in self.plan.strategies}
        for cell in self.plan.cells():
            if cell in self.runs:
                run = self.runs[cell]
                logs[cell.strategy].append((run, self.workspace.records(run.id)))
        return logs

    def words(self) -> dict[str, list[str]]:
        """By strategy, what kept its runs from ending, each once."""
        words: dict[str, dict[str, None]] = {}
        for cell, why in self.problems.items():
            words.setdefault(cell.strategy, {})[why] = None
        return {strategy: list(found) for strategy, found in words.items()}

    def go(self, cells: Iterable[Cell], llm: LLM, screen: Screen, wait: bool = True) -> None:
        """Make these runs. wait: for those that another process has, and make what it leaves.

        A strategy that cannot run is a problem, not the end. Raises KeyboardInterrupt when a run is
        interrupted, ConfigError when FAILURES runs in a row could not go on.
        """
        waiting = [c for c in cells if c in self._names and c not in self.runs]
        while waiting:
            busy = [cell for cell in waiting if not self._attend(cell, llm, screen)]
            if len(busy) == len(waiting):
                if not wait:
                    return
                screen.waits(busy)
                time.sleep(PAUSE)
            waiting = busy

    def _attend(self, cell: Cell, llm: LLM, screen: Screen) -> bool:
        """See to a cell; False while another process has it."""
        store = self.workspace.store
        try:
            with store.writing(self._names[cell]):
                self.look()
                if cell not in self.runs:
                    self._make(cell, llm, screen)
        except RunBusy:
            return False
        except BilevelError as error:
            self.problems[cell] = str(error)
        if self._failures == FAILURES:
            raise ConfigError(
                f"{FAILURES} runs in a row could not go on, the last because: "
                f"{self.problems[cell]}; mend it, then give the same command again"
            )
        return True

    def _make(self, cell: Cell, llm: LLM, screen: Screen) -> None:
        settings = self.plan.settings(cell)
        for name in settings.stack:
            if not name.endswith(".py"):
                mechanisms.load(name)  # a missing library must not leave an empty run behind
        run = self._open(cell) or enter(self.workspace, self.planned(cell))
        self._begun[run.id] = cell
        self._learn(cell.seed)
        stop = conduct(self.workspace, run, llm, screen.starts(cell, run), self._sharing)
        if stop.reason == "interrupted":
            raise KeyboardInterrupt
        if stop.reason in ENDED:
            self.runs[cell], self._failures = run, 0
        else:
            self.problems[cell] = f"{run.id} {stop.reason}: {stop.detail}"
            self._failures += 1
        screen.ends(cell)

    def _open(self, cell: Cell) -> Run | None:
        """The cell's run that was begun and did not end, the first if there are several.

        One whose baseline failed could only fail again, and is left.
        """
        alive = [name for name, alive in self._begun_alive(cell).items() if alive]
        return self.workspace.store.run(alive[0]) if alive else None

    def _begun_alive(self, cell: Cell) -> dict[str, bool]:
        """By the name of each run of the cell, whether its baseline has not failed."""
        begun = [name for name, c in self._begun.items() if c == cell]
        first = {name: next(self.workspace.store.read(name, Trial), None) for name in begun}
        return {name: t is None or t[1].status == "ok" for name, t in first.items()}

    def _ended(self, run: Run) -> bool:
        stops = [stop for _, stop in self.workspace.store.read(run.id, Stop)]
        return bool(stops) and stops[-1].reason in ENDED

    def _learn(self, seed: int) -> None:
        """Take in what the plan's runs on this seed logged since the last time.

        And runs with another stack, such as an earlier version of a mechanism.
        """
        if self._sharing is None:
            return
        own = [name for name, cell in self._begun.items() if cell and cell.seed == seed]
        for run in own + [name for name, at in self._lenders.items() if at == seed]:
            for number, _, _, record in self.workspace.store.events(run, self._shared.get(run, 0)):
                self._sharing.add(run, record)
                self._shared[run] = number + 1

    def planned(self, cell: Cell) -> Run:
        """The run that the cell would begin, without a name."""
        settings = self.plan.settings(cell)
        kind = cell.strategy, settings.stack, settings.loan
        if kind not in self._kinds:
            self._kinds[kind] = planned(self.workspace, self.plan.task, settings)
        return replace(self._kinds[kind], seed=cell.seed)


def _kin(run: Run) -> str:
    """Equal for runs that differ in seed and stack at most, besides what `identity` leaves out."""
    return identity(replace(run, seed=0, stack=(), states={}, sources={}))


def identity(run: Run) -> str:
    """Equal for runs that differ in name, time and machine only; plain, for it names a lock."""
    same = replace(run, **APART)
    return f"compare-{hashlib.sha256(codec.dump(same).encode()).hexdigest()[:40]}"
