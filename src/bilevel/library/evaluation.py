"""Whether mechanisms of the library help on a task: the same searches with each and without.

The searches are ordinary runs of a comparison: in the store, paired by seed, gone on with after a
stop, and each to be looked at and replayed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bilevel.compare.compare import Cell, Comparison, Plan, Screen
from bilevel.compare.comparison import RunFigures, run_figures
from bilevel.compare.strategies import PLAIN
from bilevel.errors import ConfigError
from bilevel.library.library import Entry, Transfer
from bilevel.library.proposer import STAND_IN
from bilevel.protocols import LLM
from bilevel.sandbox.policy import Wall
from bilevel.workspace import Workspace

STOOD_IN = "the habits of a small LLM, no LLM asked"


@dataclass(frozen=True)
class Trying:
    """What is measured: on which task, on how many seeds, with which LLM, or what stands in.

    sandbox: what holds the mechanisms.
    """

    task: str
    evals: int = 30
    seeds: int = 5
    llm: str = STAND_IN
    sandbox: Wall = "auto"

    @property
    def proposer(self) -> str:
        """Who proposes, as people are told."""
        return STOOD_IN if self.llm == STAND_IN else self.llm


class Evaluation:
    """The runs of one task, made or found; results as transfers.

    Raises ConfigError for a plan that makes no sense.
    """

    def __init__(self, workspace: Workspace, entries: Sequence[Entry], trying: Trying) -> None:
        self.trying = trying
        self._workspace = workspace
        self._entries = {_file(workspace, entry): entry for entry in entries}
        plan = Plan(
            trying.task,
            (PLAIN, *self._entries),
            trying.evals,
            trying.seeds,
            llm=trying.llm,
            sandbox=trying.sandbox,
        )
        self.comparison = Comparison(workspace, plan)

    def go(self, llm: LLM, screen: Screen) -> None:
        """Make the runs that are not there. Raises KeyboardInterrupt, and ConfigError."""
        self.comparison.look()
        self.comparison.go(self.comparison.left(), llm, screen)

    def results(self) -> tuple[list[tuple[Entry, Transfer]], dict[str, list[str]]]:
        """What is known now of each mechanism that has a pair, noted in the library; and problems.

        Seeds that were measured before, under the same conditions, are in it.
        problems: by name of a mechanism, or `plain` for the searches without one.
        """
        figures = {
            cell: found
            for cell, run in self.comparison.runs.items()
            if (found := run_figures(run, self._workspace.records(run.id))) is not None
        }
        measured = []
        for strategy, entry in self._entries.items():
            gains = self._gains(strategy, figures)
            if gains:
                transfer = self._transfer(strategy, entry, gains, figures)
                measured.append((entry, self._workspace.library.tried(entry.sha, transfer)))
        names = {s: f"{e.source.name} {e.sha[:8]}" for s, e in self._entries.items()}
        return measured, {names.get(s, s): w for s, w in self.comparison.words().items()}

    def _gains(self, strategy: str, figures: Mapping[Cell, RunFigures]) -> dict[str, float]:
        """By seed, score of the best with it over the best without, where both searches ended."""
        score = self.comparison.prototype.objective.score
        gains = {}
        for seed in range(self.trying.seeds):
            with_, without = Cell(strategy, seed), Cell(PLAIN, seed)
            if with_ in figures and without in figures:
                gains[str(seed)] = score(figures[with_].best) - score(figures[without].best)
        return gains

    def _transfer(
        self,
        strategy: str,
        entry: Entry,
        gains: Mapping[str, float],
        figures: Mapping[Cell, RunFigures],
    ) -> Transfer:
        run, trying = self.comparison.prototype, self.trying
        return Transfer(
            key=f"{run.task} {run.fingerprint[:16]} {trying.llm} {trying.evals}",
            task=run.task,
            metric=run.objective.metric,
            proposer=trying.proposer,
            evals=trying.evals,
            seen=run.task in entry.tasks(),
            gains=gains,
            faults=sum(f.faults for cell, f in figures.items() if cell.strategy == strategy),
        )


def evaluated(
    workspace: Workspace,
    entries: Sequence[Entry],
    tryings: Sequence[Trying],
    llm: LLM,
    screen: Screen,
) -> tuple[list[tuple[Entry, Transfer]], list[str]]:
    """What was measured on each task, and what went wrong there, in words."""
    found, problems = list[tuple[Entry, Transfer]](), list[str]()
    for trying in tryings:
        evaluation = Evaluation(workspace, entries, trying)
        evaluation.go(llm, screen)
        measured, words = evaluation.results()
        found += measured
        problems += [f"{trying.task}, {name}: {w}" for name, said in words.items() for w in said]
    return found, problems


def _file(workspace: Workspace, entry: Entry) -> str:
    """The path of the mechanism's source, as a strategy names a person's own file."""
    name = re.sub(r"\W", "", entry.source.name)[:40]
    path = workspace.home / "library" / f"{name}-{entry.sha[:12]}.py"
    if "+" in str(path):
        raise ConfigError(f"{path} has a +, which joins mechanisms; give another --home")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(entry.source.source, encoding="utf-8", newline="")
    return str(path)
