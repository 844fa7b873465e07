"""What Level 2 is told of a trace, counted by code."""

from __future__ import annotations

from dataclasses import replace

from bilevel.model import Move, Param, Proposal, Refusal, Space, Steering
from bilevel.research.diagnostics import Tried, facts, tried
from traces import GPT, T, history, view_of
from worlds import LOSS


def lines(*trials: T, **named: object) -> list[str]:
    made = history(*trials, **named)  # type: ignore[arg-type]
    return facts(made, view_of(made), LOSS)


def row(name: str, *trials: T, **named: object) -> Tried:
    made = history(*trials, **named)  # type: ignore[arg-type]
    return next(r for r in tried(view_of(made)) if r.name == name)


def test_each_parameter_is_counted_by_direction_failure_and_gain() -> None:
    found = row(
        "MATRIX_LR",
        T({"MATRIX_LR": 0.08}, -0.2),
        T({"MATRIX_LR": 0.02}, 0.1),
        T({"MATRIX_LR": 0.3}, None),
        T({"WEIGHT_DECAY": 0.1}, 0.3),
    )
    assert found == Tried("MATRIX_LR", 3, 2, 1, 1, 0.1)


def test_a_direction_is_seen_from_where_the_trial_started_not_from_where_the_search_is_now() -> (
    None
):
    trials = (T({"MATRIX_LR": 0.08}, 0.1), T({"MATRIX_LR": 0.06}, 0.1), T({"MATRIX_LR": 0.05}, 0.1))
    plain = row("MATRIX_LR", *trials)
    assert (plain.up, plain.down) == (1, 2)
    frozen = row("MATRIX_LR", *trials, steering=Steering(frozen=("MATRIX_LR",)))
    assert (frozen.up, frozen.down) == (1, 2), "freezing it changes nothing that happened"


def test_a_trial_of_another_parent_is_counted_from_that_parent() -> None:
    trials = (T({"MATRIX_LR": 0.2}, 0.1), T({"MATRIX_LR": 0.1}, -0.1, parent=0))
    found = row("MATRIX_LR", *trials)
    assert (found.up, found.down) == (2, 0)


def test_choices_have_no_direction() -> None:
    found = row("WINDOW_PATTERN", T({"WINDOW_PATTERN": "L"}, None), T({"WINDOW_PATTERN": "SL"}, -1))
    assert (found.times, found.up, found.down, found.failed) == (2, 0, 0, 1)
    text = lines(T({"WINDOW_PATTERN": "L"}, None))
    assert "WINDOW_PATTERN: changed 1 times (1 failed), no score" in text


def test_a_number_without_bounds_has_directions_too() -> None:
    space = Space((Param("SHIFT", "float", 0.0), Param("OTHER", "float", 0.0)))
    made = history(T({"SHIFT": 3.0}, -0.1), T({"SHIFT": 9.0}, -0.1), space=space)
    (shift, _) = tried(view_of(made))
    assert (shift.up, shift.down) == (2, 0)
    assert "directions never tried: SHIFT down" in facts(made, view_of(made), LOSS)


def test_the_lines_say_what_was_tried_and_what_never() -> None:
    text = lines(
        T({"MATRIX_LR": 0.08}, 0.25), T({"MATRIX_LR": 0.2}, -0.1), T({"ADAM_BETA1": 0.9}, None)
    )
    assert "3 evaluations: 1 kept, 1 failed; 2 since the last kept; 9 left" in text
    assert "loss: -0.0000 at the start, -0.2500 now (#1)" in text
    assert "MATRIX_LR: changed 2 times (2 up, 0 down), best gain +0.2500" in text
    assert "ADAM_BETA1: changed 1 times (1 up, 0 down, 1 failed), no score" in text
    never = next(line for line in text if line.startswith("never changed: "))
    assert never == (
        "never changed: TOTAL_BATCH_SIZE, EMBEDDING_LR, WEIGHT_DECAY, WARMUP_RATIO, WINDOW_PATTERN"
    )
    assert "directions never tried: MATRIX_LR down, ADAM_BETA1 down" in text


def test_scores_and_gains_far_below_one_are_said() -> None:
    text = lines(T({"MATRIX_LR": 0.08}, 2e-6), T({"MATRIX_LR": 0.2}, -1e-6))
    assert "loss: -0.0000 at the start, -2e-06 now (#1)" in text
    assert "MATRIX_LR: changed 2 times (2 up, 0 down), best gain +2e-06" in text


def test_no_direction_is_offered_that_the_bounds_do_not_leave() -> None:
    low = GPT["WARMUP_RATIO"].bounds[0]
    assert GPT["WARMUP_RATIO"].default == low
    text = lines(T({"WARMUP_RATIO": 0.2}, -0.1))
    assert not [line for line in text if line.startswith("directions never tried")]


def test_frozen_parameters_are_marked() -> None:
    text = lines(T({"MATRIX_LR": 0.08}, -0.1), steering=Steering(frozen=("MATRIX_LR",)))
    assert "MATRIX_LR: changed 1 times (1 up, 0 down), best gain -0.1000, frozen" in text


def test_refusals_are_counted_by_what_they_repeat() -> None:
    made = history(T({"MATRIX_LR": 0.08}, -0.1))
    reasons = ("it repeats #1", "it changes nothing, RATE is 1 already", "the reply is not JSON")
    refusals = tuple(Refusal(1, Move(), reason) for reason in reasons)
    made.add(Proposal(1, (), (), refusals, ()))
    text = facts(made, view_of(made), LOSS)
    assert (
        "3 proposals refused before they ran: 1 repeat an earlier trial, 1 change nothing" in text
    )


def test_noise_is_said_where_it_is_known() -> None:
    made = history(T({"MATRIX_LR": 0.08}, -0.1))
    assert not [x for x in facts(made, view_of(made), LOSS) if x.startswith("noise")]
    made.add(replace(made.trials[0], id=2, score=0.2, seed=6, kept=False))
    assert "noise of one measurement: 0.14" in facts(made, view_of(made), LOSS)


def test_before_the_first_evaluation_there_is_little_to_say() -> None:
    text = lines()
    assert text[0] == "0 evaluations: 0 kept, 0 failed; 0 since the last kept; 9 left"
    assert [line for line in text if line.startswith("never changed: TOTAL_BATCH_SIZE")]
