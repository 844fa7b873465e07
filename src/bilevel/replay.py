"""Re-decides a recorded run with neither LLM nor jobs; names the first decision that differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bilevel.engine import Edges, build
from bilevel.errors import BilevelError
from bilevel.evaluate import RecordedEvaluator
from bilevel.model import (
    Call,
    Layering,
    MechanismSource,
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
from bilevel.tape import Tape

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
    """How many decisions of all levels came out as recorded, and the first that did not."""

    decisions: int
    difference: Difference | None


class _Mismatch(Exception):
    pass


class _Comparison:
    """Takes the place of the log: each record must equal the recorded one of its turn."""

    def __init__(self, recorded: Sequence[Record]) -> None:
        self.recorded = recorded
        self.matched = 0
        self.replayed: Record | None = None

    @property
    def complete(self) -> bool:
        return self.matched == len(self.recorded)

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
    trials = [r for r in records if isinstance(r, Trial)]
    loop = build(
        run,
        Edges(
            tape=Tape(run.llm, None, [r for r in records if isinstance(r, Call)]),
            evaluator=RecordedEvaluator(trials, run.space, run.objective, run.slots),
            append=decided.append,
            layers=layers,
            sandbox=sandbox,
            expired=lambda: "the record ends here" if decided.complete else "",
            recorded=records,
        ),
    )
    why = "the replayed record differs"
    try:
        loop.go()
    except _Mismatch:
        pass
    except BilevelError as error:
        why = str(error)
    if decided.complete:
        return Replay(decided.matched, None)
    at = decided.matched
    return Replay(at, Difference(at, decided.recorded[at], decided.replayed, why))
