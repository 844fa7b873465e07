"""Re-decides a recorded run with neither LLM nor jobs; names the first decision that differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bilevel.errors import BilevelError
from bilevel.evaluate import RecordedEvaluator
from bilevel.history import History
from bilevel.loop import Loop
from bilevel.model import Call, Proposal, Record, Run, Trial
from bilevel.proposer import Proposer
from bilevel.stack import Layer, Stack
from bilevel.tape import Tape


@dataclass(frozen=True)
class Difference:
    """The first record on which replay and log disagree; `replayed` is None if none came."""

    number: int
    recorded: Record
    replayed: Record | None
    why: str


@dataclass(frozen=True)
class Replay:
    """How many decisions (proposals and acceptances) came out as recorded, and the first not."""

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
        if not isinstance(record, Proposal | Trial):
            return
        self.replayed = record
        if self.complete or record != self.recorded[self.matched]:
            raise _Mismatch
        self.matched += 1


def replay(run: Run, records: Sequence[Record], layers: Sequence[Layer] = ()) -> Replay:
    """The run decided again from its calls and outcomes; it need not have ended.

    layers: fresh ones of the run's stack.
    """
    decided = _Comparison([r for r in records if isinstance(r, Proposal | Trial)])
    tape = Tape(run.llm, None, [r for r in records if isinstance(r, Call)])
    trials = [r for r in records if isinstance(r, Trial)]
    loop = Loop(
        run=run,
        objective=run.objective,
        history=History(run.space),
        proposer=Proposer(run.brief, run.objective, tape, run.seed),
        evaluator=RecordedEvaluator(trials, run.space, run.objective, run.slots),
        stack=Stack(layers, run.seed, decided.append),
        append=decided.append,
        expired=lambda: "the record ends here" if decided.complete else "",
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
