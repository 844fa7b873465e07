"""A run with nothing behind it: its own loops and prompts, with replies and scores made up.

What it asks of its LLM is what the run will ask: as often, and at such length.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bilevel import mechanisms
from bilevel.budget.budget import schema_text, weight
from bilevel.evaluate import Evaluated
from bilevel.gate.gate import Verdict
from bilevel.history import History
from bilevel.loop import Loop
from bilevel.model import Call, Message, Outcome, Record, Reply, Run, Values
from bilevel.outer import Outer
from bilevel.proposer import Proposer
from bilevel.protocols import Schema
from bilevel.research.dialogue import Researcher
from bilevel.seeds import generator
from bilevel.stack import Layer, Stack
from bilevel.steering import Steerer
from bilevel.tape.tape import Tape

MOST = 100  # evaluations; what a longer run takes follows from their number
EXAMPLE = "orthogonal"  # a source as long as Level 2 writes them
REFUSED = "it changes 0 of 24 decisions; " * 8

__all__ = ["MOST", "Asked", "rehearse"]


@dataclass(frozen=True)
class Asked:
    """One call of a rehearsal. read, written: characters, see `budget.weight`; room: tokens."""

    level: str
    read: int
    written: int
    room: int


def rehearse(run: Run, layers: Sequence[Layer], rough: bool) -> list[Asked]:
    """The calls of a run of at most MOST evaluations, which begins with these layers.

    rough: every first reply has to be repaired, and no source of Level 2 is admitted.
    """
    calls: list[Call] = []

    def heard(record: Record) -> None:
        if isinstance(record, Call):
            calls.append(record)

    plan = run.outer
    if plan.research != "off":  # no code joins a rehearsal; sources that others submit cost nothing
        plan = replace(plan, research="sham" if plan.sources == "rounds" else "off")
    short = replace(run, evals=min(run.evals, MOST), confirms=0, outer=plan, library=())
    tape = Tape(run.llm, _Pretender(rough), record=heard)
    loop = _loop(short, tape, layers, rough)
    loop.go()
    # What is drawn at random now and then repeats an earlier trial; a model need not.
    used = {p.step for p in loop.history.proposals if p.queue}
    return [
        Asked(c.level, weight(c.messages, c.schema), weight((), c.reply.text), c.max_tokens)
        for c in calls
        if rough or ("repair" not in c.purpose and (c.level != "1" or c.step in used))
    ]


def _loop(run: Run, tape: Tape, layers: Sequence[Layer], rough: bool) -> Loop:
    records: list[Record] = []
    history = History(run.space)
    stack = Stack(layers, run.seed, records.append)
    loop = Loop(
        run=run,
        objective=run.objective,
        history=history,
        proposer=Proposer(run.brief, run.objective, tape, run.seed, hypotheses=run.hypotheses),
        evaluator=_Chance(run),
        stack=stack,
        append=records.append,
    )
    if run.outer.steering or run.outer.research != "off":
        loop.between = Outer(
            run=run,
            history=history,
            records=records,
            stack=stack,
            steerer=Steerer(run.brief, run.objective, tape, run.seed, hypotheses=run.hypotheses),
            researcher=Researcher(run, history, tape, lambda text: _verdict(text, rough)),
            append=records.append,
            known=tuple,
            slots=run.slots,
        )
    return loop


def _verdict(text: str, rough: bool) -> Verdict:
    if rough:
        return Verdict("influence", REFUSED, text, "0" * 64, "Rehearsed", {})
    return Verdict("", "", text, "0" * 64, "Rehearsed", {})


@dataclass
class _Pretender:
    """Answers what a request's schema allows, at random; a source where there is no schema.

    rough: says no JSON first, where a repair would follow.
    """

    rough: bool
    name: str = "rehearsed"

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        rng = random.Random(f"{seed} {len(messages)} {weight(messages, schema_text(schema))}")
        if schema is None:
            text = mechanisms.source(EXAMPLE).source
        else:
            text = json.dumps(drawn(schema, rng))
        first = messages[-1].role == "user" and len(messages) == 2
        asked = (schema or {}).get("properties", {})
        if self.rough and first and {"changes", "diagnosis"} & set(asked):
            text = text[:-1]
        return Reply(text, self.name)

    def close(self) -> None:
        pass


def drawn(schema: Schema, rng: random.Random) -> Any:
    """A value that the schema allows, texts about as long as they may be."""
    if "anyOf" in schema:
        return drawn(rng.choice(schema["anyOf"]), rng)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if schema["type"] == "object":
        return {name: drawn(part, rng) for name, part in schema["properties"].items()}
    if schema["type"] == "array":
        count = rng.randint(schema.get("minItems", 0), schema.get("maxItems", 1))
        return [drawn(schema["items"], rng) for _ in range(count)]
    if schema["type"] == "string":
        most = schema.get("maxLength", 200)
        return ("more of what has helped " * (most // 24 + 1))[: max(8, most * 3 // 4)].strip()
    value = rng.uniform(schema.get("minimum", 0.0), schema.get("maximum", 1.0))
    return round(value) if schema["type"] == "integer" else float(f"{value:.3g}")


@dataclass
class _Chance:
    """Evaluates at once, to a value that the seed and the configuration draw."""

    run: Run
    slots: int = field(init=False)
    ready: list[Evaluated] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.slots = self.run.slots

    def start(self, key: int, values: Values, seed: int) -> None:
        rng = generator(self.run.seed, "chance", seed, self.run.space.key(values))
        names = (self.run.objective.metric, *self.run.objective.shown)
        metrics = {name: 1.0 + rng.gauss(0, 0.05) for name in names}
        outcome = Outcome("ok", metrics[self.run.objective.metric], metrics)
        self.ready.append(Evaluated(key, outcome, 1.0))

    def finished(self) -> list[Evaluated]:
        done, self.ready = self.ready, []
        return done
