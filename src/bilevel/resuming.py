"""What a run that goes on, or is decided again, takes from its log beside the state.

Decisions follow from the log, but for what the clock or the machine did: that is a fact of the
run, and comes again as it was recorded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from bilevel.model import (
    Attempt,
    Begun,
    Call,
    Decision,
    Fault,
    Proposal,
    Record,
    Session,
    Steering,
    Trial,
)

ENDS = Proposal | Trial | Steering | Session  # kinds of records that end a decision
ADD = "add"  # in place of a hook, for a fault in loading a source
LAPSES = ("MechanismTimeout", "WorkerDied")  # kinds of faults that the same code may not repeat
# How the gate's words begin to say that a source was too slow, or that its worker ended.
_CLOCK = re.compile(
    r"must take under|gave no answer in|no answer in time|the worker (?:ended|took)|ring around"
)


def settled(records: Sequence[Record]) -> int:
    """How many records there are up to the last that ends a decision.

    What was logged after it belongs to a decision that was cut short, and is taken again.
    """
    ends = (i for i in reversed(range(len(records))) if isinstance(records[i], ENDS))
    return next(ends, -1) + 1


def underway(records: Sequence[Record]) -> int | None:
    """Where the session began that was being held beside the loop when the log ended, if any."""
    for number in reversed(range(len(records))):
        if isinstance(records[number], Begun | Session):
            return number if isinstance(records[number], Begun) else None
    return None


def answered(records: Sequence[Record]) -> Iterator[Call]:
    """The calls of decisions that stand: not those of a session that was cut short beside them."""
    at = underway(records)
    begun = None if at is None else records[at]
    for record in records:
        if isinstance(record, Call) and not (
            isinstance(begun, Begun) and (record.level, record.step) == ("2", begun.step)
        ):
            yield record


def timeless(record: Record) -> Record:
    """The record without what a clock measured."""
    if isinstance(record, Decision):
        return replace(record, ms=0.0)
    if not isinstance(record, Session):
        return record
    attempts = [
        replace(a, figures={k: v for k, v in a.figures.items() if not k.startswith("ms")})
        for a in record.attempts
    ]
    return replace(record, attempts=tuple(attempts))


class Lapses:
    """The faults in a log that say nothing about the code: it was too slow that once, it died.

    A call is known by its step, layer and hook, and its number among the calls of those.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._found: dict[tuple[int, str, str, int], Fault] = {}
        self._asked = Counter[tuple[int, str, str]]()
        for record in records:
            if isinstance(record, Decision | Fault):
                number = self.count(record)
                if isinstance(record, Fault) and (record.kind in LAPSES or record.hook == ADD):
                    self._found[record.step, record.layer, record.hook, number] = record
        self._asked.clear()

    def count(self, call: Decision | Fault) -> int:
        """Count a call that is not made again; its number."""
        place = (call.step, call.layer, call.hook)
        self._asked[place] += 1
        return self._asked[place]

    def next(self, step: int, layer: str, hook: str) -> Fault | None:
        """The fault that the call to be made now had, if it had such a one; counts the call."""
        self._asked[step, layer, hook] += 1
        return self._found.get((step, layer, hook, self._asked[step, layer, hook]))


class Verdicts:
    """The gate's verdicts in a log, for those that say as much of a machine as of a source.

    taken: how many came otherwise here and were replaced by the log's.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.taken = 0
        self._found: dict[tuple[int, str], list[Attempt]] = {}
        for session in (r for r in records if isinstance(r, Session)):
            for attempt in session.attempts:
                self._found.setdefault((session.step, attempt.sha), []).append(attempt)

    def next(self, step: int, sha: str, rule: str, words: str) -> Attempt | None:
        """What the log has in place of this verdict, if they differ and one is of the clock.

        The n-th verdict on a source in the session of a step stands for the n-th recorded one.
        """
        known = self._found.get((step, sha))
        if not known:
            return None
        then = known.pop(0)
        differ = (rule, words) != (then.rule, then.words)
        if not differ or not _CLOCK.search(f"{words} {then.words}"):
            return None
        self.taken += 1
        return then
