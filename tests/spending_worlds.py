"""Runs under limits, in memory: three levels, an LLM whose tokens are drawn, kills anywhere."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from bilevel import engine
from bilevel.budget.budget import Budget, cost, limited, limits_of, weight
from bilevel.budget.pacing import PacedEvaluator
from bilevel.engine import Edges
from bilevel.errors import OverBudget
from bilevel.mechanism import Mechanism, View
from bilevel.model import (
    Call,
    Message,
    Move,
    Opening,
    OuterPlan,
    Prices,
    Proposal,
    Rate,
    Reply,
    Run,
    Stop,
)
from bilevel.protocols import Schema
from bilevel.replay import Replay, replay
from bilevel.stack import Layer
from bilevel.tape.tape import Tape
from outer_worlds import RUN as LEVELS_RUN
from outer_worlds import TrustedSandbox
from threelevels import BROKEN, SOURCE, ThreeLevels
from worlds import Instant, Log

PRICES = Prices("scripted", "given", (Rate(2.0, 8.0, 0.5), Rate(4.0, 16.0, 1.0, 4000)), "given")
PLAN = OuterPlan(
    steering=True, research="sham", every=2, cycles=1, candidates=2, repairs=1, screening=False
)
RUN = replace(LEVELS_RUN, evals=8, outer=PLAN)


@dataclass
class Spender(ThreeLevels):
    """Reads and writes as many tokens as its seed says, never more than a request allows.

    dies_at: number of the call that it is killed in, which is paid for all the same. spent: tokens
    and US dollars of all calls, answered or not.
    """

    sources: Sequence[str] = (BROKEN, SOURCE)
    draw: int = 0
    tokens: int = 0
    usd: float = 0.0
    greed: float = 1.0
    counted: bool = True
    made: list[int] = field(default_factory=list)

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        self.asked.append((tuple(messages), schema, seed))
        rng = random.Random(f"{self.draw} {seed} {len(self.asked)}")
        most = weight(messages, json.dumps(schema)) // 2
        read = int(most * self.greed * rng.uniform(0.2, 1))
        written = int(max_tokens * self.greed * rng.uniform(0, 1))
        price = cost(PRICES, read, written)
        assert price is not None
        self.tokens, self.usd = self.tokens + read + written, self.usd + price
        if len(self.asked) == self.dies_at:
            raise KeyboardInterrupt
        text = self._said(messages, json.dumps(schema), seed)
        return Reply(text, self.name, read, written, 0, 0.5, counted=self.counted)


def go_on(
    run: Run,
    log: Log,
    llm: Spender,
    limits: dict[str, float] | None = None,
    clock: Callable[[], float] = lambda: 0.0,
    evaluator: Instant | None = None,
    layers: Callable[[], Sequence[Layer]] = tuple,
) -> None:
    """One part of a run, to its end, its limit, or its death; as `assemble.conduct` does it."""
    run = limited(run, {**limits_of(run), **(limits or {})})
    if not log:
        log.append(PRICES)
    try:
        log.append(Opening(sum(isinstance(r, Proposal) for r in log), 0.0, limits_of(run)))
        budget = Budget(run, log, clock)

        def append(record: object) -> None:
            log.append(record)  # type: ignore[arg-type]
            budget.add(record)  # type: ignore[arg-type]

        jobs = PacedEvaluator(evaluator or Instant(run.slots), lambda: budget.late("job"))
        edges = Edges(Tape(run.llm, None), jobs, append, records=list(log), expired=budget.expired)
        edges.layers = layers
        edges.sandbox = TrustedSandbox()  # type: ignore[assignment]
        calls = [r for r in log if isinstance(r, Call)]
        edges.tape = Tape(run.llm, llm, calls, edges.log, budget=budget)
        loop = engine.build(run, edges)
        try:
            loop.go()
        except OverBudget as error:
            reason = "wall" if error.limit == "wall" else "budget"
            append(Stop(len(loop.history.proposals), reason, str(error)))  # type: ignore[arg-type]
    except KeyboardInterrupt:
        log.dies_at = None


class Three(Mechanism):
    """Three proposals a step, each about another parameter."""

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        return [moves[0].edit(focus=(name,)) for name in view.open()[:3]]


def three() -> list[Layer]:
    return [Layer("3" * 64, "Three", Three())]


class Hurried(Mechanism):
    """Adds advice while many evaluations are left, and none at the end."""

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        return [m.edit(note="be bold") for m in moves] if view.left > 2 else moves


def hurried() -> list[Layer]:
    return [Layer("4" * 64, "Hurried", Hurried())]


def again(run: Run, log: Log, layers: Callable[[], Sequence[Layer]] = tuple) -> Replay:
    """The run decided again from its log."""
    return replay(run, list(log), layers, TrustedSandbox())  # type: ignore[arg-type]
