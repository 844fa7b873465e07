"""Sessions beside the loop: evaluations go on, the session lands where it must, and it replays."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace

import pytest

from beside_worlds import PLAN, RUN, World, again, go, held_for, place, until
from bilevel import engine
from bilevel.attribution import leave_one_out, redecide
from bilevel.codec import dump, load
from bilevel.loop import IDLE_STEPS, Loop
from bilevel.mechanism import Mechanism
from bilevel.model import (
    Begun,
    Call,
    Decision,
    Fault,
    Layering,
    MechanismSource,
    Message,
    Move,
    OuterPlan,
    Phase,
    Proposal,
    Record,
    Run,
    Session,
    Steering,
    Stop,
    Trial,
)
from bilevel.outer import STILL
from bilevel.research.beside import Accompanied, InTurn
from bilevel.resuming import answered, underway
from bilevel.stack import Layer
from outer_worlds import TrustedSandbox, of
from worlds import Log, Scripted

pytestmark = pytest.mark.usefixtures("quick_gate")


@pytest.fixture(scope="module")
def world(quick_gate: None) -> World:
    """A run whose first session takes three evaluations."""
    made = held_for(3)
    made.build().go()
    return made


@pytest.fixture(scope="module")
def log(world: World) -> Log:
    return world.log


# While a session is open


def test_evaluations_go_on_while_a_session_is_open(log: Log) -> None:
    begun, session = of(log, Begun)[0], of(log, Session)[0]
    meanwhile = log[place(log, Begun) : place(log, Session)]
    assert len(of(meanwhile, Trial)) == 4
    assert len(of(meanwhile, Proposal)) == 4
    assert {c.level for c in of(meanwhile, Call)} == {"1", "1.5", "2"}
    assert (session.step, session.cycle) == (begun.step, begun.cycle)
    assert session.landed == begun.step + 4


def test_the_session_has_a_thread_and_a_sandbox_of_its_own(world: World) -> None:
    assert set(world.llm.asked_by) == {
        "MainThread",
        *(f"session before step {b.step}" for b in of(world.log, Begun)),
    }
    assert world.rooms == world.closed == len(of(world.log, Begun)) == 2
    until(lambda: not any(t.name.startswith("session before") for t in threading.enumerate()))


def test_steerings_come_at_their_cycles_as_ever(log: Log) -> None:
    assert [s.cycle for s in of(log, Steering)] == [1, 2, 3, 4, 5]
    open_ = log[place(log, Begun) : place(log, Session)]
    assert [s.cycle for s in of(open_, Steering)] == [3, 4]


def test_a_session_knows_the_log_up_to_its_beginning_and_no_more(log: Log) -> None:
    known = of(log[: place(log, Begun)], Trial)
    (first, *_) = [c for c in of(log, Call) if c.purpose == "explore"]
    shown = first.messages[-1].content
    assert f"#{known[-1].id} " in shown
    assert f"#{known[-1].id + 1} " not in shown
    refused = replace(RUN, outer=replace(PLAN, candidates=1, repairs=0))
    world = held_for(3, refused)
    world.llm.writes = "refuse it"
    world.build().go()
    session = of(world.log, Session)[0]
    before = world.log[: place(world.log, Begun)]
    count = sum(not isinstance(r, Call) for r in before)
    assert [a.words for a in session.attempts] == [f"after {count} records, say something else"]


def test_what_a_session_admits_decides_from_its_landing_on(log: Log) -> None:
    session = of(log, Session)[0]
    (added,) = [r for r in of(log, Layering) if r.sha == session.admitted]
    assert added.step == session.landed == session.holds_from
    decided = [d for d in of(log, Decision) if d.layer == session.admitted]
    assert decided[0].step == session.landed
    notes = {p.step: {m.note for m in p.moves} for p in of(log, Proposal)}
    assert all(notes[step] == {""} for step in range(session.landed))
    assert all("note" in str(notes[s]) for s in range(session.landed, len(notes)))


# When it lands


def test_one_that_is_done_at_once_lands_before_the_next_step() -> None:
    world = World(Log(), RUN)
    begins = RUN.baselines + 4
    world.evaluator.waits[begins] = lambda: world.done
    world.build().go()
    first = of(world.log, Session)[0]
    assert first.landed == first.step + 1


def test_the_next_one_that_is_due_is_waited_for() -> None:
    world, due = World(Log(), RUN), threading.Event()
    world.llm.free = due.is_set
    world.edges.watch = lambda phase: due.set() if phase.kind == "wait" else None
    world.build().go()
    first, second = of(world.log, Session)
    assert first.landed == second.step == of(world.log, Begun)[1].step
    assert second.cycle // PLAN.cycles == first.cycle // PLAN.cycles + 1
    assert place(world.log, Session) < place(world.log, Begun, 1)


def test_at_the_end_the_loop_waits_after_the_last_evaluation_and_says_so() -> None:
    run, over = replace(RUN, evals=6), threading.Event()
    world = World(Log(), run)
    world.llm.free = over.is_set

    def watch(phase: Phase) -> None:
        if phase.kind == "wait":
            assert len(of(world.log, Trial)) == run.baselines + 6 + 1, "confirmations are made"
            over.set()

    world.edges.watch = watch
    world.build().go()
    (session,) = of(world.log, Session)
    assert [type(r) for r in world.log[-2:]] == [Session, Stop]
    assert session.landed == len(of(world.log, Proposal))
    assert session.admitted
    assert not of(world.log, Layering), "there is no step left for it"
    assert again(world.log, run).difference is None
    more = replace(run, evals=8)
    go(world.log, run=more)
    (added,) = of(world.log, Layering)
    assert (added.sha, added.step) == (session.admitted, session.landed)


class Nothing(Mechanism):
    """Leaves nothing to evaluate for as long as a mechanism may, from the fourth trial on."""

    def plan(self, view, moves):
        return [Move(parents=(0,), values=view.trials[0].values)] if len(view.trials) > 4 else moves


def test_a_search_that_stands_still_waits_for_the_session() -> None:
    world, waited = World(Log(), RUN), threading.Event()
    world.edges.layers = lambda: [Layer("n" * 64, "Nothing", Nothing())]
    world.llm.free = waited.is_set
    world.edges.watch = lambda phase: waited.set() if phase.kind == "wait" else None
    world.build().go()
    (session,) = of(world.log, Session)
    assert session.landed == session.step + STILL < session.step + IDLE_STEPS
    assert of(world.log, Stop)[-1].reason == "refused"


# Replay


def test_a_run_replays_and_a_landing_elsewhere_is_a_difference(log: Log) -> None:
    assert again(log).difference is None
    at = place(log, Session)
    session = log[at]
    assert isinstance(session, Session)
    assert session.landed is not None
    moved = [*log[:at], replace(session, landed=session.landed - 1), *log[at + 1 :]]
    difference = again(moved).difference
    assert difference is not None
    assert isinstance(difference.recorded, Steering | Proposal | Trial | Session)


def test_a_log_that_ends_in_a_session_replays_as_far_as_it_goes(log: Log) -> None:
    for end in range(place(log, Begun), place(log, Session, 1) + 1, 3):
        found = again(log[:end])
        assert found.difference is None, f"cut after record {end}"


def test_without_threads_the_record_is_the_same_but_for_the_landing(log: Log) -> None:
    slow = go(threaded=False)
    first, session = of(slow, Session)[0], of(log, Session)[0]
    assert replace(first, landed=0, attempts=()) == replace(session, landed=0, attempts=())
    assert [a.source for a in first.attempts] == [a.source for a in session.attempts]
    assert again(slow).difference is None


def test_a_run_that_is_to_land_as_another_did_does_so(log: Log) -> None:
    world = World(Log(), RUN)
    world.edges.landings = {s.step: s.holds_from for s in of(log, Session)}
    world.build().go()
    assert [s.landed for s in of(world.log, Session)] == [s.landed for s in of(log, Session)]


# Arms, plans and turns


def test_the_sham_holds_its_sessions_beside_the_loop_too() -> None:
    run = replace(RUN, outer=replace(PLAN, research="sham"))
    world = held_for(3, run)
    world.build().go()
    assert [s.sham for s in of(world.log, Session)] == [True, True]
    assert not of(world.log, Layering)
    assert of(world.log, Session)[0].landed == of(world.log, Begun)[0].step + 4
    assert again(world.log, run).difference is None


def test_in_turns_no_session_begins_beside_and_none_says_where_it_landed() -> None:
    run, log = replace(RUN, outer=replace(PLAN, beside=False)), Log()
    made = World(log, replace(run, outer=replace(run.outer, beside=True)))
    made.run = run
    loop = engine.build(run, made.edges)
    assert type(loop) is Loop
    loop.go()
    assert not of(log, Begun)
    assert {s.landed for s in of(log, Session)} == {None}
    assert set(made.llm.asked_by) == {"MainThread"}
    assert again(log, run).difference is None


def test_submitted_mechanisms_and_runs_without_level_2_have_nothing_beside() -> None:
    for plan in (replace(PLAN, sources="submitted"), replace(PLAN, research="off")):
        made = World(Log(), RUN)
        assert not isinstance(engine.build(replace(RUN, outer=plan), made.edges), Accompanied)


def test_a_run_of_before_takes_turns() -> None:
    doc = json.loads(dump(RUN))
    del doc["outer"]["beside"]
    assert load(Run, json.dumps(doc)).outer == replace(PLAN, beside=False)
    assert not OuterPlan().beside
    old = asdict(Session(3, 1, {}, ()))
    del old["landed"]
    assert load(Session, json.dumps(old)).holds_from == 3


# What rests on the log's order


def test_calls_of_a_session_do_not_part_what_belongs_together() -> None:
    class Breaks(Mechanism):
        def screen(self, view, drafts):
            raise ValueError("never works")

    def layers() -> list[Layer]:
        return [Layer("b" * 64, "Breaks", Breaks())]

    made = World(Log(), replace(RUN, outer=replace(PLAN, research="off"), evals=4))
    made.edges.layers = layers
    engine.build(made.run, made.edges).go()
    call = next(c for c in of(made.log, Call))
    parted: list[Record] = []
    for record in made.log:
        parted += [record, call] if isinstance(record, Fault) else [record]
    assert all(redecide(made.run, parted, layers()))


def test_credit_of_what_joined_beside_is_measured(log: Log) -> None:
    sandbox = TrustedSandbox()

    def make(found: MechanismSource) -> Layer:
        return Layer(found.sha, found.name, sandbox.load(found.source))

    assert all(redecide(RUN, log, [], make))
    assert all(c.different > 0 for c in leave_one_out(RUN, log, lambda: [], make))


def test_the_log_says_which_session_is_open_and_which_calls_stand(log: Log) -> None:
    begun, landed = place(log, Begun), place(log, Session)
    assert underway(log[:begun]) is None
    assert underway(log[: begun + 1]) == underway(log[:landed]) == begun
    assert underway(log[: landed + 1]) is None
    own = [c for c in of(log[:landed], Call) if c.level == "2"]
    assert own
    assert not [c for c in answered(log[:landed]) if c in own]
    assert [c for c in answered(log[: landed + 1]) if c.level == "2"] == own


def test_a_model_that_answers_one_request_at_a_time_is_asked_so() -> None:
    inside: list[int] = []

    def reply(messages: Sequence[Message], number: int) -> str:
        inside.append(1)
        assert sum(inside) == 1
        threading.Event().wait(0.01)
        inside.pop()
        return "yes"

    model = InTurn(Scripted(reply))
    said: list[str] = []

    def ask() -> None:
        said.append(model.complete((), None, seed=1, max_tokens=1).text)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    model.close()
    assert said == ["yes"] * 4
