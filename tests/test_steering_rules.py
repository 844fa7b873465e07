"""What may be frozen, how much at most, and what is offered for opening."""

import pytest

from bilevel.model import Param, Space, Steering
from bilevel.steering_rules import freezable, grant, most_frozen, offered, weigh
from factories import GPT
from traces import T, down, exhausted, history, space_of, up, view_of

LR = "MATRIX_LR"
BOTH = [down(LR), up(LR), up(LR, by=4)]


def may_freeze(*trials: T) -> tuple[str, ...]:
    view = view_of(history(*trials))
    return freezable(view, weigh(view))


def test_three_failures_on_both_sides_are_enough() -> None:
    assert may_freeze(*BOTH) == (LR,)


@pytest.mark.parametrize(
    "trials",
    [
        pytest.param(BOTH[:2], id="two tries"),
        pytest.param([up(LR), up(LR, by=3), up(LR, by=4)], id="one side, as in the paper's B"),
        pytest.param([*BOTH, down(LR, 0.1, by=4)], id="it gained"),
        pytest.param([*BOTH[:2], up(LR, 0.1, by=4), up(LR), down(LR)], id="two since it gained"),
        pytest.param([*BOTH[:1], T(up(LR).changes, 0.1, parent=1), up(LR, by=3)], id="elsewhere"),
    ],
)
def test_less_is_not(trials: list[T]) -> None:
    assert may_freeze(*trials) == ()


def test_a_gain_sets_the_count_back_and_the_sides_go_with_the_present_value() -> None:
    gained = down(LR, 0.2, by=8)  # 0.04 -> 0.005: all that failed before lies above it now
    assert may_freeze(*BOTH, gained, up(LR), up(LR, by=3), up(LR, by=4)) == ()
    assert may_freeze(*BOTH, gained, up(LR), up(LR, by=4), down(LR, by=16)) == (LR,)


def test_several_changes_at_once_blame_none_of_them() -> None:
    also = {"WEIGHT_DECAY": 0.3}
    joint = [T({**t.changes, **also}) for t in BOTH]
    assert may_freeze(*joint) == ()
    assert weigh(view_of(history(*joint)))[LR].tried == 3
    assert may_freeze(*joint, *BOTH[:2]) == (LR,)


def test_a_crash_is_a_failure() -> None:
    assert may_freeze(*BOTH[:2], up(LR, None, by=4)) == (LR,)


def test_a_bound_has_one_side_only() -> None:
    tries = [T({"WARMUP_RATIO": v}) for v in (0.1, 0.2, 0.3)]
    assert may_freeze(*tries) == ("WARMUP_RATIO",)
    highest = T({"WEIGHT_DECAY": 1.0}, 0.1)
    lower = [T({"WEIGHT_DECAY": v}) for v in (0.9, 0.8, 0.7)]
    assert may_freeze(highest, *lower) == ("WEIGHT_DECAY",)


def test_a_choice_is_exhausted_when_each_of_its_other_values_failed() -> None:
    other = [T({"WINDOW_PATTERN": "SL"}), T({"WINDOW_PATTERN": "SL"}, parent=1)]
    again = [T({"WINDOW_PATTERN": "SL"}) for _ in range(3)]
    assert may_freeze(*again) == ()
    assert weigh(view_of(history(*again)))["WINDOW_PATTERN"].sides == ("1 other choice",)
    assert may_freeze(*again, T({"WINDOW_PATTERN": "L"}, None)) == ("WINDOW_PATTERN",)
    assert weigh(view_of(history(*other)))["WINDOW_PATTERN"].tried == 1


def test_a_text_is_never_exhausted() -> None:
    texts = [Param(n, "text", "a") for n in "ABCDE"]
    made = history(*[T({"A": t}) for t in "bcdefg"], space=Space(tuple(texts)))
    view = view_of(made)
    assert freezable(view, weigh(view)) == ()
    assert weigh(view)["A"].failed == 6


def test_other_seeds_and_values_taken_over_are_no_tries() -> None:
    fresh = [T(t.changes, seed=1) for t in BOTH]
    assert weigh(view_of(history(*fresh)))[LR].tried == 0
    moved = up("EMBEDDING_LR", 0.2)
    back = T({**moved.changes, LR: 0.02}, -0.3, parent=0)
    evidence = weigh(view_of(history(moved, back)))
    assert evidence["EMBEDDING_LR"].tried == 1
    assert evidence[LR].tried == 1


