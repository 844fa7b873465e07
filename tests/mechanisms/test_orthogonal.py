"""Orthogonal arrays: balanced rows, at most half of the budget, then the best levels together."""

from collections import Counter
from itertools import combinations

import pytest
from pydoe import get_orthogonal_array
from trying import go

from bilevel.mechanisms.orthogonal import Orthogonal
from bilevel.model import Outcome, Param, Space, Values
from worlds import Log

FOUR = Space(tuple(Param(name, "int", 5, low=0, high=10, step=1) for name in ("A", "B", "C", "D")))


def sums(values: Values, seed: int) -> Outcome:
    """Each parameter counts by itself: A and D should be low, B and C high."""
    loss = float(values["A"] - values["B"] - values["C"] + 2 * values["D"])
    return Outcome("ok", loss, {"loss": loss})


@pytest.mark.parametrize("name", Orthogonal.ARRAYS)
def test_every_array_is_balanced_in_each_pair_of_columns(name: str) -> None:
    columns = get_orthogonal_array(name).T.tolist()
    for one, other in combinations(columns, 2):
        counts = Counter(zip(one, other, strict=True))
        assert len(set(counts.values())) == 1
        assert len(counts) == len(set(one)) * len(set(other))


def test_runs_the_array_and_then_the_best_of_each_level() -> None:
    run = go(Orthogonal(), space=FOUR, measure=sums, evals=20)
    tags = [d.move.tag for d in run.drafts]
    assert tags[:10] == [*(f"array:{i}" for i in range(1, 9)), "array:best", ""]
    for name in FOUR.names:
        levels = Counter(t.values[name] for t in run.trials[:8])
        assert levels == {4: 3, 6: 3, 5: 2}  # the ninth row is the baseline itself
    assert run.trials[8].values == {"A": 4, "B": 6, "C": 6, "D": 4}
    assert run.trials[8].kept


def test_a_number_without_a_grid_steps_by_a_fifth_of_its_range() -> None:
    line = Space((Param("X", "float", 0.5, low=0, high=1),))
    run = go(Orthogonal(), space=line, evals=20)
    levels = {t.values["X"] for t in run.trials if t.draft and t.draft.move.tag}
    assert sorted(levels) == [pytest.approx(0.3), pytest.approx(0.7)]


def test_levels_that_crashed_are_not_among_the_best() -> None:
    def no_six(values: Values, seed: int) -> Outcome:
        return Outcome("crash", None) if values["B"] == 6 else sums(values, seed)

    run = go(Orthogonal(), space=FOUR, measure=no_six, evals=20)
    best = next(t for t in run.trials if t.draft and t.draft.move.tag == "array:best")
    assert best.values["B"] == 5


@pytest.mark.parametrize(("evals", "rows"), [(6, 0), (8, 4), (16, 8), (18, 9), (60, 9)])
def test_spends_at_most_half_of_the_budget_on_the_array(evals: int, rows: int) -> None:
    run = go(Orthogonal(), space=FOUR, measure=sums, evals=evals)
    tags = {d.move.tag for d in run.drafts} - {"array:best", ""}
    assert len(tags) == max(0, rows - 1)  # the first row is the baseline itself


def test_more_parameters_than_columns_leave_the_last_ones_alone() -> None:
    wide = Space(tuple(Param(f"P{i}", "int", 5, low=0, high=10, step=1) for i in range(40)))
    run = go(
        Orthogonal(), space=wide, log=Log(), evals=30,
        measure=lambda v, s: Outcome("ok", 1.0 + sum(v.values()), {"loss": 1.0}),
    )  # fmt: skip
    array = [d for d in run.drafts if d.move.tag.startswith("array:")]
    assert len(array) >= 11
    assert {n for d in array for n in wide.changed(wide.defaults(), d.values)} == {
        f"P{i}" for i in range(11)
    }
