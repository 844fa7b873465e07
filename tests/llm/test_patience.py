"""How long a busy server is waited for, who is told of it, and that a run's time holds over it."""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from adapters import ADAPTERS, OPENAI, TALK, Adapter, Client
from fake_openai import Answer, FakeOpenAI, refusal, serving

from bilevel.budget.budget import Budget, Spent
from bilevel.errors import LLMRejected, LLMUnavailable, OverBudget
from bilevel.llm.faults import Retry
from bilevel.llm.patience import ATTEMPTS, BUSY_ATTEMPTS, doze, pause
from bilevel.model import Ask, Call, Denial, Record, Reply
from bilevel.protocols import LLM
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


def asked(llm: LLM, limits: dict[str, float], log: list[Record]) -> Reply:
    """One call of a run with these limits, as a tape makes it; `log` takes its records."""
    budget = Budget(replace(RUN, limits=limits), log)

    def append(record: Record) -> None:
        log.append(record)
        budget.add(record)

    tape = Tape("m", llm, (), append, budget=budget)
    return tape.complete(TALK, seed=1, max_tokens=50, step=0, level="1", purpose="propose")


def spent(limits: dict[str, float], log: list[Record]) -> Spent:
    return Budget(replace(RUN, limits=limits), log).spent()


LOST = [
    pytest.param(Answer(b"{}", delay=0.6), id="time-out"),
    pytest.param(Answer(b"", reset=True), id="reset"),
    pytest.param(Answer(b'{"choices"', short=99), id="cut"),
    pytest.param(refusal(504, "gave up"), id="504"),
]


@pytest.mark.parametrize("fault", LOST)
def test_an_attempt_that_may_have_been_paid_for_in_vain_counts_at_its_most(
    fake: FakeOpenAI, fault: Answer
) -> None:
    fake.answers = [fault, fault, OPENAI.says("ok")]
    log: list[Record] = []
    llm = OPENAI.make(fake.root, timeout=2.0, sleep=lambda _: None)
    assert asked(llm, {"tokens": 10_000.0}, log).text == "ok"
    asks = [r for r in log if isinstance(r, Ask)]
    assert [type(r) for r in log] == [Ask, Ask, Ask, Call]
    found = spent({"tokens": 10_000.0}, log)
    assert (found.calls, found.tokens) == (3, 2 * asks[0].tokens + 23)


@pytest.mark.parametrize("kind", ["tokens", "calls"])
def test_no_further_attempt_is_made_that_could_cross_a_limit(fake: FakeOpenAI, kind: str) -> None:
    fake.answers = [Answer(b"", reset=True)]
    most = 2.0
    log: list[Record] = []
    if kind == "tokens":
        with pytest.raises(LLMUnavailable):
            asked(OPENAI.make(fake.root, attempts=1), {"tokens": 10_000.0}, log)
        most = 2.0 * spent({"tokens": 10_000.0}, log).tokens
        log.clear()
        fake.requests.clear()
    llm = OPENAI.make(fake.root, sleep=lambda _: None)
    with pytest.raises(OverBudget) as caught:
        asked(llm, {kind: most}, log)
    assert caught.value.limit == kind
    assert len(fake.requests) == 2
    assert [type(r) for r in log] == [Ask, Ask, Denial]
    assert getattr(spent({kind: most}, log), kind) == most


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
def test_an_attempt_that_was_turned_away_took_nothing(fake: FakeOpenAI, status: int) -> None:
    fake.answers = [refusal(status, "no"), refusal(status, "no"), OPENAI.says("ok")]
    log: list[Record] = []
    llm = OPENAI.make(fake.root, sleep=lambda _: None)
    asked(llm, {"calls": 1.0}, log)
    assert [type(r) for r in log] == [Ask, Call]
    assert spent({"calls": 1.0}, log) == Spent(1, 23, None)


def test_a_connection_that_was_never_made_took_nothing() -> None:
    log: list[Record] = []
    llm = OPENAI.make("http://127.0.0.1:9", sleep=lambda _: None)
    with pytest.raises(LLMUnavailable):
        asked(llm, {"calls": 1.0}, log)
    assert [type(r) for r in log] == [Ask]


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
    assert ended.wait(50)