@pytest.mark.parametrize(
    ("count", "most"), [(1, 0), (3, 0), (4, 0), (5, 1), (7, 3), (12, 8), (13, 8), (15, 10)]
)
def test_a_third_and_never_fewer_than_four_stay_open(count: int, most: int) -> None:
    space = space_of(count)
    view = view_of(history(*exhausted(space.names), space=space))
    evidence = weigh(view)
    frozen, reasons = grant(view, evidence, space.names, ())
    assert len(frozen) == most == most_frozen(view)
    assert set(reasons) == set(space.names)
    assert len(freezable(view, evidence)) == (count if most else 0)


def test_where_there_is_no_room_for_all_those_that_gained_least_go_first() -> None:
    space = space_of(6)
    gains = {"A": 0.3, "B": 0.1, "C": 0.2}
    first = [T({name: 0.55}, gain) for name, gain in gains.items()]
    view = view_of(history(*first, *exhausted("ABC"), space=space))
    frozen, reasons = grant(view, weigh(view), ["A", "B", "C"], ())
    assert frozen == ("B", "C")
    assert reasons["A"] == (
        "not frozen: at least 4 of 6 parameters stay open; those that gained less go first"
    )
    assert reasons["B"] == "frozen: 3 failures on all sides since any gain"


def test_each_wish_that_is_not_granted_has_its_reason() -> None:
    trials = [up(LR), up("EMBEDDING_LR"), up("EMBEDDING_LR", by=3), up("EMBEDDING_LR", by=4)]
    view = view_of(history(*trials))
    frozen, reasons = grant(view, weigh(view), [LR, "EMBEDDING_LR", "DEPTH"], ["ADAM_BETA1"])
    assert frozen == ()
    assert reasons == {
        LR: "not frozen: 1 failures since any gain, 3 are needed",
        "EMBEDDING_LR": "not frozen: still to be tested alone: below",
        "DEPTH": "not frozen: there is no such parameter",
    }


def test_what_is_frozen_stays_so_until_opened_and_opening_makes_room() -> None:
    space = space_of(6)
    made = history(*exhausted("ABC"), space=space, steering=Steering(frozen=("A", "B")))
    view = view_of(made)
    assert grant(view, weigh(view), ["C"], [])[0] == ("A", "B")
    frozen, reasons = grant(view, weigh(view), ["C", "A"], ["A"])
    assert frozen == ("B", "C")
    assert reasons["A"] == "opened: the search has not moved since its last try"
    assert "C" in reasons


def test_what_was_not_tried_since_the_search_moved_is_offered() -> None:
    space = space_of(6)
    still = view_of(history(*exhausted("AB"), space=space), frozen=("A", "B"))
    assert offered(still, weigh(still)) == ()
    moved = [*exhausted("A"), T({"F": 0.6}, 0.1), *exhausted("B")]
    view = view_of(history(*moved, space=space), frozen=("A", "B"))
    assert offered(view, weigh(view)) == ("A",)
    assert grant(view, weigh(view), (), ["A"]) == (
        ("B",),
        {"A": "opened: the search moved since its last try"},
    )


def test_frozen_parameters_are_not_freezable_again() -> None:
    view = view_of(history(*BOTH), frozen=(LR,))
    assert LR not in freezable(view, weigh(view))
    assert grant(view, weigh(view), [LR], ()) == ((LR,), {})


def test_a_start_without_parents_is_the_incumbent_of_that_step() -> None:
    made = history(down("EMBEDDING_LR", 0.2), up(LR), down("EMBEDDING_LR", 0.1, by=8))
    trial = made.trials[2]
    assert trial.draft is not None
    free = trial.draft.move.edit(parents=())
    object.__setattr__(trial.draft, "move", free)
    evidence = weigh(view_of(made))
    assert evidence["EMBEDDING_LR"].tried == 2
    assert evidence[LR].gain == pytest.approx(-0.1)
    assert GPT.names == tuple(evidence)
