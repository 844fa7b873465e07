"""When the outer levels speak, what joins and leaves, and that a kill changes none of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from bilevel.attribution import influence, leave_one_out, redecide
from bilevel.errors import LLMUnavailable
from bilevel.levels import outer_loop, usage
from bilevel.mechanism import Mechanism
from bilevel.model import (
    Call,
    Decision,
    Fault,
    Layering,
    MechanismSource,
    Message,
    Outcome,
    Proposal,
    Record,
    Run,
    Session,
    Steering,
    Stop,
    Trial,
    Values,
)
from bilevel.protocols import Schema
from bilevel.render.lines import session_lines
from bilevel.resuming import timeless
from bilevel.sandbox.errors import MechanismTimeout
from bilevel.stack import Layer
from outer_worlds import (
    COUNTS,
    FAULTY,
    INERT,
    KEEPS,
    NEVER_CALLED,
    RUN,
    VALUES,
    Script,
    ScriptedLevels,
    TrustedSandbox,
    calm,
    explored,
    fitting,
    levels,
    notes,
    obliging,
    of,
    planned,
    quick,
    real_gate,
    recorded,
    replayed,
    sha_of,
    source,
)
from worlds import SPACE, Log

__all__ = ["quick", "real_gate"]
MIXED = Script(
    sources=(
        (f"refuse {notes('no')}", notes("one")),
        (COUNTS,),
        (KEEPS,),
        ("refuse at all",),
        (FAULTY,),
        (VALUES,),
    ),
    explore=lambda session: explored("Mine" if session == 2 else ""),
)


def evaluated_before(log: Sequence[Record], record: Record) -> int:
    return sum(t.role == "search" for t in of(log[: log.index(record)], Trial))


def prompts(log: Sequence[Record], purpose: str) -> list[str]:
    return ["\n".join(m.content for m in c.messages) for c in of(log, Call) if c.purpose == purpose]


def stacked(log: Sequence[Record]) -> list[set[str]]:
    """The mechanisms on the stack after each record."""
    held, all_held = set[str](), []
    for record in log:
        if isinstance(record, Layering):
            (held.add if record.action == "add" else held.discard)(record.sha)
        all_held.append(set(held))
    return all_held


def why_left(log: Sequence[Record], text: str) -> list[str]:
    return [r.why for r in of(log, Layering) if (r.sha, r.action) == (sha_of(text), "remove")]


def plain(log: Sequence[Record]) -> list[Record]:
    return [timeless(r) for r in log]


# When they speak


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("propose", [Script().propose, obliging], ids=["idle steps", "no idle"])
def test_steering_comes_after_every_cycle_and_not_twice(propose: object) -> None:
    run = planned(evals=11, every=3)
    log = recorded(Script(propose=propose), run=run)  # type: ignore[arg-type]
    found = of(log, Steering)
    assert [s.cycle for s in found] == [1, 2, 3]
    assert [evaluated_before(log, s) for s in found] == [3, 6, 9]
    assert [s.at for s in found] == [len(of(log[: log.index(s)], Proposal)) for s in found]


@pytest.mark.usefixtures("quick")
def test_a_session_comes_after_every_so_many_cycles() -> None:
    log = recorded(Script(propose=obliging), run=planned(evals=13, every=2, cycles=2))
    found = of(log, Session)
    assert [(s.cycle, evaluated_before(log, s)) for s in found] == [(2, 4), (4, 8), (6, 12)]
    assert [s.cycle for s in of(log, Steering)] == [1, 2, 3, 4, 5, 6]


class Several(Mechanism):
    def plan(self, view, moves):
        return [m.edit(note=f"try {i}") for i in range(view.slots) for m in moves]


@pytest.mark.usefixtures("quick")
def test_a_boundary_that_several_slots_jump_over_is_not_missed() -> None:
    run = planned(evals=11, slots=3, every=2, cycles=2)
    log = recorded(
        Script(propose=obliging), run=run, layers=lambda: [Layer("s", "several", Several())]
    )
    before = [evaluated_before(log, s) for s in of(log, Steering)]
    assert any(n % 2 for n in before), "no boundary was jumped over; the test says nothing"
    assert [s.cycle for s in of(log, Steering)] == [n // 2 for n in before]
    assert all(b > a for a, b in pairwise(before))
    assert [s.cycle // 2 for s in of(log, Session)] == [1, 2]


@pytest.mark.usefixtures("quick")
def test_nobody_speaks_once_the_budget_is_spent() -> None:
    log = recorded(Script(propose=obliging), run=planned(evals=4, every=2, cycles=2))
    assert [s.cycle for s in of(log, Steering)] == [1]
    assert not of(log, Session)
    assert not of(recorded(run=planned(evals=2)), Steering)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("steering", "research", "spoken"),
    [
        (False, "off", {"1"}),
        (True, "off", {"1", "1.5"}),
        (False, "on", {"1", "2"}),
        (True, "on", {"1", "1.5", "2"}),
        (True, "sham", {"1", "1.5", "2"}),
    ],
    ids=["A", "B", "D", "C", "sham"],
)
def test_each_arm_hears_its_levels_and_no_other(
    steering: bool, research: str, spoken: set[str]
) -> None:
    log = recorded(run=planned(steering=steering, research=research))
    assert {c.level for c in of(log, Call)} == spoken
    assert bool(of(log, Steering)) == steering
    assert bool(of(log, Session)) == (research != "off")
    assert bool(of(log, Layering)) == bool(of(log, MechanismSource)) == (research == "on")
    assert of(log, Stop)[-1].reason == "done"


@pytest.mark.usefixtures("quick")
def test_a_sham_pays_for_its_sessions_and_leaves_their_code_out() -> None:
    run = planned(research="sham")
    log = recorded(Script(explore=lambda _: explored("Mine")), run=run)
    assert len(of(log, Session)) == 4
    assert all(s.sham and s.admitted and s.attempts for s in of(log, Session))
    assert not of(log, Decision)
    assert {m.note for p in of(log, Proposal) for m in p.moves} == {""}
    assert replayed(log, run).difference is None


# What joins


@pytest.mark.usefixtures("real_gate")
def test_what_is_admitted_joins_by_sha_and_decides_under_that_sha() -> None:
    log = recorded(Script(sources=((notes("one"),),)), run=planned(evals=4))
    (session,), (added,), (text,) = (of(log, k) for k in (Session, Layering, MechanismSource))
    assert session.admitted == added.sha == text.sha == sha_of(text.source)
    assert session.attempts[-1].figures["influence"] > 0
    assert "'one'" in text.source
    since = log[log.index(added) :]
    plans = [d for d in of(since, Decision) if d.hook == "plan"]
    assert {d.layer for d in plans} == {added.sha}
    assert [(i.asked, i.changed) for i in influence(log) if i.hook == "plan"] == [
        (len(plans), len(plans))
    ]
    assert {m.note for p in of(since, Proposal) for m in p.moves} == {"one"}
    assert {m.note for p in of(log[: log.index(added)], Proposal) for m in p.moves} == {""}


FREE_RULE = {
    "hook": "accept",
    "statistic": "how many plans were made",
    "rule": "keeps what has a score at every third",
    "idea": "Wander off now and then",
    "name": "WanderOff",
}
REMEMBERS = source(
    "def __init__(self):",
    "    self.turn = 0",
    "def plan(self, view, moves):",
    "    self.turn += 1",
    "    return [m.edit(note='turn ' + str(self.turn)) for m in moves]",
    "def accept(self, view, trial, keep):",
    "    return keep or (trial.score is not None and self.turn % 3 == 0)",
)


@pytest.mark.usefixtures("real_gate")
def test_a_class_of_any_rule_joins_remembers_and_replays_and_frames_follow_a_failure() -> None:
    def specified(messages: Sequence[Message], schema: Schema) -> str:
        free = "hook" in schema["properties"]
        return json.dumps(FREE_RULE if free else {**fitting(schema), "name": "Mine"})

    script = Script(sources=((REMEMBERS,), (INERT,), (notes("three"),)), specify=specified)
    log = recorded(script, run=planned(evals=12, writes="classes"))
    first, second, third = of(log, Session)[:3]
    assert first.admitted
    assert "self.turn += 1" in first.attempts[-1].source
    assert not second.admitted
    assert {"turn 1", "turn 2", "turn 3"} <= {m.note for p in of(log, Proposal) for m in p.moves}
    assert {d.hook for d in of(log, Decision) if d.before != d.after} == {"plan", "accept"}
    assert {a.way for a in (*first.attempts, *second.attempts)} <= {"write", "improve", "repair"}
    assert {a.way for a in third.attempts} <= {"fill", "improve", "repair"}
    assert [s.writes for s in (first, second, third)] == ["classes", "classes", "frames"]
    said = [line.plain for line in session_lines(second, usage(log, "2"))]
    assert any("classes are asked for" in line for line in said)
    assert any("from now on sessions ask for expressions of frames" in line for line in said)
    assert outer_loop(planned(evals=12, writes="classes"), log).writes == "classes, then frames"
    texts = [r.rationale for r in of(log, MechanismSource) if r.sha == first.admitted]
    assert "Wander off now and then" in texts[0]
    assert replayed(log, planned(evals=12, writes="classes")).difference is None


@pytest.mark.usefixtures("real_gate")
@pytest.mark.parametrize(
    ("text", "rule"), [(NEVER_CALLED, "parse"), (INERT, "influence")], ids=["never", "inert"]
)
def test_what_is_never_called_or_changes_nothing_does_not_join(text: str, rule: str) -> None:
    log = recorded(Script(sources=((text,),)))
    sessions = of(log, Session)
    assert sessions
    assert {a.rule for s in sessions for a in s.attempts} == {rule}
    assert {s.admitted for s in sessions} == {""}
    assert not of(log, Layering)
    assert not of(log, Decision)


@pytest.mark.usefixtures("real_gate")
def test_another_text_of_the_same_class_name_runs_as_itself() -> None:
    log = recorded(Script(sources=((notes("one"),), (notes("two"),)), propose=obliging),
                   run=planned(evals=6), measure=calm)  # fmt: skip
    one, two = of(log, MechanismSource)
    assert one.name == two.name == "Mine"
    assert one.sha != two.sha
    notes_of = {
        d.layer: {m["note"] for m in json.loads(d.after)}
        for d in of(log, Decision)
        if d.hook == "plan"
    }
    assert notes_of == {one.sha: {"one"}, two.sha: {"two"}}


@pytest.mark.usefixtures("quick")
def test_an_equal_source_admitted_again_is_on_the_stack_once() -> None:
    log = recorded(Script(sources=((notes("one"),),)), run=planned(evals=8), measure=calm)
    assert len(of(log, Session)) >= 2
    assert len(of(log, MechanismSource)) == len(of(log, Layering)) == 1


# What leaves


@pytest.mark.usefixtures("quick")
def test_of_too_many_the_one_with_least_credit_leaves() -> None:
    # The second one's note hides the first's, so that the run would be the same without that.
    script = Script(sources=((notes("one"),), (notes("two"),), (COUNTS,)), propose=obliging)
    log = recorded(script, run=planned(evals=8), measure=calm)
    assert max(map(len, (held for held, r in zip(stacked(log), log, strict=True)
                         if isinstance(r, Decision)))) == 2  # fmt: skip
    (why,) = why_left(log, notes("one"))
    assert why.startswith("it has the least credit (")
    assert "another was admitted" in why
    assert stacked(log)[-1] == {sha_of(notes("two")), sha_of(COUNTS)}


@pytest.mark.usefixtures("quick")
def test_a_session_can_ask_for_the_removal_of_one_that_never_gained() -> None:
    def worse(values: Values, seed: int) -> Outcome:
        value = float(dict(values) != SPACE.defaults())
        return Outcome("ok", value, {"loss": value})

    ask = Script(explore=lambda session: explored("Mine" if session == 1 else ""), propose=obliging)
    gained = recorded(ask, run=planned(evals=8, layers=3), measure=calm)
    assert why_left(gained, notes("one")) == []
    log = recorded(ask, run=planned(evals=8, layers=3), measure=worse)
    assert why_left(log, notes("one")) == ["a session of Level 2 asked for it"]
    session = of(log, Session)[1]
    left = next(r for r in of(log, Layering) if r.action == "remove")
    assert session.removed == {left.sha: left.why}
    assert left.step == session.step
    assert "taken out: a session of Level 2 asked for it" in prompts(log, "explore")[2]


@pytest.mark.usefixtures("quick")
def test_one_that_changes_nothing_leaves_after_a_cycle() -> None:
    log = recorded(Script(sources=((INERT,), (COUNTS,), (COUNTS,)), propose=obliging), measure=calm)
    (why,) = why_left(log, INERT)
    assert why.startswith("it changed none of ")
    assert "in 2 evaluations" in why
    assert f"taken out: {why}" in prompts(log, "explore")[1]


@pytest.mark.usefixtures("quick")
def test_one_that_does_harm_leaves() -> None:
    far = source(
        "def screen(self, view, drafts):",
        "    d = drafts[0]",
        "    return [d.edit({**d.values, 'BATCH': 65536}, 'far away')]",
    )
    script = Script(sources=((far,), (notes("one"),), (notes("one"),)), propose=obliging)
    log = recorded(script, run=planned(evals=6, cycles=1))
    (why,) = why_left(log, far)
    assert why.startswith("the last 2 trials that it touched all failed or lost more than")
    assert f"taken out: {why}" in prompts(log, "explore")[1]


@pytest.mark.usefixtures("quick")
def test_one_that_leads_to_nothing_new_leaves_before_the_run_gives_up() -> None:
    locks = source(
        "def plan(self, view, moves):",
        "    return [m.edit(focus=('PATTERN',)) for m in moves]",
    )
    script = Script(sources=((locks,), (INERT,)), propose=obliging)
    run = planned(evals=9, every=4)
    log = recorded(script, run=run, measure=calm)
    (why,) = why_left(log, locks)
    assert why == "5 steps in a row led to no evaluation, and it shaped each of them"
    left = next(r for r in of(log, Layering) if r.action == "remove")
    steps = of(log, Proposal)
    assert not any(p.queue for p in steps[left.step - 5 : left.step])
    assert steps[left.step - 6].queue
    assert steps[left.step].queue, "without it the search goes on"
    assert of(log, Stop)[-1].reason == "done"
    assert replayed(log, run).difference is None


@pytest.mark.usefixtures("quick")
def test_one_with_three_faults_leaves() -> None:
    script = Script(sources=((FAULTY,), (notes("one"),), (notes("two"),)), propose=obliging)
    log = recorded(script, run=planned(evals=9, every=4), measure=calm)
    assert len(of(log, Fault)) == 3
    (why,) = why_left(log, FAULTY)
    assert why.startswith("3 faults, the last in plan: ")
    assert "index out of range" in why
    assert f"taken out: {why}" in prompts(log, "explore")[1]
    assert all(m.note == "" for p in of(log, Proposal) for m in p.moves if p.step < 8)


@pytest.mark.usefixtures("quick")
def test_a_layer_that_left_is_closed() -> None:
    sandbox = TrustedSandbox()
    log = recorded(MIXED, sandbox=sandbox)
    assert "remove" in {r.action for r in of(log, Layering)}
    assert sorted(sandbox.loaded) == sorted([*sandbox.closed, *stacked(log)[-1]])


@pytest.mark.usefixtures("quick")
def test_what_is_frozen_binds_moves_that_carry_values() -> None:
    log = Log()
    loop = levels(log, run=planned(steering=False, research="off"))
    loop.stack.layers = [Layer("v", "values", TrustedSandbox().load(VALUES))]
    loop._baseline()
    loop.history.add(Steering(frozen=("DECAY",)))
    loop.step()
    (fault,) = of(log, Fault)
    assert "DECAY is frozen at 0.1" in fault.message
    (proposal,) = of(log, Proposal)
    assert [m.values for m in proposal.moves] == [None]
    assert all(d.values["DECAY"] == 0.1 for d in proposal.drafts)


# What goes wrong


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("specify", ["I would rather not.", "[1]", '{"hook": "evaluate"}'])
def test_a_session_without_a_specification_ends_on_record(specify: str) -> None:
    log = recorded(Script(specify=specify))
    sessions = of(log, Session)
    assert len(sessions) == 4
    assert all(s.attempts == () and s.admitted == "" for s in sessions)
    assert all(s.notes["specify"] == specify for s in sessions)
    assert not of(log, Layering)
    assert of(log, Stop)[-1].reason == "done"
    assert replayed(log).difference is None


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("explore", ["no JSON", "[]", '"Mine"', '{"remove": ["Mine"]}', "null"])
def test_a_first_round_that_is_nonsense_removes_nothing(explore: str) -> None:
    log = recorded(Script(explore=lambda _: explore))
    assert all(s.removed == {} for s in of(log, Session))


@pytest.mark.usefixtures("quick")
def test_a_session_whose_sources_are_all_refused_ends_on_record() -> None:
    log = recorded(Script(sources=(("refuse this", "refuse that"),)))
    for session in of(log, Session):
        ways = [a.way for a in session.attempts]
        assert ways[1::2] == ["repair", "repair"]
        assert "repair" not in ways[::2]
        assert all(a.rule == "influence" and a.words for a in session.attempts)
        assert session.admitted == ""
    repairs = [c for c in of(log, Call) if c.purpose == "repair 0.1"]
    assert all("say something else" in c.messages[-1].content for c in repairs)
    assert not of(log, Layering)
    assert replayed(log).difference is None


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("slots", [1, 3])
def test_a_run_whose_llm_gives_no_answer_goes_on_later_to_the_same_end(slots: int) -> None:
    run = planned(evals=7, slots=slots)
    whole = recorded(MIXED, run=run)
    calls = len(of(whole, Call))
    assert calls > 20
    for dies_at in range(1, calls + 1, 3):
        log, llm = Log(), ScriptedLevels(script=MIXED, dies_at=dies_at)
        with pytest.raises(LLMUnavailable):
            levels(log, run=run, llm=llm).go()
        levels(log, run=run, llm=llm).go()
        assert plain(log) == plain(whole), f"no answer to call {dies_at}"
        assert len(llm.asked) == calls + 1


@pytest.mark.usefixtures("quick")
def test_a_source_that_cannot_be_loaded_is_a_fault_and_the_run_goes_on() -> None:
    script = Script(propose=obliging)
    log = recorded(script, sandbox=TrustedSandbox({sha_of(notes("one"))}), measure=calm)
    session = of(log, Session)[0]
    assert session.admitted == sha_of(notes("one"))
    fault = of(log, Fault)[0]
    assert (fault.layer, fault.hook, fault.step) == (session.admitted, "add", session.step)
    assert "No module named 'sklearn'" in fault.message
    assert session.admitted not in {r.sha for r in of(log, Layering)}
    assert "admitted, and could not be loaded: ModuleNotFound" in prompts(log, "explore")[1]
    assert of(log, Stop)[-1].reason == "done"
    assert replayed(log).difference is None, "where it loads, the run is decided as it was"


# Kills


def kill_everywhere(script: Script, run: Run, layers: object = tuple, step: int = 1) -> Log:
    named = {"run": run, "layers": layers}
    whole = recorded(script, **named)
    for cut in range(0, len(whole) + 1, step):
        log, llm = Log(whole[:cut]), ScriptedLevels(script=script)
        if cut < len(whole):
            levels(log, llm=llm, **named).go()  # type: ignore[arg-type]
        assert plain(log) == plain(whole), f"killed after record {cut}"
        assert len(llm.asked) == len(of(whole[cut:], Call)), "a reply was paid for twice"
    return whole


@pytest.mark.usefixtures("quick")
def test_a_run_of_three_levels_killed_after_any_record_goes_on_to_the_same_log() -> None:
    whole = kill_everywhere(MIXED, RUN)
    assert {"add", "remove"} == {r.action for r in of(whole, Layering)}
    assert len(of(whole, Session)) == 4


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("steering", "slots", "layers"), [(False, 1, 1), (True, 3, 1)], ids=["D", "slots"]
)
def test_the_same_without_steering_and_with_several_slots(
    steering: bool, slots: int, layers: int
) -> None:
    script = replace(MIXED, sources=((notes("one"),), (notes("two"),), (COUNTS,)))
    run = planned(evals=8, steering=steering, slots=slots, layers=layers)
    several = (lambda: [Layer("s", "several", Several())]) if slots > 1 else tuple
    whole = kill_everywhere(script, run, several, 5)
    assert [r for r in of(whole, Layering) if "least credit" in r.why]


class SlowOnce(TrustedSandbox):
    """Its mechanisms miss their time at the second plan, where `slow`."""

    def __init__(self, slow: bool) -> None:
        super().__init__()
        self.slow = slow

    def load(self, text: str) -> Mechanism:
        made, sandbox = super().load(text), self
        plan = type(made).plan

        def slow_plan(self: Mechanism, view, moves):
            if sandbox.slow and view.step % 4 == 3:
                raise MechanismTimeout("plan gave no answer in 10 s")
            return plan(self, view, moves)

        type(made).plan = slow_plan
        return made


@pytest.mark.usefixtures("quick")
def test_a_call_that_was_too_slow_once_is_so_in_every_replay_and_after_a_kill() -> None:
    run = planned(evals=8, layers=3)
    script = Script(propose=obliging)
    whole = recorded(script, run=run, sandbox=SlowOnce(True), measure=calm)
    faults = of(whole, Fault)
    assert {f.kind for f in faults} == {"MechanismTimeout"}
    assert replayed(whole, run, sandbox=SlowOnce(False)).difference is None
    for fault in faults[:2]:
        log = Log(whole[: whole.index(fault) + 1])
        levels(log, script, run, SlowOnce(False), measure=calm).go()
        asked = [(d.step, d.layer) for d in of(log, Decision) if d.hook == "plan"]
        assert (fault.step, fault.layer) not in asked, "it fell back as before"
        assert log.count(fault) == 1


# Attribution


@pytest.mark.usefixtures("quick")
def test_a_run_that_layers_joined_and_left_is_decided_again_as_it_was() -> None:
    log = recorded(MIXED)
    sandbox = TrustedSandbox()

    def load(found: MechanismSource) -> Layer:
        return Layer(found.sha, found.name, sandbox.load(found.source))

    assert {"add", "remove"} == {r.action for r in of(log, Layering)}
    assert all(redecide(RUN, log, [], load))
    credit = {c.layer: c.different for c in leave_one_out(RUN, log, lambda: [], load)}
    assert credit.keys() == {r.sha for r in of(log, MechanismSource)}
    assert credit[sha_of(notes("one"))] > 0


class BreaksInScreen(Mechanism):
    def plan(self, view, moves):
        return [m.edit(note="mine") for m in moves]

    def screen(self, view, drafts):
        raise ValueError("never works")


def test_a_layer_that_left_in_the_middle_of_a_step_planned_in_that_step() -> None:
    def made() -> list[Layer]:
        return [Layer("b", "breaks", BreaksInScreen())]

    log, run = Log(), planned(steering=False, research="off")
    levels(log, Script(propose=obliging), run, layers=made).go()
    assert [r.action for r in of(log, Layering)] == ["remove"]
    assert all(redecide(run, log, made()))
