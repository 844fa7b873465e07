"""Sessions beside the loop that meet an error, Ctrl-C, a kill, or a limit of the budget."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from beside_worlds import RUN, SlowInSessions, World, again, held_for, place, until
from bilevel import engine
from bilevel.budget.budget import Budget
from bilevel.errors import LLMUnavailable, OverBudget, StoreError
from bilevel.gate.gate import Verdict
from bilevel.model import (
    Ask,
    Begun,
    Call,
    Denial,
    Layering,
    Message,
    Record,
    Reply,
    Run,
    Session,
    Stop,
    Trial,
)
from bilevel.protocols import Schema
from bilevel.tape.tape import Tape
from outer_worlds import QuickGate, of
from patience import PATIENCE
from worlds import Log

pytestmark = pytest.mark.usefixtures("quick_gate")


@pytest.fixture(scope="module")
def log(quick_gate: None) -> Log:
    """A run whose first session takes three evaluations."""
    made = held_for(3)
    made.build().go()
    return made.log


def interrupted() -> bool:
    raise KeyboardInterrupt


def sessions() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("session before")]


# Kills


def resumed(log: Log) -> None:
    """Goes on with a log to the end of its run, and asks for nothing that is paid for."""
    before, world = len(log), World(log)
    paid = len(of(log, Call))
    world.build().go()
    assert len(world.llm.asked) == len(of(log, Call)) - paid
    assert max(Counter(c.key for c in of(log, Call)).values()) == 1, "a reply was paid for twice"
    assert of(log, Stop)[-1].reason == "done"
    assert len(of(log, Begun)) == len(of(log, Session)) == 2
    assert again(log).difference is None, f"killed after record {before}"


def test_a_run_killed_while_a_session_is_open_goes_on_and_replays(log: Log) -> None:
    for cut in range(place(log, Begun), place(log, Session) + 6, 4):
        resumed(Log(log[:cut]))


def test_a_run_killed_elsewhere_too(log: Log) -> None:
    for cut in (1, 8, place(log, Begun, 1) + 1, place(log, Session, 1), len(log) - 1):
        resumed(Log(log[:cut]))


class Full(Log):
    """A store whose disk is full after so many records; each thread meets that."""

    def __init__(self, room: int, records: Sequence[Record] = ()) -> None:
        super().__init__(records)
        self.room = room

    def append(self, record: Record) -> None:
        if len(self) >= self.room:
            raise StoreError("the disk is full")
        super().append(record)


def test_a_run_that_dies_in_its_session_twice_goes_on(log: Log) -> None:
    begun = place(log, Begun)
    full = Full(begun + 4)
    with pytest.raises(StoreError):
        World(full).build().go()
    fuller = Full(begun + 12, full)
    with pytest.raises(StoreError):
        World(fuller).build().go()
    assert len(fuller) == begun + 12
    resumed(Log(fuller))


# Errors


def test_an_llm_that_fails_in_a_session_pauses_the_run_which_goes_on_later() -> None:
    world = held_for(3)
    world.llm.fails = {2: LLMUnavailable("the server is gone")}
    with pytest.raises(LLMUnavailable, match="the server is gone"):
        world.build().go()
    assert not of(world.log, Session)
    assert len(of(world.log[place(world.log, Begun) :], Trial)) == 4, "all that was begun is there"
    assert [c.purpose for c in of(world.log, Call) if c.level == "2"] == ["explore"]
    resumed(world.log)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_a_session_reaches_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(QuickGate):
        def judge(self, text: str) -> Verdict:
            raise ZeroDivisionError("a bug in the gate")

    monkeypatch.setattr(engine, "Gate", Broken)
    with pytest.raises(ZeroDivisionError, match="a bug in the gate"):
        held_for(3).build().go()
    until(lambda: not sessions())


def test_what_a_session_is_asking_is_waited_for_when_the_loop_fails() -> None:
    world, freed = World(Log()), threading.Event()
    world.llm.free = freed.is_set
    at = RUN.baselines + 4 + 2

    def fails() -> bool:
        threading.Timer(0.2, freed.set).start()
        raise StoreError("no disk")

    world.evaluator.waits[at] = fails
    with pytest.raises(StoreError, match="no disk"):
        world.build().go()
    told = [c.purpose for c in of(world.log, Call) if c.level == "2"]
    assert told == ["explore"], "its reply is paid for; the next is not asked for"
    until(lambda: not sessions())
    resumed(world.log)


def test_two_errors_at_once_are_both_told() -> None:
    world = held_for(3)
    world.llm.fails = {1: LLMUnavailable("its server is gone")}
    passes = world.evaluator.waits.popitem()[1]

    def fails() -> bool:
        world.llm.free = lambda: True
        while not world.done:
            passes()
        raise StoreError("no disk")

    world.evaluator.waits[RUN.baselines + 5] = fails
    with pytest.raises(StoreError, match="no disk") as caught:
        world.build().go()
    assert caught.value.__notes__ == ["the session beside it failed as well: its server is gone"]


# Ctrl-C


def test_ctrl_c_ends_the_session_with_the_loop() -> None:
    world = World(Log())
    world.llm.free = lambda: False
    world.evaluator.waits[RUN.baselines + 5] = interrupted
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        world.build().go()
    assert time.monotonic() - start < PATIENCE
    until(lambda: not sessions())
    assert world.rooms == world.closed == 1, "its sandbox is closed"
    resumed(world.log)


def test_a_reply_that_comes_after_ctrl_c_gets_nowhere() -> None:
    world, freed = World(Log()), threading.Event()

    def free() -> bool:
        freed.wait()
        return True

    def asked() -> bool:
        until(lambda: world.llm.sessions > 0)
        raise KeyboardInterrupt

    world.llm.free = free
    world.evaluator.waits[RUN.baselines + 5] = asked
    with pytest.raises(KeyboardInterrupt):
        world.build().go()
    (left,) = sessions()
    logged = list(world.log)
    freed.set()
    left.join(10)
    assert not left.is_alive()
    assert world.log == logged
    resumed(world.log)


def test_ctrl_c_ends_the_waiting_for_a_session() -> None:
    world = World(Log(), replace(RUN, evals=6))
    world.llm.free = lambda: False

    def watch(phase: object) -> None:
        if phase.kind == "wait":  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    world.edges.watch = watch
    with pytest.raises(KeyboardInterrupt):
        world.build().go()
    until(lambda: not sessions())
    assert sum(t.role == "search" for t in of(world.log, Trial)) == 6


# The budget


def under(run: Run, log: Log, llm: SlowInSessions) -> World:
    """A world whose calls are held to the run's limits."""
    world = World(log, run, llm)
    budget = Budget(run, log)

    def append(record: Record) -> None:
        log.append(record)
        budget.add(record)

    world.edges.append = append
    calls = of(log, Call)
    world.edges.tape = Tape(run.llm, llm, calls, world.edges.log, budget=budget)
    return world


