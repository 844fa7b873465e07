"""The parts of a run, from each opening to the stop or the kill that ended it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from bilevel.budget.budget import Budget, limits_of
from bilevel.budget.words import limit_text
from bilevel.model import Call, Denial, Opening, Proposal, Record, Run, Stop, Trial

Events = Iterable[tuple[int, str, datetime | None, Record]]


def elapsed(events: Events) -> float:
    """Seconds of wall-clock time that a run took, from its log as the store gives it.

    Each part counts from its opening to its last record. What was logged before the first opening,
    by an earlier version, counts by the seconds of its calls and evaluations.
    """
    total, begun, last = 0.0, None, None
    for _, _, at, record in events:
        if isinstance(record, Opening):
            total += _between(begun, last)
            begun = at
        elif begun is None and isinstance(record, Trial):
            total += record.seconds
        elif begun is None and isinstance(record, Call):
            total += record.reply.seconds
        last = at
    return total + _between(begun, last)


def _between(begun: datetime | None, last: datetime | None) -> float:
    # Not less than nothing, should the computer's clock have been set back.
    return 0.0 if begun is None or last is None else max(0.0, (last - begun).total_seconds())


def opening(run: Run, events: Events, sandbox: str = "") -> Opening:
    """What the log gets before a run begins or goes on; its limits are those of `run`."""
    listed = list(events)
    steps = sum(isinstance(record, Proposal) for *_, record in listed)
    return Opening(steps, elapsed(listed), limits_of(run), sandbox)


def clock(opened: Opening) -> Callable[[], float]:
    """Seconds of wall-clock time that the run has taken, its earlier parts counted in."""
    start = time.monotonic()
    return lambda: opened.seconds + time.monotonic() - start


def more(run: Run, records: Sequence[Record], stop: Stop, gone: float = 0.0) -> str:
    """To go on after a limit: twice it, or what the next step needs, if more.

    gone: seconds of wall-clock time that the run has taken.
    """
    limit = stop.detail.partition("=")[0]
    denied_for = [r.needs for r in records if isinstance(r, Denial) and r.why == stop.detail]
    needs = max((n for n in denied_for if n is not None), default=0.0)
    if limit == "wall":
        needs = gone + Budget(run, records).longest()
    return limit_text(limit, max(2 * limits_of(run)[limit], _rounded_up(needs)))


def _rounded_up(amount: float) -> float:
    """To two significant digits, as a limit is written with fewer digits than a float has."""
    unit = 10.0 ** (math.floor(math.log10(amount)) - 1) if amount else 1.0
    return math.ceil(amount / unit) * unit
