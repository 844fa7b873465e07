"""Holds requests back, so that a provider's rates are kept to before it has to say so.

Limits hold within a process. The window of a minute slides: whatever began in the last 60 seconds
counts, as providers count it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

WINDOW = 60.0


@dataclass(frozen=True)
class Rates:
    """The most requests and tokens a minute, and requests at a time. None: no limit."""

    requests: int | None = None
    tokens: int | None = None
    at_a_time: int | None = None


@dataclass
class Turn:
    """A request that may be sent. tokens: what it is held to cost, to be set right once known."""

    at: float
    tokens: int


class Limiter:
    """Gives turns, each as soon as all limits allow it.

    A request whose tokens alone are over the limit waits for an empty window, then goes. clock,
    sleep: for tests.
    """

    def __init__(
        self,
        rates: Rates,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rates = rates
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._turns: deque[Turn] = deque()
        self._room = threading.BoundedSemaphore(rates.at_a_time) if rates.at_a_time else None

    @contextmanager
    def turn(self, tokens: int) -> Iterator[Turn]:
        """Wait for a turn that is held to cost so many tokens; others wait while it lasts."""
        with self._room or nullcontext():
            while True:
                with self._lock:
                    wait = self._wait(tokens)
                    if not wait:
                        turn = Turn(self._clock(), tokens)
                        self._turns.append(turn)
                        break
                self._sleep(wait)
            yield turn

    def _wait(self, tokens: int) -> float:
        """Seconds until the window may have room for one more request of so many tokens."""
        now = self._clock()
        while self._turns and self._turns[0].at <= now - WINDOW:
            self._turns.popleft()
        rates = self._rates
        if not self._turns:
            return 0.0
        full = rates.requests is not None and len(self._turns) >= rates.requests
        used = sum(turn.tokens for turn in self._turns)
        if full or (rates.tokens is not None and used + tokens > rates.tokens):
            return max(self._turns[0].at + WINDOW - now, 0.001)
        return 0.0
