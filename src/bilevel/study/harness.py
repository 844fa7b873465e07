"""A study: arms x repeats on tasks, in an order that favours none, each run in the store as usual.

The runs of one task and seed form a block and are made one after another, so that what two of them
have in common is paid for once; blocks may be made at the same time, by several processes.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from bilevel.compare.compare import PAUSE, Cell, Comparison, Plan, Screen
from bilevel.compare.strategies import FREE, PLAIN
from bilevel.errors import ConfigError, RunBusy
from bilevel.levels import NO_LLM, chosen
from bilevel.model import Borrowed, OuterPlan, Run
from bilevel.planning import Settings, with_writes
from bilevel.protocols import LLM
from bilevel.sandbox.policy import Wall
from bilevel.seeds import generator
from bilevel.study.builds import Ledger, Noting, path_of
from bilevel.study.file import StudyFile
from bilevel.study.sections import ArmSection, OuterSection
from bilevel.workspace import Workspace

Models = Callable[[str], LLM]  # the model of a spec, opened at its first request
Loans = Mapping[tuple[str, str, int], tuple[Borrowed, ...]]  # by task, arm and seed


@dataclass(frozen=True)
class Block:
    """All arms of one task and repeat, in the order in which they are made."""

    task: str
    repeat: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class ArmPlan(Plan):
    """What the arms of a study do on one task; a cell's strategy is an arm's name.

    loans: what of the library an arm's run is given. It grows with every run, and what an arm takes
    from it must not depend on which ran before; so it is chosen once, when the study begins.
    """

    arms: Mapping[str, ArmSection] = field(default_factory=dict)
    outer: OuterSection = field(default_factory=OuterSection)
    loans: Mapping[tuple[str, int], tuple[Borrowed, ...]] = field(default_factory=dict)
    first_seed: int = 0
    slots: int = 1
    allow_weak: bool = False

    def cells(self) -> list[Cell]:
        """All runs, repeat by repeat, the arms in the file's order."""
        seeds = range(self.first_seed, self.first_seed + self.seeds)
        return [Cell(arm, seed) for seed in seeds for arm in self.strategies]

    def settings(self, cell: Cell) -> Settings:
        """What a run of an arm is begun with."""
        arm = self.arms[cell.strategy]
        return Settings(
            evals=self.evals,
            seed=cell.seed,
            llm=model_of(arm, self.llm),
            slots=self.slots,
            baselines=self.baselines,
            confirms=self.confirms,
            stack=arm.stack or (),
            remember=False,
            states={name: json.dumps(given) for name, given in (arm.constants or {}).items()},
            outer=_outer(arm, self.llm, self.outer),
            library=arm.library or "",
            loan=self.loans.get((cell.strategy, cell.seed), ()),
            allow_weak=self.allow_weak,
            sandbox=self.sandbox,
            hypotheses=self.hypotheses,
        )


def model_of(arm: ArmSection, llm: str) -> str:
    """The model of an arm; none for optimisers that write all values themselves."""
    return arm.llm or (NO_LLM if is_free(arm) else llm)


def is_free(arm: ArmSection) -> bool:
    """Whether the arm asks no LLM."""
    alone = (arm.levels or "1") == "1" and not arm.library
    return alone and set(arm.stack or (PLAIN,)) <= set(FREE)


def _outer(arm: ArmSection, llm: str, common: OuterSection) -> OuterPlan:
    given = {**common.given(), **arm.outer.given()}
    plan = chosen(arm.levels or "1", arm.llm or llm, arm.sham or False)
    # Without outer levels their settings would only make equal runs look different.
    if arm.levels in (None, "1"):
        return plan
    return replace(with_writes(plan, "auto", arm.llm or llm, ""), **given)


def plan_of(
    file: StudyFile,
    task: str,
    loans: Loans = MappingProxyType({}),
    allow_weak: bool = False,
    sandbox: Wall = "auto",
) -> ArmPlan:
    """What the study does on one of its tasks."""
    study = file.study
    return ArmPlan(
        task=file.sources[task],
        strategies=study.arms,
        evals=study.evals,
        seeds=study.repeats,
        llm=study.llm,
        baselines=study.baselines,
        confirms=study.confirms,
        arms=file.arms,
        outer=file.outer,
        loans={(arm, seed): loan for (on, arm, seed), loan in loans.items() if on == task},
        first_seed=study.first_seed,
        slots=study.slots,
        allow_weak=allow_weak,
        sandbox=sandbox,
        hypotheses=study.hypotheses,
    )


def chosen_tasks(file: StudyFile, only: Sequence[str]) -> tuple[str, ...]:
    """Those of the study's tasks that are asked for. Raises ConfigError for others."""
    if strange := [task for task in only if task not in file.study.tasks]:
        known = ", ".join(file.study.tasks)
        raise ConfigError(f"no task of this study: {', '.join(strange)}; it has {known}")
    return tuple(dict.fromkeys(only))


