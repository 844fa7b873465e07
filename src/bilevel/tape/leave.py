"""What a call may still do while its model is asked: wait for a server, ask it again, ask more.

A client of a model that goes on after a first request asks here, so that the limits of a run hold
within a call as they do before it. Each thread has the leave of the call that it makes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from bilevel.model import Message


@dataclass(frozen=True)
class Leave:
    """left: seconds until the run's time is up, infinite without such a limit.

    again: called before another attempt at the call, with whether the last one may have been paid
    for in vain, which then counts for ever; raises OverBudget where none may follow. more: whether
    a request on top of what was answered fits; it counts until the call is over, and for ever if
    the reply's `attempts` leave it out.
    """

    left: Callable[[], float] = lambda: math.inf
    again: Callable[[bool], None] = lambda lost: None
    more: Callable[[Sequence[Message]], bool] = lambda messages: True


FREE = Leave()
_now = ContextVar("leave", default=FREE)


def leave() -> Leave:
    """That of the call which this thread makes; outside of a run all is free."""
    return _now.get()


@contextmanager
def given(leave: Leave) -> Iterator[None]:
    """The block has this leave."""
    before = _now.set(leave)
    try:
        yield
    finally:
        _now.reset(before)
