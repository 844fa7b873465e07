"""A recorded run decides the same again, and a record that was tampered with is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from bilevel.attribution import redecide
from bilevel.errors import StoreError
from bilevel.mechanism import Mechanism, View
from bilevel.model import (
    Call,
    Decision,
    Layering,
    MechanismSource,
    Move,
    Proposal,
    Record,
    Session,
    Steering,
    Trial,
)
from bilevel.replay import replay
from bilevel.stack import Layer
from outer_worlds import (
    COUNTS,
    FAULTY,
    KEEPS,
    Script,
    TrustedSandbox,
    explored,
    levels,
    notes,
    of,
    planned,
    quick,
    real_gate,
    replayed,
    sha_of,
)
from outer_worlds import RUN as LEVELS
from outer_worlds import recorded as recorded_levels
from worlds import RUN, Log, build, says

__all__ = ["quick", "real_gate"]
SCRIPT = Script(
    sources=((f"refuse {notes('no')}", notes("one")), (COUNTS,), (KEEPS,), (FAULTY,)),
    explore=lambda session: explored("Mine" if session == 2 else ""),
)


def recorded() -> Log:
    log = Log()
    build(log, evals=8).go()
    return log


def test_a_whole_run_replays_without_llm_or_jobs() -> None:
    log = recorded()
    result = replay(replace(RUN, evals=8), log)
    assert result.difference is None
    assert result.decisions == len([r for r in log if isinstance(r, Proposal | Trial)])


def test_a_run_that_was_cut_short_replays_to_where_it_ends() -> None:
    log = recorded()
    for cut in range(len(log)):
        result = replay(replace(RUN, evals=8), log[:cut])
        assert result.difference is None, f"cut after {cut}: {result.difference}"


class TwoMoves(Mechanism):
    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        return [m.edit(note=f"try {i}") for i in range(2) for m in moves]


def test_a_run_that_was_cut_short_among_evaluations_at_a_time_replays_to_where_it_ends() -> None:
    log, run = Log(), replace(RUN, evals=5, slots=3)
    build(log, run=run, layers=[Layer("t", "two moves", TwoMoves())]).go()
    for cut in range(len(log)):
        result = replay(run, log[:cut], lambda: [Layer("t", "two moves", TwoMoves())])
        assert result.difference is None, f"cut after {cut}: {result.difference}"


class Counting(TwoMoves):
    """Keeps what is evaluated beside others, and notes which they were."""

    def __init__(self) -> None:
        self.pending: dict[str, list[int]] = {}

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        assert view.pending == ()
        return [m.edit(note=f"try {i}") for i in range(4) for m in moves]

    def accept(self, view: View, trial: Trial, keep: bool) -> bool:
        self.pending[str(trial.id)] = [d.id for d in view.pending]
        return bool(view.pending)


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_drafts_under_way_are_pending_in_a_run_its_resumption_and_its_replay(slots: int) -> None:
    def layers() -> list[Layer]:
        return [Layer("c", "counting", Counting())]

    whole, run = Log(), replace(RUN, evals=8, slots=slots)
    build(whole, run=run, layers=(made := layers())).go()
    trials = [r for r in whole if isinstance(r, Trial) and r.draft is not None]
    proposals = [r for r in whole if isinstance(r, Proposal)]
    queues = {p.step: p.queue for p in proposals}
    for trial in trials:
        queue = queues[trial.draft.step]
        after = queue[queue.index(trial.draft.id) + 1 :][: slots - 1]
        assert made[0].mechanism.pending[str(trial.id)] == list(after)
    assert any(t.kept for t in trials) == (slots > 1)
    assert replay(run, whole, layers).difference is None
    assert all(redecide(run, whole, layers()))
    for cut in range(len(whole)):
        again = Log(whole[:cut])
        build(again, run=run, layers=layers()).go()
        assert [r for r in again if isinstance(r, Trial)] == [
            r for r in whole if isinstance(r, Trial)
        ]


def test_a_changed_acceptance_is_named() -> None:
    log = recorded()
    at = next(i for i, r in enumerate(log) if isinstance(r, Trial) and r.kept and r.id)
    log[at] = replace(log[at], kept=False)
    difference = replay(replace(RUN, evals=8), log).difference
    assert difference is not None
    assert difference.recorded == log[at]
    assert isinstance(difference.replayed, Trial)
    assert difference.replayed.kept


def test_a_missing_call_is_named() -> None:
    log = recorded()
    calls = [r for r in log if isinstance(r, Call)]
    log.remove(calls[2])
    difference = replay(replace(RUN, evals=8), log).difference
    assert difference is not None
    assert "never recorded" in difference.why


def test_a_changed_reply_is_named() -> None:
    log = recorded()
    at = max(i for i, r in enumerate(log) if isinstance(r, Call))
    call = log[at]
    assert isinstance(call, Call)
    log[at] = replace(call, reply=replace(call.reply, text=says(RATE=0.4321)))
    difference = replay(replace(RUN, evals=8), log).difference
    assert difference is not None
    assert isinstance(difference.replayed, Proposal)
    assert difference.replayed.drafts[0].values["RATE"] == 0.4321


@pytest.mark.usefixtures("quick")
def test_a_run_of_three_levels_replays_sessions_included() -> None:
    log = recorded_levels(SCRIPT)
    decided = Proposal | Trial | Steering | Session | MechanismSource | Layering
    result = replayed(log)
    assert result.difference is None
    assert result.decisions == sum(isinstance(r, decided) for r in log)
    assert {type(r) for r in log} > {Steering, Session, MechanismSource, Layering}


@pytest.mark.usefixtures("real_gate")
@pytest.mark.parametrize("research", ["on", "sham"])
def test_sources_are_judged_again_and_only_clocks_may_differ(research: str) -> None:
    run = planned(evals=5, research=research)
    log = recorded_levels(replace(SCRIPT, sources=((KEEPS, notes("one")),)), run=run)
    figures = [n for s in of(log, Session) for a in s.attempts for n in a.figures]
    assert "ms_p95" in figures
    assert replayed(log, run).difference is None


@pytest.mark.usefixtures("quick")
def test_a_run_of_three_levels_replays_to_wherever_it_was_cut() -> None:
    log = recorded_levels(SCRIPT)
    for cut in range(len(log)):
        difference = replayed(log[:cut]).difference
        assert difference is None, f"cut after {cut}: {difference}"


def admitted_otherwise(session: Session) -> Session:
    return replace(session, admitted="")


def better_figures(session: Session) -> Session:
    attempts = [replace(a, figures={**a.figures, "influence": 1.0}) for a in session.attempts]
    return replace(session, attempts=tuple(attempts))


def other_source(session: Session) -> Session:
    attempts = [replace(a, source=f"{a.source}# more") for a in session.attempts]
    return replace(session, attempts=tuple(attempts))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("kind", "tamper"),
    [
        (Session, admitted_otherwise),
        (Session, better_figures),
        (Session, other_source),
        (Session, lambda s: replace(s, notes={**s.notes, "explore": "{}"})),
        (Session, lambda s: replace(s, removed={"abc": "it was asked for"})),
        (Steering, lambda s: replace(s, frozen=("RATE",))),
        (Steering, lambda s: replace(s, reasons={"RATE": "why not"})),
        (Layering, lambda r: replace(r, why="for another reason")),
        (Layering, lambda r: replace(r, step=r.step + 1)),
        (MechanismSource, lambda s: replace(s, rationale="It wins.")),
    ],
)
def test_a_record_of_the_outer_levels_that_was_tampered_with_is_named(
    kind: type[Record], tamper: Callable[[Record], Record]
) -> None:
    log = recorded_levels(SCRIPT)
    at = [i for i, r in enumerate(log) if isinstance(r, kind)][1]
    log[at] = tamper(log[at])
    difference = replayed(log).difference
    assert difference is not None
    assert difference.recorded == log[at]
    assert type(difference.replayed) is kind


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", [Session, Steering, Layering])
def test_a_record_of_the_outer_levels_that_was_left_out_is_noticed(kind: type[Record]) -> None:
    log = recorded_levels(SCRIPT)
    at = [i for i, r in enumerate(log) if isinstance(r, kind)][1]
    following = missing_at(log, at)
    del log[at]
    difference = replayed(log).difference
    assert difference is not None
    assert difference.recorded == following


def missing_at(log: Sequence[Record], at: int) -> Record:
    """The first decision after a record."""
    kinds = Proposal | Trial | Steering | Session | MechanismSource | Layering
    return next(r for r in log[at + 1 :] if isinstance(r, kinds))


@pytest.mark.usefixtures("quick")
def test_the_time_that_a_layer_took_is_no_difference() -> None:
    log = recorded_levels(SCRIPT)
    slower = [replace(r, ms=r.ms + 500) if isinstance(r, Decision) else r for r in log]
    assert replayed(slower).difference is None


@pytest.mark.usefixtures("quick")
def test_a_source_that_is_not_the_text_of_its_sha_is_not_run() -> None:
    log = recorded_levels(SCRIPT)
    at = next(i for i, r in enumerate(log) if isinstance(r, MechanismSource))
    source = log[at]
    assert isinstance(source, MechanismSource)
    log[at] = replace(source, source=notes("stale"))
    with pytest.raises(StoreError, match="not the text whose sha"):
        levels(Log(log), SCRIPT, LEVELS)


@pytest.mark.usefixtures("quick")
def test_without_the_code_of_a_mechanism_the_first_decision_without_it_is_named() -> None:
    log = recorded_levels(SCRIPT)
    broken = TrustedSandbox({sha_of(notes("one"))})
    difference = replayed(log, sandbox=broken).difference
    assert difference is not None
    assert isinstance(difference.recorded, Layering)
    assert difference.recorded.sha == sha_of(notes("one"))
