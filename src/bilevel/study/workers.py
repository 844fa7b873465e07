"""Processes that make runs of a study beside the first one, and the models that they share with it.

A model is opened once, by the first process; the others' requests come to it through pipes. One
that runs on this machine answers one request at a time: two would only slow each other down.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from bilevel.compare.helpers import OnDemand, Silent, at_work, become_helper
from bilevel.errors import BilevelError, LLMUnavailable
from bilevel.model import Message, Reply
from bilevel.protocols import LLM, Schema
from bilevel.sandbox.policy import Wall
from bilevel.study.file import StudyFile
from bilevel.study.harness import Loans, Study
from bilevel.workspace import Workspace

EMBEDDED = "embedded"
WATCH = 1.0  # seconds between two looks whether the first process is there


class Shared:
    """The models of a study by spec, opened at their first request."""

    def __init__(self, open_llm: Callable[[str], LLM]) -> None:
        self._open_llm = open_llm
        self._models: dict[str, Turns] = {}
        self._lock = threading.Lock()

    def __call__(self, spec: str) -> Turns:
        """The model that `spec` names, not opened yet."""
        with self._lock:
            if spec not in self._models:
                self._models[spec] = Turns(spec, OnDemand(spec, self._open_llm))
            return self._models[spec]

    def close(self) -> None:
        for model in self._models.values():
            model.close()


class Turns:
    """A model that several threads may ask; an embedded one answers them in turn."""

    def __init__(self, spec: str, llm: OnDemand) -> None:
        self.name = spec
        self._llm = llm
        self._opening = threading.Lock()
        local = spec.partition(":")[0] == EMBEDDED
        self._turn: AbstractContextManager[object] = threading.Lock() if local else nullcontext()

    def open(self) -> LLM:
        """The model itself. Raises ConfigError, MissingExtra or WeightsError."""
        with self._opening:
            return self._llm.open()

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        """One completion. Raises LLMError, and what `open` raises."""
        llm = self.open()
        with self._turn:
            return llm.complete(messages, schema, seed=seed, max_tokens=max_tokens)

    def close(self) -> None:
        self._llm.close()


@dataclass(frozen=True)
class Request:
    """One completion that another process asks for."""

    spec: str
    messages: tuple[Message, ...]
    schema: Schema | None
    seed: int
    max_tokens: int


class Remote:
    """A model that the first process has."""

    def __init__(self, spec: str, pipe: Connection) -> None:
        self.name = spec
        self._pipe = pipe

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        """One completion. Raises what the model raises, LLMUnavailable without a first process."""
        try:
            self._pipe.send(Request(self.name, tuple(messages), schema, seed, max_tokens))
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise LLMUnavailable(
                "the process that has the LLM is gone; give the same command again to go on"
            ) from error
        if isinstance(answer, BilevelError):
            raise answer
        reply: Reply = answer
        return reply

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Assignment:
    """All that a process needs to take part in a study."""

    home: Path
    file: StudyFile
    began: str
    loans: Loans
    allow_weak: bool
    sandbox: Wall = "auto"
    only: tuple[str, ...] = ()

    def study(self) -> Study:
        """The study, its runs not looked for yet."""
        rules = (self.loans, self.allow_weak, self.sandbox)
        return Study(Workspace(self.home), self.file, self.began, *rules, self.only)


@contextmanager
def workers(number: int, assignment: Assignment, models: Shared) -> Iterator[None]:
    """That many processes at work on the study; ended, with their jobs, when the block ends."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(number)]
    made = [
        context.Process(target=_work, args=(os.getpid(), assignment, theirs), daemon=True)
        for _, theirs in pipes
    ]
    with at_work(made):
        for ours, theirs in pipes:
            theirs.close()
            threading.Thread(target=_serve, args=(ours, models), daemon=True).start()
        yield


def _serve(pipe: Connection, models: Shared) -> None:
    """Answer one process until it ends."""
    # Closed whatever happens: a process that waits for an answer must not wait for ever.
    with pipe, suppress(EOFError, OSError):
        while True:
            asked: Request = pipe.recv()
            try:
                answer: Reply | BilevelError = models(asked.spec).complete(
                    asked.messages, asked.schema, seed=asked.seed, max_tokens=asked.max_tokens
                )
            except BilevelError as error:
                answer = error
            pipe.send(answer)


def _work(parent: int, assignment: Assignment, pipe: Connection) -> None:
    become_helper()
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    # What a worker cannot do the first process meets as well, and says so.
    with pipe, suppress(KeyboardInterrupt, BilevelError):
        assignment.study().go(lambda spec: Remote(spec, pipe), Silent(), wait=False)


def _watch(parent: int) -> None:
    """Interrupt this process when the first one is gone, however that ended."""
    while os.getppid() == parent:
        time.sleep(WATCH)
    os.kill(os.getpid(), signal.SIGTERM)
