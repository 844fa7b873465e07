"""A made-up task, LLM and log for tests of the loop; nothing here runs a job or a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from bilevel import engine
from bilevel.engine import Edges
from bilevel.evaluate import Evaluated
from bilevel.loop import Loop
from bilevel.model import (
    Call,
    Message,
    Objective,
    Outcome,
    Param,
    Record,
    Reply,
    Run,
    Space,
    Values,
)
from bilevel.protocols import Schema
from bilevel.stack import Layer
from bilevel.tape.tape import Tape

SPACE = Space(
    (
        Param("RATE", "float", 0.1, low=0.001, high=1.0, log=True, doc="step size"),
        Param("BATCH", "int", 4096, low=256, high=65536, log=True, step=2),
        Param("PATTERN", "choice", "SSSL", choices=("SSSL", "SL", "L")),
    )
)
LOSS = Objective("loss", "min")
RUN = Run("toy-1", "toy", SPACE, LOSS, "A toy.", seed=7, evals=6, llm="scripted")


def loss(values: Values, seed: int) -> Outcome:
    """Best at RATE 0.3 and BATCH 1024; L crashes; seeds differ by a little."""
    if values["PATTERN"] == "L":
        return Outcome("crash", None, error="AssertionError: L is too long")
    value = abs(float(values["RATE"]) - 0.3) + abs(int(values["BATCH"]) / 1024 - 1) + seed % 7 / 100
    return Outcome("ok", value, {"loss": value, "steps": 10.0})


@dataclass
class Instant:
    """Evaluates at once, in the reverse order of starting when it has several slots."""

    slots: int = 1
    measure: Callable[[Values, int], Outcome] = loss
    started: list[tuple[int, dict[str, object], int]] = field(default_factory=list)
    waiting: list[Evaluated] = field(default_factory=list)

    def start(self, key: int, values: Values, seed: int) -> None:
        assert len(self.waiting) < self.slots
        self.started.append((key, dict(values), seed))
        self.waiting.append(Evaluated(key, self.measure(values, seed), 1.5))

    def finished(self) -> list[Evaluated]:
        return [self.waiting.pop()]


@dataclass
class Scripted:
    """An LLM for tests: its reply is a function of the prompt and the number of the call.

    One that looks at more than these has an `answer` of its own.
    """

    reply: Callable[[Sequence[Message], int], str]
    name: str = "scripted"
    asked: list[tuple[tuple[Message, ...], Schema | None, int]] = field(default_factory=list)

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        self.asked.append((tuple(messages), schema, seed))
        return Reply(self.answer(messages, schema, seed), self.name, 100, 10, 90, 0.5)

    def answer(self, messages: Sequence[Message], schema: Schema | None, seed: int) -> str:
        return self.reply(messages, len(self.asked))

    def close(self) -> None:
        pass


def says(**changes: object) -> str:
    """A proposal's JSON."""
    listed = [{"name": k, "value": v} for k, v in changes.items()]
    return json.dumps({"hypothesis": "This should help.", "changes": listed})


def walk(messages: Sequence[Message], number_of_call: int) -> str:
    """A proposal that depends on the request only, now and then a bad one."""
    number = sum(ord(c) for m in messages for c in m.content)
    if number % 5 == 0:
        return "not JSON"
    if number % 2:
        return says(RATE=round(0.01 + number % 90 / 100, 2))
    return says(BATCH=2 ** (8 + number % 8), PATTERN=("SSSL", "SL", "L")[number % 3])


class Log(list[Record]):
    """A store of one run, in memory; fails at the n-th record when told to."""

    def __init__(self, records: Sequence[Record] = (), dies_at: int | None = None) -> None:
        super().__init__(records)
        self.dies_at = dies_at

    def append(self, record: Record) -> None:
        if self.dies_at is not None and len(self) >= self.dies_at:
            raise KeyboardInterrupt
        super().append(record)


def build(
    log: Log,
    reply: Callable[[Sequence[Message], int], str] = walk,
    run: Run = RUN,
    evaluator: Instant | None = None,
    layers: Sequence[Layer] = (),
    **changes: object,
) -> Loop:
    """A loop over `log`, which may hold the first part of a run."""
    run = replace(run, **changes)  # type: ignore[arg-type]
    return engine.build(run, edges(log, run, Scripted(reply), evaluator, lambda: layers))


def edges(
    log: Log,
    run: Run,
    llm: Scripted,
    evaluator: Instant | None = None,
    layers: Callable[[], Sequence[Layer]] = tuple,
    tape: type[Tape] = Tape,
) -> Edges:
    """What a run over `log` touches the world through, none of it real."""
    calls = [r for r in log if isinstance(r, Call)]
    made = Edges(
        tape=Tape(run.llm, None),
        evaluator=evaluator or Instant(run.slots),
        append=log.append,
        layers=layers,
        records=list(log),
    )
    made.tape = tape(run.llm, llm, calls, made.log)
    return made
