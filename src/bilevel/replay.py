"""Re-decides a recorded run with neither LLM nor jobs; names the first decision that differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bilevel.budget.budget import limited, limits_of
from bilevel.engine import Edges, build
from bilevel.ensemble import Cast
from bilevel.errors import BilevelError
from bilevel.evaluate import RecordedEvaluator
from bilevel.model import (
    Call,
    Denial,
    Layering,
    MechanismSource,
    Opening,
    Proposal,
    Record,
    Run,
    Session,
    Steering,
    Trial,
)
from bilevel.resuming import timeless
from bilevel.sandbox.sandboxed import Sandbox
from bilevel.stack import Layer
from bilevel.tape.tape import Tape

# Kinds of records that must come again.
DECIDED = Proposal | Trial | Steering | Session | MechanismSource | Layering


@dataclass(frozen=True)
class Difference:
    """The first record on which replay and log disagree; `replayed` is None if none came."""

    number: int
    recorded: Record
    replayed: Record | None
    why: str


@dataclass(frozen=True)
class Replay:
    """How many decisions of all levels came out as recorded, and the first that did not.

    lapses: verdicts of the gate on a source's speed that came otherwise here; the record's stand.
    """

    decisions: int
    difference: Difference | None
    lapses: int = 0


class _Mismatch(Exception):
    pass


class _Comparison:
    """Takes the place of the log: each record must equal the recorded one of its turn."""

    def __init__(self, recorded: Sequence[Record]) -> None:
        self.recorded = recorded
        self.matched = 0
        self.end = len(recorded)
        self.replayed: Record | None = None

    @property
    def complete(self) -> bool:
        """Whether all came that comes before `end`."""
        return self.matched == self.end

    def append(self, record: Record) -> None:
        if not isinstance(record, DECIDED):
            return
        self.replayed = record
        if self.complete or timeless(record) != timeless(self.recorded[self.matched]):
            raise _Mismatch
        self.matched += 1


def replay(
    run: Run,
    records: Sequence[Record],
    layers: Callable[[], Sequence[Layer]] = tuple,
    sandbox: Sandbox | None = None,
) -> Replay:
    """The run decided again from its calls and outcomes; it need not have ended.

    layers: makes fresh ones of the stack that the run began with. sandbox: holds the generated
    code of a run that has some.
    """
    decided = _Comparison([r for r in records if isinstance(r, DECIDED)])
    lapses = 0
    for now, begin, end in _parts(run, records):
        decided.end = sum(isinstance(r, DECIDED) for r in records[:end])
        edges = _edges(now, records, begin, decided)
        edges.layers, edges.sandbox = layers, sandbox
        why = "the replayed record differs"
        try:
            build(now, edges).go()
        except _Mismatch:
            pass
        except BilevelError as error:
            why = str(error)
        lapses += edges.verdicts.taken
        if not decided.complete:
            at = decided.matched
            return Replay(at, Difference(at, decided.recorded[at], decided.replayed, why), lapses)
    return Replay(decided.matched, None, lapses)


def _parts(run: Run, records: Sequence[Record]) -> Iterator[tuple[Run, int, int]]:
    """The run as its limits were, from one record to another; one part where they never changed."""
    begin = 0
    for number, record in enumerate(records):
        if isinstance(record, Opening) and record.limits != limits_of(run):
            yield run, begin, number
            run, begin = limited(run, record.limits), number + 1
    yield run, begin, len(records)


def _edges(run: Run, records: Sequence[Record], begin: int, decided: _Comparison) -> Edges:
    """What a replay goes by from one record on: what was said and measured, and what was not."""
    trials = [r for r in records if isinstance(r, Trial)]
    calls = [r for r in records if isinstance(r, Call)]
    edges = Edges(
        tape=Tape(run.llm, None),
        evaluator=RecordedEvaluator(trials, run.space, run.objective, run.slots),
        append=decided.append,
        records=list(records[:begin]),
        expired=lambda: "the record ends here" if decided.complete else "",
        recorded=records,
    )
    denials = [r for r in records if isinstance(r, Denial)]
    cast = Cast(run, lambda: records)
    edges.tape = Tape(run.llm, None, calls, edges.log, cast, denials=denials)
    return edges