@pytest.mark.parametrize("limit", ["calls", "tokens", "2:calls", "2:tokens"])
def test_no_limit_is_crossed_with_both_under_way(limit: str) -> None:
    stopped = set()
    for most in (0, 3, 9, 12, 17, 23):
        amount = float(most if limit.endswith("calls") else 700 * most)
        run, log = replace(RUN, limits={limit: amount}), Log()
        world = under(run, log, SlowInSessions())
        try:
            world.build().go()
        except OverBudget as error:
            stopped.add(error.limit)
        level = limit[:1] if ":" in limit else ""
        calls = [c for c in of(log, Call) if level in ("", c.level)]
        spent = len(calls) if limit.endswith("calls") else 110 * len(calls)
        assert spent <= amount
        assert len(world.llm.asked) == len(of(log, Call))
        until(lambda: not sessions())
        assert again(log, run).difference is None
    assert stopped == ({limit} if ":" not in limit else set())


def test_a_session_that_may_not_even_begin_lands_with_nothing_and_the_level_is_silent() -> None:
    run, log = replace(RUN, limits={"2:calls": 0.0}), Log()
    under(run, log, SlowInSessions()).build().go()
    (session,) = of(log, Session)
    assert (session.notes, session.attempts, session.admitted) == ({}, (), "")
    assert len(of(log, Begun)) == len(of(log, Denial)) == 1
    assert of(log, Stop)[-1].reason == "done"
    assert not of(log, Layering)


class Meeting:
    """An LLM whose replies take a tenth of what they may; the first waits to be let go."""

    name = "meeting"

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.go_on = threading.Event()

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        if not self.asked.is_set():
            self.asked.set()
            assert self.go_on.wait(PATIENCE)
        return Reply("yes", self.name, 10, max_tokens // 10)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("tokens", "replies"), [(1500.0, 2), (1000.0, 1)])
def test_a_call_waits_for_the_one_under_way_before_it_is_denied(
    tokens: float, replies: int
) -> None:
    run, log, llm = replace(RUN, limits={"tokens": tokens}), Log(), Meeting()
    budget, lock = Budget(run), threading.RLock()

    def record(one: Record) -> None:
        with lock:
            log.append(one)
            budget.add(one)

    tape = Tape("meeting", llm, (), record, budget=budget)
    other = tape.apart(record, lambda: None)

    def ask(one: Tape, level: str) -> None:
        talk = (Message("user", level),)
        one.complete(talk, seed=1, max_tokens=900, step=0, level=level, purpose="x")  # type: ignore[arg-type]

    session = threading.Thread(target=ask, args=(other, "2"))
    session.start()
    assert llm.asked.wait(PATIENCE)
    threading.Timer(0.1, llm.go_on.set).start()
    if replies == 2:
        ask(tape, "1")
    else:
        with pytest.raises(OverBudget):
            ask(tape, "1")
    session.join(PATIENCE)
    kinds = [type(r) for r in log]
    assert kinds[:2] == [Ask, Call], "it was not denied while the first was under way"
    assert kinds[2:] == ([Ask, Call] if replies == 2 else [Denial])


def test_what_one_learns_of_lengths_changes_nothing_of_what_the_other_asks() -> None:
    tape = Tape("m", None)
    talk = (Message("user", "x" * 50),)
    long = Call(
        "k", 0, "2", "explore", talk, "null", 1, 9, Reply("too long", "m", finish="context")
    )
    tape.spend([long])
    asked = {level: tape._refused.get(("m", level == "2"), []) for level in ("1", "2")}
    assert asked == {"1": [], "2": [50]}
