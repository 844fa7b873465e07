"""Runs in memory whose sessions go beside the loop: real threads, a scripted LLM."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from bilevel import engine
from bilevel.budget.rehearsal import drawn
from bilevel.engine import Edges
from bilevel.model import Begun, Call, Message, Outcome, Phase, Record, Run, Session, Values
from bilevel.protocols import Schema
from bilevel.replay import Replay, replay
from bilevel.research.beside import Accompanied
from bilevel.tape.tape import Tape
from outer_worlds import RUN as LEVELS_RUN
from outer_worlds import TrustedSandbox, calm, notes
from patience import PATIENCE
from threelevels import ThreeLevels
from worlds import Instant, Log

PLAN = replace(LEVELS_RUN.outer, cycles=2, beside=True)
RUN = replace(LEVELS_RUN, evals=12, outer=PLAN)


def until(true: Callable[[], bool]) -> None:
    """Wait for it; fails the test where it does not come true."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.001)


def of_session(schema: Schema | None) -> bool:
    """Whether a request with this schema is one of Level 2's."""
    text = json.dumps(schema)
    return '"changes"' not in text and '"diagnosis"' not in text


@dataclass
class SlowInSessions(ThreeLevels):
    """A scripted LLM whose sessions get no reply before `free`, and each a source of its own.

    A reply depends on the request alone. asked_by: of each call, in which thread. fails: what a
    call of a session raises, by its number among those. writes: all sources, "" for new ones.
    """

    free: Callable[[], bool] = lambda: True
    fails: dict[int, BaseException] = field(default_factory=dict)
    writes: str = ""
    sessions: int = 0
    asked_by: list[str] = field(default_factory=list)

    def answer(self, messages: Sequence[Message], schema: Schema | None, seed: int) -> str:
        self.asked_by.append(threading.current_thread().name)
        if of_session(schema):
            self.sessions += 1
            number = self.sessions
            until(self.free)
            if number in self.fails:
                raise self.fails.pop(number)
        if schema is not None and '"changes"' in json.dumps(schema):
            return json.dumps(drawn(schema, random.Random(seed)))
        said = super().answer(messages, schema, seed)
        if said in self.sources:
            return self.writes or notes(f"note {seed}")
        return said


@dataclass
class Holding(Instant):
    """Evaluates at once, but waits before some trials. waits: by the trial, for what."""

    measure: Callable[[Values, int], Outcome] = calm
    waits: dict[int, Callable[[], bool]] = field(default_factory=dict)

    def start(self, key: int, values: Values, seed: int) -> None:
        if key in self.waits:
            until(self.waits[key])
        super().start(key, values, seed)


@dataclass
class World:
    """One life of a run over `log`."""

    log: Log
    run: Run = RUN
    llm: SlowInSessions = field(default_factory=SlowInSessions)
    evaluator: Holding = field(default_factory=Holding)
    threaded: bool = True
    phases: list[Phase] = field(default_factory=list)
    rooms: int = 0
    closed: int = 0

    def __post_init__(self) -> None:
        calls = [r for r in self.log if isinstance(r, Call)]
        self.edges = Edges(
            tape=Tape(self.run.llm, None),
            evaluator=self.evaluator,
            append=self.log.append,
            sandbox=TrustedSandbox(),  # type: ignore[arg-type]
            records=list(self.log),
            watch=self.phases.append,
            room=self.room if self.threaded else None,
        )
        self.edges.tape = Tape(self.run.llm, self.llm, calls, self.edges.log)

    def room(self) -> AbstractContextManager[Any]:
        @contextmanager
        def opened() -> Iterator[Any]:
            self.rooms += 1
            try:
                yield TrustedSandbox(), tuple
            finally:
                self.closed += 1

        return opened()

    def build(self) -> Accompanied:
        loop = engine.build(self.run, self.edges)
        assert isinstance(loop, Accompanied)
        self.loop = loop
        return loop

    @property
    def done(self) -> bool:
        """Whether no session is at work."""
        return self.loop.beside.done


def go(log: Log | None = None, **named: Any) -> Log:
    """A run from what is logged to its end."""
    log = Log() if log is None else log
    World(log, **named).build().go()
    return log


def held_for(trials: int, run: Run = RUN) -> World:
    """A run whose first session is done exactly `trials` trials after it began."""
    world = World(Log(), run)
    begins = run.baselines + run.outer.every * run.outer.cycles
    at = begins + trials
    reached = threading.Event()
    world.llm.free = reached.is_set

    def pass_on() -> bool:
        reached.set()
        return world.done

    world.evaluator.waits[at] = pass_on
    return world


def again(log: Sequence[Record], run: Run = RUN) -> Replay:
    """The run decided again, in one thread."""
    return replay(run, list(log), sandbox=TrustedSandbox())  # type: ignore[arg-type]


def place(log: Sequence[Record], kind: type, number: int = 0) -> int:
    """Where the n-th record of a kind stands."""
    return [i for i, r in enumerate(log) if isinstance(r, kind)][number]


__all__ = [
    "PLAN", "RUN", "Begun", "Holding", "Session", "SlowInSessions", "World", "again", "go",
    "held_for", "of_session", "place", "until",
]  # fmt: skip
