"""Puts a run's two loops together over one log; the same for a live run and for a replay."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

from bilevel.dialogue import Researcher
from bilevel.errors import ConfigError, StoreError
from bilevel.evaluate import Evaluator
from bilevel.gate import Gate, Rule, Verdict
from bilevel.history import History
from bilevel.library_proposer import STAND_IN, stand_in
from bilevel.loop import Loop
from bilevel.merit import Known, ranked, with_library
from bilevel.model import Call, MechanismSource, Opening, Phase, Proposal, Record, Run
from bilevel.outer import Outer
from bilevel.proposer import Proposer
from bilevel.resuming import Verdicts, settled, timeless
from bilevel.sandbox.sandboxed import Sandbox
from bilevel.screening import screening
from bilevel.stack import Act, Layer, Stack
from bilevel.steering import Steerer
from bilevel.submissions import Submissions
from bilevel.tape import Tape


@dataclass
class Edges:
    """What a run's loops touch the world through.

    records: the log so far, which grows with `append`. layers: makes fresh ones of the stack that
    the run began with. sandbox: holds generated code; None where no level of the run writes any.
    recorded: a log that is decided again, for the faults in it that are facts; of a run that is
    gone on with, its own.
    """

    tape: Tape
    evaluator: Evaluator
    append: Callable[[Record], object]
    layers: Callable[[], Sequence[Layer]] = tuple
    sandbox: Sandbox | None = None
    records: list[Record] = field(default_factory=list)
    expired: Callable[[], str] = lambda: ""
    watch: Callable[[Phase], None] = lambda _: None
    recorded: Sequence[Record] = ()
    _again: list[Record] = field(default_factory=list, init=False)
    verdicts: Verdicts = field(default_factory=lambda: Verdicts(()), init=False)

    def settle(self) -> None:
        """Set aside what was logged of a decision that was cut short.

        It is taken again, from the same log, and what is set aside is not made durable twice.
        """
        self.recorded = self.recorded or list(self.records)
        self.verdicts = Verdicts(self.recorded)
        end = settled(self.records)
        self._again = [timeless(r) for r in self.records[end:] if isinstance(r, Act)]
        opened = [r for r in self.records[end:] if isinstance(r, Opening)]
        self.records = [*self.records[:end], *opened]
        self.tape.spend(r for r in self.records if isinstance(r, Call))

    def log(self, record: Record) -> None:
        """Makes a record durable, unless it is, and part of the log so far."""
        if timeless(record) in self._again:
            self._again.remove(timeless(record))
        else:
            self.append(record)
        self.records.append(record)

    def load(self, source: MechanismSource) -> Layer:
        """A layer of generated code. Raises SandboxRefused, MechanismError or StoreError."""
        if self.sandbox is None:
            raise ConfigError(
                "the log puts generated code in, and no sandbox was opened to hold it"
            )
        if hashlib.sha256(source.source.encode()).hexdigest() != source.sha:
            raise StoreError(
                f"the source of {source.name} is not the text whose sha the log gives "
                f"({source.sha[:12]}); restore the log as it was written"
            )
        mechanism = self.sandbox.load(source.source)
        return Layer(source.sha, source.name, mechanism, mechanism.close)


def build(run: Run, edges: Edges) -> Loop:
    """The inner loop of a run, its outer loop called between the steps."""
    edges.settle()
    history = History(run.space, edges.records)
    stack = Stack(edges.layers(), run.seed, edges.log, edges.records, edges.load, edges.recorded)
    loop = Loop(
        run=run,
        objective=run.objective,
        history=history,
        proposer=stand_in(run) if run.llm == STAND_IN else _proposer(run, edges),
        evaluator=edges.evaluator,
        stack=stack,
        append=edges.log,
        expired=edges.expired,
        watch=edges.watch,
    )
    if run.outer.steering or run.outer.research != "off" or run.library:
        loop.between = _outer(run, edges, history, stack)
    return loop


def _proposer(run: Run, edges: Edges) -> Proposer:
    return Proposer(run.brief, run.objective, edges.tape, run.seed)


def _outer(run: Run, edges: Edges, history: History, stack: Stack) -> Outer:
    judge = partial(_judged, run, edges, stack)
    return Outer(
        run=run,
        history=history,
        records=edges.records,
        stack=stack,
        steerer=Steerer(run.brief, run.objective, edges.tape, run.seed),
        researcher=Submissions(run, edges.tape, judge)
        if run.outer.sources == "submitted"
        else Researcher(run, history, edges.tape, judge),
        append=edges.log,
        known=partial(_known, run, edges),
        slots=edges.evaluator.slots,
        watch=edges.watch,
    )


def _judged(run: Run, edges: Edges, stack: Stack, text: str) -> Verdict:
    assert edges.sandbox is not None, "research needs a sandbox"
    screen = partial(screening, run, edges.records) if run.outer.screening else None
    gate = Gate(run, edges.records, lambda: _fresh(edges, stack), edges.sandbox, screen)
    now = gate.judge(text)
    step = sum(isinstance(r, Proposal) for r in edges.records)
    then = edges.verdicts.next(step, now.sha, now.rule, now.words)
    if then is None:
        return now
    return replace(now, rule=cast(Rule, then.rule), words=then.words, figures=then.figures)


def _known(run: Run, edges: Edges) -> Sequence[Known]:
    """What is known of earlier mechanisms; the layers made to find it out are closed again."""
    with ExitStack() as closing:

        def closed(layer: Layer) -> Layer:
            closing.callback(layer.close)
            return layer

        def layers() -> Sequence[Layer]:
            return [closed(layer) for layer in edges.layers()]

        def load(source: MechanismSource) -> Layer:
            return closed(edges.load(source))

        return with_library(run, ranked(run, edges.records, layers, load))


def _fresh(edges: Edges, stack: Stack) -> list[Layer]:
    """The layers that are on the stack now, as they were before they were asked anything."""
    hand = {layer.sha: layer for layer in edges.layers()}
    sources = {r.sha: r for r in edges.records if isinstance(r, MechanismSource)}
    return [hand.get(x.sha) or edges.load(sources[x.sha]) for x in stack.layers]
