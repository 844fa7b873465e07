"""What the library works out of its records."""

from __future__ import annotations

from dataclasses import replace

import pytest
from shelves import entry, transfer, use

from bilevel.library.library import MeanCredit, Verdict, kinds, mean_credit, prunable, share
from outer_worlds import SPACE


def test_a_mean_is_the_same_each_time_and_says_how_many_values_it_has() -> None:
    values = [0.1, 0.3, 0.2, 0.6, 0.4]
    found = mean_credit(values, "seed")
    assert found == mean_credit(values, "seed")
    assert found.n == 5
    assert found.mean == pytest.approx(0.32)
    assert found.low is not None
    assert found.high is not None
    assert 0.1 < found.low < 0.32 < found.high < 0.6
    assert mean_credit([0.4], "seed") == MeanCredit(1, 0.4)
    assert mean_credit([0.2, 0.6], "seed") == MeanCredit(2, pytest.approx(0.4))


def test_an_interval_gets_narrower_with_more_runs() -> None:
    few, many = (mean_credit([0.1, 0.5] * n, "seed") for n in (2, 20))
    assert few.low is not None
    assert few.high is not None
    assert many.low is not None
    assert many.high is not None
    assert many.high - many.low < few.high - few.low


def test_credit_is_over_runs_and_leaves_out_where_it_is_not_known() -> None:
    made = entry("one", [0.2, 0.4])
    assert made.credit() == mean_credit([0.2, 0.4], made.sha)
    unknown = replace(made, uses=(*made.uses, replace(use(9, 0), different=None)))
    assert unknown.credit() == made.credit()
    assert entry("one").credit() is None
    assert share(entry("one").credit()) == "-"
    assert share(entry("one", [0.2]).credit()) == "20% (n 1)"
    assert share(made.credit()) == "30% (n 2)"
    assert share(entry("one", [0.1, 0.2, 0.3]).credit()).endswith(", n 3)")


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((0.2, 0.21, 0.19), "helps"),
        ((-0.2, -0.21, -0.19), "harms"),
        ((0.2, -0.21, 0.1), "undecided"),
        ((0.2,), "undecided"),
        ((0.0,), "undecided"),
        ((0.0, 0.0), "no difference"),
    ],
)
def test_a_transfer_says_what_its_interval_says(gains: tuple[float, ...], verdict: Verdict) -> None:
    assert transfer("gpt", *gains).verdict == verdict


def test_what_failed_everywhere_what_is_inert_and_what_only_harms_may_be_pruned() -> None:
    assert not prunable(entry("new"))
    assert not prunable(entry("once", [0.0])), "one run is too few"
    assert "in all its 2 runs" in prunable(entry("idle", [0.0, 0.0]))
    assert not prunable(entry("acts", [0.0, 0.1]))
    broken = replace(entry("bad"), uses=(replace(use(1, 0.5, left="3 faults"), faults=3),))
    assert "in each of its 1 run" in prunable(broken)
    harms, helps = transfer("gpt", -0.2, -0.21, -0.19), transfer("toy", 0.2, 0.21, 0.19)
    assert "each task that was tried: gpt" in prunable(entry("harm", [0.5], transfers=[harms]))
    assert not prunable(entry("both", [0.5], transfers=[harms, helps]))


def test_kinds_tell_scales_apart() -> None:
    assert kinds(SPACE) == {
        "RATE": "float log", "BATCH": "int log", "PATTERN": "choice", "WARMUP": "float",
        "DECAY": "float", "DEPTH": "int",
    }  # fmt: skip
