"""How long a test waits for what must come, on a machine that has no time for it."""

import time
from collections.abc import Callable

PATIENCE = 300.0  # seconds


def soon(true: Callable[[], bool]) -> None:
    """Wait for it; fails the test where it does not come true."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)
