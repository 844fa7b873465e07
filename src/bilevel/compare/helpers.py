"""Processes that make runs of a comparison beside the one that the user started.

Each goes through the same list and passes over what another has; the store's locks share the work
out. They have no LLM: a run that turns out to want one stops, and is left to the first process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from bilevel.assemble import Watcher
from bilevel.compare.compare import Cell, Comparison, Plan
from bilevel.errors import BilevelError, LLMUnavailable
from bilevel.model import Message, Phase, Record, Reply, Run
from bilevel.protocols import LLM, Schema
from bilevel.workspace import Workspace

GRACE = 10.0  # seconds that a helper has to kill its jobs and to say so in the log


class OnDemand:
    """The LLM of a spec, opened at the first request: not at all where no run makes one."""

    def __init__(self, spec: str, open_llm: Callable[[str], LLM]) -> None:
        self.name = spec
        self._open = open_llm
        self._llm: LLM | None = None

    def open(self) -> LLM:
        """The LLM itself. Raises ConfigError, MissingExtra or WeightsError."""
        if self._llm is None:
            self._llm = self._open(self.name)
        return self._llm

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        """One completion. Raises LLMError, and what `open` raises."""
        return self.open().complete(messages, schema, seed=seed, max_tokens=max_tokens)

    def close(self) -> None:
        if self._llm is not None:
            self._llm.close()


class Silent:
    """A screen, and a watcher, that show nothing."""

    def starts(self, cell: Cell, run: Run) -> Watcher:
        return self

    def ends(self, cell: Cell) -> None:
        pass

    def waits(self, cells: Sequence[Cell]) -> None:
        pass

    def phase(self, phase: Phase) -> None:
        pass

    def record(self, record: Record) -> None:
        pass


@contextmanager
def helpers(
    number: int, home: Path, plan: Plan, cells: Sequence[Cell], shares: bool
) -> Iterator[None]:
    """That many processes at work on these cells; ended, with their jobs, when the block ends."""
    context = multiprocessing.get_context("spawn")
    parent = os.getpid()
    made = [
        context.Process(target=_help, args=(parent, home, plan, tuple(cells), shares), daemon=True)
        for _ in range(number)
    ]
    with at_work(made):
        yield


@contextmanager
def at_work(processes: Sequence[BaseProcess]) -> Iterator[None]:
    """These processes started; ended, with their jobs, when the block ends."""
    # Ctrl-C reaches all processes of a terminal. Here the first one passes it on, so that another
    # is never hit where it cannot heed it.
    heeding = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for process in processes:
            process.start()
    finally:
        signal.signal(signal.SIGINT, heeding)
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(GRACE)
            process.kill()


def interruptible() -> None:
    """From here on SIGTERM does what Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)


def become_helper() -> None:
    """Make this process one of several, which the first one ends.

    A library that would start processes of its own must not here (scikit-learn's forest, of which
    SMAC makes one a step, warns of it each time), and is told so before it is loaded.
    """
    interruptible()
    os.environ["JOBLIB_MULTIPROCESSING"] = "0"


def _help(parent: int, home: Path, plan: Plan, cells: Sequence[Cell], shares: bool) -> None:
    def refuse(spec: str) -> LLM:
        raise LLMUnavailable("this run was begun without an LLM, and is gone on with elsewhere")

    become_helper()
    # What a helper cannot do the first process meets as well, and says so.
    with suppress(KeyboardInterrupt, BilevelError):
        comparison = Comparison(Workspace(home), plan, shares)
        for cell in cells:
            if os.getppid() != parent:
                return
            comparison.go([cell], OnDemand(plan.llm, refuse), Silent(), wait=False)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
