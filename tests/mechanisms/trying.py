"""Spaces, a landscape and a scripted LLM to try search strategies on, in the real loop."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bilevel.llm.scripted import ScriptedLLM
from bilevel.mechanism import Mechanism
from bilevel.model import (
    Draft,
    Fault,
    Message,
    Outcome,
    Param,
    Proposal,
    Run,
    Space,
    Trial,
    Value,
    Values,
)
from bilevel.proposer import Proposer
from bilevel.protocols import Schema
from bilevel.stack import Layer
from bilevel.tape.tape import Tape
from worlds import LOSS, RUN, SPACE, Instant, Log, build

TINY = Space(
    (
        Param("A", "int", 0, low=0, high=2, step=1),
        Param("B", "choice", "x", choices=("x", "y", "z")),
        Param("C", "choice", True, choices=(True, False)),
    )
)
MIXED = Space(
    (
        Param("RATE", "float", 0.1, low=0.001, high=1.0, log=True),
        Param("DECAY", "float", 0, low=0, high=1),
        Param("WARMUP", "int", 3, low=0, high=6),
        Param("WIDTH", "int", 64, low=16, high=256, log=True, step=2),
        Param("PATTERN", "choice", "SSSL", choices=("SSSL", "SL", "L")),
        Param("SCALE", "float", 1.0, doc="without bounds"),
        Param("SOURCE", "text", "def f(): ..."),
    )
)
WORDS = Space((Param("SOURCE", "text", "def f(): ..."),))


def bowl(values: Values, seed: int) -> Outcome:
    """Best with every number at a third of its range; L fails; seeds differ by a little."""
    if "L" in values.values():
        return Outcome("crash", None, error="AssertionError: L is too long")
    places = [v for v in values.values() if isinstance(v, int | float)]
    loss = sum((v - 1 / 3) ** 2 / (1 + v * v) for v in places) + seed % 7 / 1000
    return Outcome("ok", loss, {"loss": loss})


def obedient(messages: Sequence[Message], schema: Schema | None, seed: int) -> str:
    """A reply that keeps to the schema: one or two changes, drawn from the request's own seed."""
    assert schema is not None
    rng = random.Random(seed)
    rule = rng.choice(schema["properties"]["changes"]["anyOf"])
    drawn = rng.sample(rule["items"]["anyOf"], rule["maxItems"])
    listed = [
        {"name": d["properties"]["name"]["const"], "value": _value(rng, d["properties"]["value"])}
        for d in drawn
    ]
    return json.dumps({"changes": listed, "hypothesis": "This should help."})


def _value(rng: random.Random, rule: dict[str, Any]) -> Value:
    if "enum" in rule:
        value: Value = rng.choice(rule["enum"])
        return value
    if "anyOf" in rule:
        rule = rng.choice(rule["anyOf"])
    if rule["type"] == "string":
        return f"def f(): return {rng.random()}"
    low, high = rule.get("minimum", -10), rule.get("maximum", 10)
    return rng.randint(low, high) if rule["type"] == "integer" else rng.uniform(low, high)


@dataclass
class Tried:
    """A finished run: its log, its LLM, and why it ended."""

    log: Log
    llm: ScriptedLLM
    reason: str

    @property
    def trials(self) -> list[Trial]:
        """The search trials, in order."""
        return [r for r in self.log if isinstance(r, Trial) and r.role == "search"]

    @property
    def drafts(self) -> list[Draft]:
        """What the search trials evaluated, in order."""
        return [t.draft for t in self.trials if t.draft is not None]

    @property
    def proposals(self) -> list[Proposal]:
        return [r for r in self.log if isinstance(r, Proposal)]

    @property
    def faults(self) -> list[Fault]:
        return [r for r in self.log if isinstance(r, Fault)]


def go(
    *mechanisms: Mechanism,
    space: Space = SPACE,
    measure: Callable[[Values, int], Outcome] = bowl,
    log: Log | None = None,
    **changes: object,
) -> Tried:
    """A run of the real loop with these layers, the lowest first."""
    layers = [
        Layer(f"{i}-{type(m).__name__}", type(m).__name__, m) for i, m in enumerate(mechanisms)
    ]
    run = Run(RUN.id, RUN.task, space, LOSS, RUN.brief, RUN.seed, evals=20)
    slots = changes.get("slots", 1)
    assert isinstance(slots, int)
    log, llm = Log() if log is None else log, ScriptedLLM(obedient)
    loop = build(log, run=run, evaluator=Instant(slots, measure), layers=layers, **changes)
    tape = Tape(llm.name, llm, record=log.append)
    loop.proposer = Proposer(run.brief, run.objective, tape, loop.run.seed)
    return Tried(log, llm, loop.go().reason)


def settled(log: Log) -> list[object]:
    """The log without what depends on the clock."""
    return [r for r in log if isinstance(r, Proposal | Trial)]
