"""How often a server is asked again, and how long it is waited for in between.

One that says that it is busy (429, 502, 503, 504, 529) is waited for some minutes, as a limit by
the minute or a restart must not end a night's run; a connection that fails, for some seconds.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable

import tenacity

from bilevel.llm.faults import Retry
from bilevel.tape.leave import leave

log = logging.getLogger(__name__)
ATTEMPTS = 5
BUSY_ATTEMPTS = 10  # waits of 2.5 to 5 minutes in all, where the server asks for none
FIRST, LONGEST = 0.5, 30.0  # seconds, at most, before the second attempt and before any
BUSY_FIRST, BUSY_LONGEST = 2.0, 60.0
TOLD = 5.0  # seconds; of a shorter wait nothing is said
SLICE = 0.5  # seconds; a thread is interrupted between two of them


class Patience:
    """That of one completion.

    name: whom it is told of. attempts, busy_attempts: so many may fail, and find the server busy.
    sleep: waits some seconds.
    """

    def __init__(
        self, name: str, attempts: int, busy_attempts: int, sleep: Callable[[float], None]
    ) -> None:
        self.made = 0
        self._lost = False  # whether the last attempt may have been paid for
        self._name = name
        self._most = {False: attempts, True: busy_attempts}
        self._failed: Counter[bool] = Counter()  # attempts, by whether the server was busy
        self._sleep = sleep

    def retrying(self) -> tenacity.Retrying:
        """Calls what may raise Retry until it does not, or the last Retry is let through.

        Raises OverBudget where the run's time ends while it waits, and where what may have been
        paid for in vain leaves no room for another attempt.
        """
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Retry),
            after=self._count,
            wait=self._wait,
            stop=self._enough,
            before_sleep=self._tell,
            sleep=self._pause,
            before=self._before,
            reraise=True,
        )

    def _before(self, state: tenacity.RetryCallState) -> None:
        if self.made:
            leave().again(self._lost)
        self.made += 1

    def _count(self, state: tenacity.RetryCallState) -> None:
        error = _fault(state)
        self._failed[error.busy] += 1
        self._lost = error.lost

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = _fault(state)
        return pause(error, self._failed[error.busy])

    def _enough(self, state: tenacity.RetryCallState) -> bool:
        busy = _fault(state).busy
        return self._failed[busy] >= self._most[busy]

    def _tell(self, state: tenacity.RetryCallState) -> None:
        error, seconds = _fault(state), state.upcoming_sleep
        if seconds >= TOLD:
            count = f"attempt {self._failed[error.busy] + 1} of {self._most[error.busy]}"
            log.warning("%s: %s; asking again in %.0f s, %s", self._name, error, seconds, count)

    def _pause(self, seconds: float) -> None:
        self._sleep(min(seconds, max(0.0, leave().left())))


def pause(error: Retry, failed: int) -> float:
    """Seconds until the next attempt: exponential with jitter, and no less than was asked for.

    failed: so many attempts failed in this way.
    """
    if error.busy:
        most = min(BUSY_LONGEST, BUSY_FIRST * 2.0 ** (failed - 1))
        least = error.after + random.random() if error.after else 0.0
        return max(least, random.uniform(most / 2, most))
    if error.after:
        return error.after + random.random()
    return random.uniform(0.0, min(LONGEST, FIRST * 2.0 ** (failed - 1)))


def doze(seconds: float) -> None:
    """Sleep so that Ctrl-C ends it at once, in whichever thread it is to arrive."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, SLICE))


def _fault(state: tenacity.RetryCallState) -> Retry:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, Retry)
    return error
