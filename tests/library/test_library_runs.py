"""Runs that begin with mechanisms of the library: recorded, on probation, seen by Level 2."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from shelves import entry

from bilevel.library.choice import borrow
from bilevel.model import (
    Borrowed,
    Call,
    Decision,
    Fault,
    Layering,
    MechanismSource,
    Message,
    Record,
    Run,
    Session,
    Steering,
)
from bilevel.replay import DECIDED
from bilevel.resuming import timeless
from outer_worlds import (
    COUNTS,
    FAULTY,
    INERT,
    RUN,
    Script,
    TrustedSandbox,
    calm,
    levels,
    notes,
    obliging,
    of,
    planned,
    quick,
    recorded,
    replayed,
    sha_of,
)
from worlds import Log

__all__ = ["quick"]
pytestmark = pytest.mark.usefixtures("quick")
SHELF = [entry("borrowed", [0.5]), entry("other", [0.4], text=COUNTS)]


def given(*texts: str, run: Run = RUN, joins: int = 1, **outer: object) -> Run:
    """The run with these sources of the library, the first ones on its stack."""
    sources = [MechanismSource(sha_of(t), "Mine", t, "an idea", origin="level 2") for t in texts]
    library = tuple(
        Borrowed(s, f"from the library: {number}", 0.5 / (number + 1), number < joins)
        for number, s in enumerate(sources)
    )
    return replace(planned(run, **outer), library=library)


ALONE = replace(given(notes("borrowed"), steering=False, research="off"), llm="scripted")
OBLIGED = Script(propose=obliging)


def decided(log: Sequence[Record]) -> list[Record]:
    return [timeless(r) for r in log if isinstance(r, DECIDED)]


def test_what_joins_is_on_record_from_the_first_step_and_acts() -> None:
    log = recorded(OBLIGED, run=ALONE, measure=calm)
    (source,), (added, *rest) = of(log, MechanismSource), of(log, Layering)
    assert source == ALONE.library[0].source
    assert (added.step, added.sha, added.action) == (0, source.sha, "add")
    assert added.why == "the run begins with it"
    assert not rest
    assert not of(log, Session)
    assert not of(log, Steering)
    changed = [d for d in of(log, Decision) if d.before != d.after]
    assert changed
    assert {d.layer for d in changed} == {source.sha}


def test_a_run_replays_from_its_own_record_alone() -> None:
    log = recorded(OBLIGED, run=ALONE)
    result = replayed(log, ALONE)
    assert result.difference is None
    assert result.decisions == len(decided(log))


def test_a_run_killed_anywhere_resumes_to_the_same_decisions() -> None:
    whole = recorded(OBLIGED, run=ALONE)
    for dies in range(1, len(whole) - 1, 3):
        log = Log(dies_at=dies)
        with pytest.raises(KeyboardInterrupt):
            levels(log, OBLIGED, run=ALONE).go()
        log.dies_at = None
        levels(log, OBLIGED, run=ALONE).go()
        assert decided(log) == decided(whole), dies
        assert len(of(log, MechanismSource)) == 1


def test_it_is_on_probation_as_any_other() -> None:
    inert = given(INERT, steering=False, research="off")
    (_, removed) = of(recorded(OBLIGED, run=inert), Layering)
    assert removed.action == "remove"
    assert "it changed none of" in removed.why
    faulty = given(FAULTY, steering=False, research="off", every=5)
    log = recorded(OBLIGED, run=faulty)
    assert len(of(log, Fault)) == 3
    assert of(log, Layering)[1].why.startswith("3 faults")


def test_one_that_does_not_load_is_a_fault_on_record() -> None:
    sandbox = TrustedSandbox(broken={sha_of(notes("borrowed"))})
    log = recorded(OBLIGED, run=ALONE, sandbox=sandbox)
    (fault,) = of(log, Fault)
    assert (fault.step, fault.hook) == (0, "add")
    assert not of(log, Layering)


def texts(call: Call) -> str:
    return "\n".join(m.content for m in call.messages if isinstance(m, Message))


def test_level_2_sees_the_librarys_record_and_may_combine_two_of_it() -> None:
    run = given(notes("borrowed"), COUNTS, cycles=1)
    log = recorded(Script(propose=obliging, sources=[["refuse it", "refuse it"]] * 9), run=run)
    explore = next(c for c in of(log, Call) if c.purpose == "explore")
    assert "decisions since step 0" in texts(explore)
    assert "; from the library: 0" in texts(explore)
    assert "- Mine: from the library: 1" in texts(explore)
    combined = next(c for c in of(log, Call) if c.purpose == "generate 1")
    assert notes("borrowed").strip() in texts(combined)
    assert COUNTS.strip() in texts(combined)
    attempt = next(a for s in of(log, Session) for a in s.attempts if a.way == "combine")
    assert sorted(attempt.parents) == sorted([sha_of(notes("borrowed")), sha_of(COUNTS)])
    assert replayed(log, run).difference is None


def test_one_that_is_improved_is_the_parent_of_what_comes_of_it() -> None:
    run = given(notes("borrowed"), cycles=1)
    script = Script(propose=obliging, sources=[["refuse it", "refuse it"]])
    script.sources = [["refuse it", "refuse it", notes("better")]]
    log = recorded(script, run=run)
    ways = [(a.way, a.parents) for s in of(log, Session) for a in s.attempts]
    assert ("improve", (sha_of(notes("borrowed")),)) in ways


def test_a_run_without_the_library_is_asked_what_it_was_asked_before() -> None:
    bare = recorded(OBLIGED)
    again = recorded(OBLIGED, run=replace(RUN, library=()))
    assert [c.key for c in of(bare, Call)] == [c.key for c in of(again, Call)]
    assert "from the library" not in json.dumps([texts(c) for c in of(bare, Call)])


def test_what_is_borrowed_is_what_the_run_keeps() -> None:
    run = replace(RUN, library=borrow(SHELF, "best", RUN.task, RUN.space, RUN.seed))
    log = recorded(OBLIGED, run=run)
    assert of(log, Layering)[0].sha == SHELF[0].sha
    assert replayed(log, run).difference is None
