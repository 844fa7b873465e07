import threading
import time

import pytest

from bilevel.llm.limits import WINDOW, Limiter, Rates


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now = 100.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def starts(rates: Rates, costs: list[int], lasts: float = 1.0) -> list[float]:
    """When requests of these costs, one after another, get their turns."""
    clock = Clock()
    limiter = Limiter(rates, lambda: clock.now, clock.sleep)
    begun = []
    for cost in costs:
        with limiter.turn(cost):
            begun.append(clock.now - 100)
            clock.sleep(lasts)
    return begun


def test_without_limits_nobody_waits() -> None:
    assert starts(Rates(), [10**9] * 3) == [0, 1, 2]


def test_no_minute_sees_more_requests_than_allowed() -> None:
    assert starts(Rates(requests=2), [1] * 5) == [0, 1, 60, 61, 120]


def test_no_minute_sees_more_tokens_than_allowed() -> None:
    assert starts(Rates(tokens=100), [60, 40, 1, 100]) == [0, 1, 60, 120]


def test_a_request_over_the_limit_waits_for_an_empty_window_and_goes() -> None:
    assert starts(Rates(tokens=100), [500, 500]) == [0, WINDOW]


def test_what_a_request_took_counts_and_not_what_it_was_held_to_take() -> None:
    clock = Clock()
    limiter = Limiter(Rates(tokens=100), lambda: clock.now, clock.sleep)
    with limiter.turn(90) as turn:
        turn.tokens = 10
    with limiter.turn(90):
        assert clock.now == 100


@pytest.mark.parametrize("most", [1, 2])
def test_no_more_requests_at_a_time_than_allowed(most: int) -> None:
    limiter = Limiter(Rates(at_a_time=most))
    at_once, seen = 0, []
    lock = threading.Lock()

    def ask() -> None:
        nonlocal at_once
        with limiter.turn(1):
            with lock:
                at_once += 1
                seen.append(at_once)
            time.sleep(0.02)
            with lock:
                at_once -= 1

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(seen) == most


def test_a_turn_is_given_back_when_the_request_fails() -> None:
    limiter = Limiter(Rates(at_a_time=1))
    for _ in range(3):
        with pytest.raises(ValueError, match="down"), limiter.turn(1):
            raise ValueError("down")
