"""Puts a run's two loops together over one log; the same for a live run and for a replay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from bilevel.dialogue import Researcher
from bilevel.errors import ConfigError
from bilevel.evaluate import Evaluator
from bilevel.gate import Gate, Verdict
from bilevel.history import History
from bilevel.loop import Loop
from bilevel.merit import Known, ranked
from bilevel.model import MechanismSource, Phase, Record, Run
from bilevel.outer import Outer
from bilevel.proposer import Proposer
from bilevel.sandbox.sandboxed import Sandbox
from bilevel.screening import screening
from bilevel.stack import Layer, Stack
from bilevel.steering import Steerer
from bilevel.tape import Tape


@dataclass
class Edges:
    """What a run's loops touch the world through.

    records: the log so far, which grows with `append`. layers: makes fresh ones of the stack that
    the run began with. sandbox: holds generated code; None where no level of the run writes any.
    """

    tape: Tape
    evaluator: Evaluator
    append: Callable[[Record], object]
    layers: Callable[[], Sequence[Layer]] = tuple
    sandbox: Sandbox | None = None
    records: list[Record] = field(default_factory=list)
    expired: Callable[[], str] = lambda: ""
    watch: Callable[[Phase], None] = lambda _: None

    def log(self, record: Record) -> None:
        """Makes a record durable, and part of the log so far."""
        self.append(record)
        self.records.append(record)

    def load(self, source: MechanismSource) -> Layer:
        """A layer of generated code. Raises SandboxRefused or MechanismError."""
        if self.sandbox is None:
            raise ConfigError(
                "the log puts generated code in, and no sandbox was opened to hold it"
            )
        return Layer(source.sha, source.name, self.sandbox.load(source.source))


def build(run: Run, edges: Edges) -> Loop:
    """The inner loop of a run, its outer loop called between the steps."""
    history = History(run.space, edges.records)
    stack = Stack(edges.layers(), run.seed, edges.log, edges.records, edges.load)
    loop = Loop(
        run=run,
        objective=run.objective,
        history=history,
        proposer=Proposer(run.brief, run.objective, edges.tape, run.seed),
        evaluator=edges.evaluator,
        stack=stack,
        append=edges.log,
        expired=edges.expired,
        watch=edges.watch,
    )
    if run.outer.steering or run.outer.research != "off":
        loop.between = _outer(run, edges, history, stack)
    return loop


def _outer(run: Run, edges: Edges, history: History, stack: Stack) -> Outer:
    def judge(text: str) -> Verdict:
        assert edges.sandbox is not None, "research needs a sandbox"
        screen = partial(screening, run, edges.records) if run.outer.screening else None
        gate = Gate(run, edges.records, lambda: _fresh(edges, stack), edges.sandbox, screen)
        return gate.judge(text)

    def known() -> Sequence[Known]:
        return ranked(run, edges.records, edges.layers, edges.load)

    return Outer(
        run=run,
        history=history,
        records=edges.records,
        stack=stack,
        steerer=Steerer(run.brief, run.objective, edges.tape, run.seed),
        researcher=Researcher(run, history, edges.tape, judge),
        append=edges.log,
        known=known,
        slots=edges.evaluator.slots,
        watch=edges.watch,
    )


def _fresh(edges: Edges, stack: Stack) -> list[Layer]:
    """The layers that are on the stack now, as they were before they were asked anything."""
    hand = {layer.sha: layer for layer in edges.layers()}
    sources = {r.sha: r for r in edges.records if isinstance(r, MechanismSource)}
    return [hand.get(x.sha) or edges.load(sources[x.sha]) for x in stack.layers]
