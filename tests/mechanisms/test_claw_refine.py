"""A round ends when it stalls; then it is refined on, or another idea is followed."""

from dataclasses import replace

from searching import search, tagged, trial, view

from bilevel.mechanisms.claw_refine import ClawRefine
from bilevel.model import Draft, Move, Trial


def tried(number: int, score: float | None, tag: str, **values: object) -> Trial:
    made = trial(number, score, **values)
    return replace(made, draft=Draft(number, number - 1, Move((0,), tag=tag), made.values))


def next_move(*past: Trial) -> Move:
    (move,) = ClawRefine().plan(view(trial(0, -1.0), *past), [Move((0,))])
    return move


def test_starts_each_iteration_from_the_best_of_the_round() -> None:
    better, worse = (
        tried(1, -0.5, "claw_refine:0", RATE=0.2),
        tried(2, -0.8, "claw_refine:0", RATE=0.9),
    )
    assert next_move(better, worse).parents == (1,)
    assert next_move(better, worse).tag == "claw_refine:0"


def test_two_trials_without_gain_pivot_to_what_was_not_tried() -> None:
    move = next_move(
        tried(1, -2.0, "claw_refine:0", RATE=0.9), tried(2, -2.0, "claw_refine:0", RATE=0.8)
    )
    assert (move.tag, move.parents) == ("claw_refine:1", (0,))
    assert move.focus == ("BATCH", "PATTERN")
    assert "new hypothesis" in move.note


def test_a_round_that_gained_is_refined_on() -> None:
    stalled = [tried(i, -2.0, "claw_refine:0", RATE=0.9) for i in (2, 3)]
    move = next_move(tried(1, -0.5, "claw_refine:0", RATE=0.2), *stalled)
    assert (move.tag, move.parents, move.note) == ("claw_refine:1", (1,), "")


def test_three_failures_end_a_round_and_two_do_not() -> None:
    failed = [tried(i, None, "claw_refine:0", RATE=i / 10) for i in (1, 2, 3)]
    assert next_move(*failed[:2]).tag == "claw_refine:0"
    assert next_move(*failed).tag == "claw_refine:1"


def test_failures_with_a_score_between_them_do_not_end_a_round() -> None:
    scores = (None, -2.0, None, None)
    tries = [tried(i, s, "claw_refine:0", RATE=i / 10) for i, s in enumerate(scores, 1)]
    assert next_move(*tries).tag == "claw_refine:0"


def test_pivots_twice_at_most_and_then_goes_on_from_the_best() -> None:
    log = search(ClawRefine(), evals=40)
    assert tagged(log, "claw_refine:2")
    assert not tagged(log, "claw_refine:3")
    last = tagged(log, "claw_refine:proceed")[-1]
    best = max((t for t in log if isinstance(t, Trial) and t.kept), key=lambda t: t.score)
    assert last.draft is not None
    assert last.draft.move.parents == (best.id,) or last.kept