def blocks(file: StudyFile) -> list[Block]:
    """All runs, repeat by repeat; in each the tasks and their arms are shuffled by the seed."""
    found = []
    for repeat, seed in enumerate(file.seeds()):
        tasks = list(file.study.tasks)
        generator(seed, file.study.name, "tasks").shuffle(tasks)
        for task in tasks:
            arms = list(file.study.arms)
            generator(seed, file.study.name, "arms", task).shuffle(arms)
            found.append(Block(task, repeat, tuple(Cell(arm, seed) for arm in arms)))
    return found


class ArmRuns(Comparison):
    """The runs of a study's arms on one task; those that an earlier version made count as well."""

    def cell_of(self, run: Run) -> Cell | None:
        """As for any comparison, whatever version made the run."""
        return super().cell_of(replace(run, version=self.prototype.version))


class Study:
    """The runs of a study, made one by one or found.

    ledger: notes which build makes which run. comparisons: by task. began: when the study was
    entered in its record; earlier runs, whose results could have shaped its rules, do not count.
    only: tasks of the study, the rest of which is left alone; all if empty. Raises ConfigError.
    """

    def __init__(
        self,
        workspace: Workspace,
        file: StudyFile,
        began: str,
        loans: Loans,
        allow_weak: bool = False,
        sandbox: Wall = "auto",
        only: Sequence[str] = (),
    ) -> None:
        self.workspace = workspace
        self.file = file
        self.blocks = [b for b in blocks(file) if not only or b.task in only]
        self.ledger = Ledger(path_of(workspace.home, file.study.name))
        self.comparisons = {
            task: ArmRuns(
                workspace,
                plan_of(file, task, loans, allow_weak, sandbox),
                baselines=True,
                since=began,
            )
            for task in only or file.study.tasks
        }
        self._locks = {b: _lock(file.study.name, began, b) for b in self.blocks}

    def look(self) -> None:
        """Find the runs that the store holds already."""
        for comparison in self.comparisons.values():
            comparison.look()

    def left(self) -> list[tuple[str, Cell]]:
        """Runs that are not there yet, by task, in the order in which they are made."""
        open_cells = {task: set(c.left()) for task, c in self.comparisons.items()}
        return [(b.task, c) for b in self.blocks for c in b.cells if c in open_cells[b.task]]

    def problems(self) -> dict[tuple[str, Cell], str]:
        """Why runs could not go on, by task and cell."""
        every = self.comparisons.items()
        return {(task, cell): why for task, c in every for cell, why in c.problems.items()}

    def go(self, models: Models, screen: Screen, wait: bool = True) -> None:
        """Make what is left, passing over blocks that another process is at.

        wait: for those, and make what it leaves. Raises KeyboardInterrupt when interrupted,
        ConfigError when several runs of a task in a row could not go on.
        """
        waiting, screen = self.blocks, Noting(screen, self.ledger)
        while waiting := [b for b in waiting if self._open(b)]:
            busy = [b for b in waiting if not self._attend(b, models, screen)]
            if not wait:
                return
            if len(busy) == len(waiting):
                screen.waits([c for b in busy for c in b.cells])
                time.sleep(PAUSE)
            waiting = busy

    def _open(self, block: Block) -> bool:
        return bool(set(self.comparisons[block.task].left()) & set(block.cells))

    def _attend(self, block: Block, models: Models, screen: Screen) -> bool:
        """Make a block's runs; False while another process has it or one of them."""
        comparison = self.comparisons[block.task]
        arms = self.file.arms
        try:
            with self.workspace.store.writing(self._locks[block]):
                comparison.look()
                for cell in block.cells:
                    if cell not in comparison.problems:
                        llm = models(model_of(arms[cell.strategy], self.file.study.llm))
                        comparison.go([cell], llm, screen, wait=False)
        except RunBusy:
            return False
        return not self._open(block)


def _lock(name: str, began: str, block: Block) -> str:
    """A plain name that all processes give the block."""
    text = json.dumps([name, began, block.task, block.repeat])
    return f"study-{hashlib.sha256(text.encode()).hexdigest()[:40]}"


def wanted(study: Study) -> Sequence[tuple[str, Cell]]:
    """Every run that the study asks for, by task, in the order in which they are made."""
    return [(b.task, cell) for b in study.blocks for cell in b.cells]


def begun(study: Study) -> list[str]:
    """The names of the study's runs that are there, ended or not."""
    every = ((study.comparisons[task], cell) for task, cell in wanted(study))
    runs = (comparison.find(cell.strategy, cell.seed) for comparison, cell in every)
    return [run.id for run in runs if run is not None]
