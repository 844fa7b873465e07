"""How long a busy server is waited for, who is told of it, and that a run's time holds over it."""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from adapters import ADAPTERS, OPENAI, Adapter, Client
from fake_openai import Answer, FakeOpenAI, refusal, serving

from bilevel.budget.budget import Budget
from bilevel.errors import LLMRejected, LLMUnavailable, OverBudget
from bilevel.llm.faults import Retry
from bilevel.llm.patience import ATTEMPTS, BUSY_ATTEMPTS, doze, pause
from bilevel.model import Denial, Record
from bilevel.tape.tape import Tape
from spending_worlds import RUN

BUSY = (429, 502, 503, 504, 529)


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with serving() as server:
        yield server


def patient(adapter: Adapter, fake: FakeOpenAI) -> Client:
    """A client with the usual number of attempts."""
    return adapter.client(fake, attempts=ATTEMPTS, busy_attempts=BUSY_ATTEMPTS)


@pytest.mark.parametrize("status", BUSY)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_busy_server_is_waited_for_some_minutes(
    adapter: Adapter, fake: FakeOpenAI, status: int
) -> None:
    fake.answers = [refusal(status, "slow down")]
    client = patient(adapter, fake)
    with pytest.raises(LLMUnavailable, match=f"{BUSY_ATTEMPTS} attempts.*slow down"):
        client.ask()
    assert len(fake.requests) == BUSY_ATTEMPTS
    assert 120 < sum(client.slept) < 400
    assert max(client.slept) <= 60


def test_waits_for_a_busy_server_grow_to_a_cap_and_never_vanish() -> None:
    for failed, most in zip(range(1, 10), (2, 4, 8, 16, 32, 60, 60, 60, 60), strict=True):
        waits = [pause(Retry("slow", busy=True), failed) for _ in range(200)]
        assert most / 2 <= min(waits) < max(waits) <= most
    waits = [pause(Retry("reset"), failed) for failed in range(1, ATTEMPTS)]
    assert sum(waits) <= 7.5


def test_what_a_server_asks_for_is_the_least_that_is_waited() -> None:
    assert 40 <= pause(Retry("slow", 40, busy=True), 1) <= 41
    assert 30 <= pause(Retry("slow", 1, busy=True), 7) <= 60
    assert 40 <= pause(Retry("late", 40), 1) <= 41


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_hour_of_trouble_of_both_kinds_is_counted_apart(
    adapter: Adapter, fake: FakeOpenAI
) -> None:
    busy, broken = refusal(529, "overloaded"), Answer(b"", reset=True)
    fake.answers = [*[busy] * 8, *[broken] * (ATTEMPTS - 1), adapter.says("at last")]
    assert patient(adapter, fake).ask().attempts == 8 + ATTEMPTS


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_wrong_key_or_request_fails_at_once(fake: FakeOpenAI, status: int) -> None:
    fake.answers = [refusal(status, "no")]
    client = patient(OPENAI, fake)
    with pytest.raises(LLMRejected):
        client.ask()
    assert (len(fake.requests), client.slept) == (1, [])


def test_the_user_is_told_of_long_waits(fake: FakeOpenAI, caplog: pytest.LogCaptureFixture) -> None:
    fake.answers = [
        refusal(429, "slow down"),
        refusal(429, "still", retry_after="30"),
        OPENAI.says("ok"),
    ]
    with caplog.at_level(logging.WARNING):
        patient(OPENAI, fake).ask()
    (told,) = caplog.messages
    assert told.startswith("m@127.0.0.1")
    assert "429: still; asking again in 3" in told
    assert "attempt 3 of 10" in told


def test_no_wait_goes_beyond_the_time_of_the_run(fake: FakeOpenAI) -> None:
    fake.answers = [refusal(429, "slow", retry_after="60")]
    gone = [0.0]
    log: list[Record] = []
    budget = Budget(replace(RUN, wall=100.0, limits={}), (), lambda: gone[0])

    def sleep(seconds: float) -> None:
        gone[0] += seconds

    llm = OPENAI.make(fake.root, sleep=sleep)
    tape = Tape("m", llm, (), log.append, budget=budget)
    with pytest.raises(OverBudget, match=r"wall=1m40s: 1m40s have passed") as caught:
        tape.complete((), seed=1, max_tokens=5, step=0, level="1", purpose="propose")
    assert caught.value.limit == "wall"
    assert gone[0] == 100.0
    assert len(fake.requests) == 2
    assert [type(r) for r in log] == [Denial]


def test_ctrl_c_that_is_passed_to_a_thread_ends_its_wait() -> None:
    ended = threading.Event()

    def wait() -> None:
        try:
            doze(60)
        except KeyboardInterrupt:
            ended.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    time.sleep(0.1)
    raised = ctypes.py_object(KeyboardInterrupt)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), raised)
    assert ended.wait(10)
