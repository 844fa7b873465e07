"""Workers leave one base; two winners are merged, the merge is measured, and must beat both."""

from dataclasses import replace

from searching import search, tagged, trial, trials, view

from bilevel.mechanisms.subagents import Subagents
from bilevel.model import Draft, Move, Trial
from worlds import SPACE, says


def worker(number: int, score: float | None, step: int = 0, **values: object) -> Trial:
    made = trial(number, score, **values)
    return replace(made, draft=Draft(number, step, Move((0,), tag="subagents:worker"), made.values))


BASE = trial(0, -1.0)


def test_three_workers_leave_the_same_base() -> None:
    moves = Subagents().plan(view(BASE), [Move((0,))])
    assert [(m.parents, m.tag) for m in moves] == [((0,), "subagents:worker")] * 3
    assert len({m.note for m in moves}) == 3


def test_what_two_winners_gained_is_merged() -> None:
    team = [worker(1, -0.5, RATE=0.2), worker(2, -0.4, BATCH=2048), worker(3, -2.0, PATTERN="SL")]
    (move,) = Subagents().plan(view(BASE, *team), [Move((0,))])
    assert move.tag == "subagents:merge"
    assert move.values == {"RATE": 0.2, "BATCH": 2048, "PATTERN": "SSSL"}


def test_of_two_changes_to_one_parameter_the_better_workers_stands() -> None:
    team = [worker(1, -0.3, RATE=0.2), worker(2, -0.5, RATE=0.4, BATCH=2048)]
    (move,) = Subagents().plan(view(BASE, *team), [Move((0,))])
    assert move.values == {"RATE": 0.2, "BATCH": 2048, "PATTERN": "SSSL"}


def test_one_winner_is_no_merge_nor_are_winners_of_two_rounds() -> None:
    alone = view(BASE, worker(1, -0.5, RATE=0.2), worker(2, None, PATTERN="L"))
    rounds = view(BASE, worker(1, -0.5, RATE=0.2), worker(2, -0.4, step=1, BATCH=2048))
    for some in (alone, rounds):
        assert [m.tag for m in Subagents().plan(some, [Move((0,))])] == ["subagents:worker"] * 3


def test_a_merge_that_is_one_workers_own_is_not_measured_again() -> None:
    team = [worker(1, -0.3, RATE=0.2, BATCH=2048), worker(2, -0.5, BATCH=2048)]
    assert Subagents().plan(view(BASE, *team), [Move((0,))])[0].tag == "subagents:worker"


def test_a_run_measures_the_merge_and_keeps_it_only_if_it_beats_the_workers() -> None:
    replies = (says(RATE=0.2), says(BATCH=2048), says(RATE=0.9))
    log = search(Subagents(), evals=4, reply=lambda m, n: replies[n % 3])
    (merge,) = tagged(log, "subagents:merge")
    assert merge.values == {**SPACE.defaults(), "RATE": 0.2, "BATCH": 2048}
    assert merge.kept
    assert merge.score == max(t.score for t in trials(log))
