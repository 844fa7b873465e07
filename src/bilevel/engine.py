"""Puts a run's two loops together over one log; the same for a live run and for a replay."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from threading import RLock
from typing import cast

from bilevel.budget.budget import in_force
from bilevel.errors import ConfigError, OverBudget, StoreError
from bilevel.evaluate import Evaluator
from bilevel.gate.gate import Gate, Rule, Verdict
from bilevel.gate.screening import screening
from bilevel.history import History
from bilevel.library.proposer import STAND_IN, stand_in
from bilevel.loop import Loop
from bilevel.model import (
    Begun,
    Call,
    Layering,
    MechanismSource,
    Opening,
    Phase,
    Prices,
    Proposal,
    Record,
    Run,
    Session,
)
from bilevel.outer import Outer, view_now
from bilevel.proposer import Proposer
from bilevel.research.beside import Accompanied, Beside, Fence
from bilevel.research.dialogue import Researcher
from bilevel.research.merit import Known, ranked, with_library
from bilevel.research.submissions import Submissions
from bilevel.resuming import Verdicts, answered, settled, timeless, underway
from bilevel.sandbox.sandboxed import Sandbox
from bilevel.stack import Act, Layer, Stack
from bilevel.steering import Steerer
from bilevel.tape.tape import Tape

Layers = Callable[[], Sequence[Layer]]
Room = AbstractContextManager[tuple[Sandbox, Layers]]


@dataclass
class Edges:
    """What a run's loops touch the world through.

    records: the log so far, which grows with `append`. layers: makes fresh ones of the stack that
    the run began with. sandbox: holds generated code; None where no level of the run writes any.
    recorded: a log that is decided again, for the faults in it that are facts; of a run that is
    gone on with, its own. room: for a session in another thread, a sandbox of its own, and
    `layers` in that; None where all is done in one thread. landings: of sessions beside the loop
    that are to land as in another run's record, see `beside.Beside`. lock: held while a record
    is added to the log.
    """

    tape: Tape
    evaluator: Evaluator
    append: Callable[[Record], object]
    layers: Layers = tuple
    sandbox: Sandbox | None = None
    records: list[Record] = field(default_factory=list)
    expired: Callable[[], str] = lambda: ""
    watch: Callable[[Phase], None] = lambda _: None
    recorded: Sequence[Record] = ()
    room: Callable[[], Room] | None = None
    landings: Mapping[int, int] = field(default_factory=dict)
    lock: AbstractContextManager[object] = field(default_factory=RLock, init=False)
    _again: list[Record] = field(default_factory=list, init=False)
    _paid: list[Call] = field(default_factory=list, init=False)
    verdicts: Verdicts = field(default_factory=lambda: Verdicts(()), init=False)

    def settle(self) -> None:
        """Set aside what was logged of a decision that was cut short.

        It is taken again, from the same log, and what is set aside is not made durable twice.
        """
        self.recorded = self.recorded or list(self.records)
        self.verdicts = Verdicts(self.recorded)
        end = settled(self.records)
        cut = self.records[end:]
        self._again = [timeless(r) for r in cut if isinstance(r, Act | Begun)]
        self._paid = [r for r in cut if isinstance(r, Call)]
        self.records = [*self.records[:end], *(r for r in cut if isinstance(r, Prices | Opening))]
        self.tape.spend(answered(self.records))

    def told(self) -> list[Record]:
        """The log so far, with the calls that were set aside: they are paid for, and on the tape.

        What a model was asked counts so in a run that went on as it does in its replay.
        """
        return [*self._paid, *self.records]

    def log(self, record: Record) -> None:
        """Makes a record durable, unless it is, and part of the log so far; from any thread."""
        with self.lock:
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
    outer: Outer | None = None
    kind: Callable[..., Loop] = Loop
    if run.outer.steering or run.outer.research != "off" or run.library:
        outer = _outer(run, edges, history, stack)
    if outer is not None and outer.beside is not None:
        kind = partial(Accompanied, beside=outer.beside, land=outer.land)
    loop = kind(
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
    if outer is not None:
        loop.between = outer
    return loop


def _proposer(run: Run, edges: Edges) -> Proposer:
    given = (run.brief, run.objective, edges.tape, run.seed)
    return Proposer(*given, hypotheses=run.hypotheses)


def _outer(run: Run, edges: Edges, history: History, stack: Stack) -> Outer:
    judge = partial(_judged, run, edges)
    return Outer(
        run=run,
        history=history,
        records=edges.records,
        stack=stack,
        steerer=Steerer(run.brief, run.objective, edges.tape, run.seed, hypotheses=run.hypotheses),
        researcher=Submissions(run, edges.tape, judge)
        if run.outer.sources == "submitted"
        else Researcher(run, history, edges.tape, judge),
        append=edges.log,
        known=partial(_known, run, edges),
        slots=edges.evaluator.slots,
        watch=edges.watch,
        beside=_beside(run, edges) if run.outer.beside and run.outer.sources == "rounds" else None,
    )


def _beside(run: Run, edges: Edges) -> Beside | None:
    """What holds sessions beside the loop; it goes on with the one that the log leaves open."""
    if run.outer.research == "off":
        return None
    landed = {r.step: r.holds_from for r in edges.recorded if isinstance(r, Session)}
    made = Beside(
        hold=partial(_session, run, edges),
        append=edges.log,
        lock=edges.lock,
        landings={**edges.landings, **landed},
        threaded=edges.room is not None,
    )
    if (at := underway(edges.records)) is not None:
        begun = edges.records[at]
        assert isinstance(begun, Begun)
        made.begin(begun, edges.records[:at])
    return made


def _session(
    run: Run, edges: Edges, begun: Begun, records: Sequence[Record], fence: Fence
) -> Session:
    """The session that began on these records, held on nothing else; in any thread."""
    apart = replace(edges, tape=edges.tape.apart(fence.log, fence.ask), records=list(records))
    apart.verdicts = edges.verdicts
    run = in_force(run, records)
    history = History(run.space, records)
    with ExitStack() as closing:
        if edges.room is not None:
            apart.sandbox, apart.layers = closing.enter_context(edges.room())

        def judge(text: str) -> Verdict:
            fence.judge()
            return _judged(run, apart, text)

        researcher = Researcher(run, history, apart.tape, judge)
        view = view_now(run, history, edges.evaluator.slots)
        try:
            return researcher.hold(view, begun.cycle, _known(run, apart))
        except OverBudget:  # its Denial is on record
            return Session(begun.step, begun.cycle, {}, (), sham=run.outer.research == "sham")


def _judged(run: Run, edges: Edges, text: str) -> Verdict:
    assert edges.sandbox is not None, "research needs a sandbox"
    screen = partial(screening, run, edges.records) if run.outer.screening else None
    gate = Gate(run, edges.records, lambda: _fresh(edges), edges.sandbox, screen)
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


def _fresh(edges: Edges) -> list[Layer]:
    """The layers on the stack at the end of the log, as before they were asked anything."""
    begun_with = edges.layers()
    stacked = [layer.sha for layer in begun_with]
    for record in edges.records:
        if isinstance(record, Layering) and record.action == "add":
            stacked.append(record.sha)
        elif isinstance(record, Layering):
            stacked.remove(record.sha)
    hand = {layer.sha: layer for layer in begun_with}
    sources = {r.sha: r for r in edges.records if isinstance(r, MechanismSource)}
    return [hand.get(sha) or edges.load(sources[sha]) for sha in stacked]
