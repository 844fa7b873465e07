"""Arms, pairs and equal cost, worked out by hand on small studies."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("scipy", reason="the statistics of a study need scipy")

from reported import run, study

from bilevel.study.analysis import Comparison, TaskResult, analyse
from bilevel.study.arm_results import gain_at
from bilevel.study.data import AnalysisPlan, StudyData


def one(data: StudyData) -> TaskResult:
    (result,) = analyse(data)
    return result


def row(rows: tuple[Comparison, ...], arm: str) -> Comparison:
    (found,) = [r for r in rows if r.arm == arm]
    return found


def test_a_failed_evaluation_is_no_zero_and_no_gain() -> None:
    result = one(study([run("A", 0, 1.0, [None, 0.8, None])]))
    arm = result.arms[0]
    assert arm.value is not None
    assert arm.value.mean == 0.8
    assert arm.curve == (1.0, 1.0, 0.8, 0.8)
    assert arm.habits.failed == 2


def test_a_run_that_failed_leaves_no_pair_and_is_named() -> None:
    gone = replace(run("C", 1, 1.0, []), status="problem", baseline=None, best=None, problem="no")
    runs = [run("A", 0, 1.0, [0.9]), run("A", 1, 1.0, [0.8]), run("C", 0, 1.0, [0.7]), gone]
    result = one(study(runs))
    arm = result.arms[1]
    assert (arm.n, arm.planned, arm.problems) == (1, 2, ("repeat 1: no",))
    found = row(result.against_reference, "C")
    assert found.differences == {0: pytest.approx(0.2)}
    assert found.difference.spread.bootstrap is None
    assert found.answer == "undecided"


def test_gains_are_positive_when_better_for_a_metric_to_maximise() -> None:
    up = study([replace(run("A", 0, 1.0, [3.0]), best=3.0)], evals=1, direction="max")
    found = one(up).arms[0]
    assert found.gain is not None
    assert found.gain.mean == 2.0
    assert found.record == 3.0


def test_evaluations_to_a_target_count_runs_that_never_got_there_as_later() -> None:
    runs = [
        run("A", 0, 1.0, [0.9, 0.5, 0.4]),
        run("A", 1, 1.0, [0.9, 0.9, 0.9]),
        run("A", 2, 1.0, [0.5, 0.5, 0.5]),
        run("B", 0, 1.0, [0.9, 0.9, 0.9]),
        run("B", 1, 1.0, [0.9, 0.9, 0.5]),
        run("B", 2, 1.0, [0.9, 0.9, 0.9]),
    ]
    result = one(study(runs, plan=AnalysisPlan("A", (), targets={"toy": 0.5}, resamples=500)))
    a, b = result.arms
    assert (a.reached, a.to_target) == (2, 2)
    assert (b.reached, b.to_target) == (1, None)


def test_without_a_target_it_is_half_of_the_largest_mean_gain() -> None:
    runs = [run("A", 0, 1.0, [0.8, 0.7, 0.2]), run("B", 0, 1.0, [1.2, 0.9, 0.6])]
    result = one(study(runs))
    assert result.target_gain == pytest.approx(0.4)
    assert [a.to_target for a in result.arms] == [3, 3]
    assert one(study([run("A", 0, 1.0, [2.0])])).target_gain is None


def test_the_strongest_control_is_the_one_with_the_largest_mean_gain() -> None:
    runs = [
        run(arm, i, 1.0, [value])
        for arm, value in (("A", 0.9), ("C", 0.5), ("sham", 0.8), ("hand", 0.6), ("tpe", 0.4))
        for i in range(2)
    ]
    plan = AnalysisPlan("A", ("sham", "hand"), resamples=500)
    result = one(study(runs, evals=1, plan=plan))
    assert result.strongest == "hand"
    assert [r.arm for r in result.against_strongest] == ["A", "C", "tpe"]
    assert row(result.against_strongest, "C").difference.spread.mean == pytest.approx(0.1)


def test_where_all_arms_are_controls_all_are_compared_with_the_strongest() -> None:
    runs = [
        run(arm, i, 1.0, [value])
        for arm, value in (("A", 0.9), ("gp", 0.5), ("tpe", 0.6))
        for i in range(2)
    ]
    result = one(study(runs, evals=1, plan=AnalysisPlan("A", ("A", "gp", "tpe"), resamples=500)))
    assert result.strongest == "gp"
    assert [r.arm for r in result.against_strongest] == ["A", "tpe"]


def test_the_strongest_control_is_the_best_over_repeats_that_all_have_done() -> None:
    """Repeat 1 is an easy one, and only hand has done it."""
    runs = [run("A", 0, 1.0, [0.9]), run("sham", 0, 1.0, [0.6]), run("hand", 0, 1.0, [0.7])]
    runs += [run("A", 1, 1.0, [0.3]), run("hand", 1, 1.0, [0.1])]
    plan = AnalysisPlan("A", ("sham", "hand", "gone"), resamples=500)
    result = one(study(runs, evals=1, plan=plan))
    assert (result.strongest, result.common) == ("sham", (0,))

    apart = [run("A", 0, 1.0, [0.9]), run("sham", 0, 1.0, [0.6]), run("hand", 1, 1.0, [0.7])]
    result = one(study(apart, evals=1, plan=plan))
    assert (result.strongest, result.against_strongest) == (None, ())


def test_equal_cost_stops_the_dearer_run_when_the_cheaper_ended() -> None:
    """C pays 20 a step and has 0.2 after its third; A had spent 30 in all, so C has one step."""
    runs = [
        run("A", 0, 1.0, [0.9, 0.8, 0.7], tokens=10),
        run("C", 0, 1.0, [0.6, 0.5, 0.2], tokens=20),
        run("random", 0, 1.0, [0.1, 0.1, 0.1], tokens=0),
    ]
    data = study(runs)
    result = one(data)
    found = row(result.at_cost["tokens"], "C")
    assert found.differences == {0: pytest.approx(0.4 - 0.3)}
    assert [r.arm for r in result.at_cost["tokens"]] == ["C"]
    assert [r.arm for r in result.at_cost["seconds"]] == ["C", "random"]
    assert gain_at(data, runs[1], "tokens", 19) == 0
    assert gain_at(data, runs[1], "tokens", 40) == pytest.approx(0.5)


def test_pairs_that_are_stopped_at_costs_of_their_own_are_not_crossed() -> None:
    runs = [run(arm, i, 1.0, [0.9, 0.8], tokens=10 + i) for i in range(3) for arm in "AC"]
    result = one(study(runs))
    assert row(result.against_reference, "C").chance is not None
    assert row(result.at_cost["tokens"], "C").chance is None


def test_arms_are_compared_with_each_control_at_equal_cost_too() -> None:
    """At 20 tokens, what sham had spent, C has one score; Holm counts both controls."""
    spending = {"A": 10, "C": 20, "sham": 10, "other": 10, "free": 0}
    runs = [
        run(arm, i, 1.0, [0.9 - 0.01 * i, 0.8], tokens=tokens)
        for arm, tokens in spending.items()
        for i in range(4)
    ]
    plan = AnalysisPlan("A", ("sham", "other", "free"), resamples=500)
    found = one(study(runs, plan=plan)).at_cost_controls["tokens"]
    assert [(r.arm, r.against) for r in found] == [("C", "sham"), ("C", "other")]
    assert found[0].differences == pytest.approx({i: -0.1 + 0.01 * i for i in range(4)})
    assert found[0].p == min(1.0, 2 * found[0].difference.p)


@pytest.mark.parametrize(
    ("n", "arm", "answer"),
    [(3, "C", "undecided"), (9, "C", "undecided"), (10, "C", "better"), (10, "A", "worse")],
)
def test_ten_clear_pairs_decide_and_fewer_do_not(n: int, arm: str, answer: str) -> None:
    runs = [run("A", i, 1.0, [0.9 - 0.01 * i]) for i in range(n)]
    runs += [run("C", i, 1.0, [0.8 - 0.02 * i]) for i in range(n)]
    other = "A" if arm == "C" else "C"
    result = one(study(runs, evals=1, plan=AnalysisPlan(other, (), resamples=1024)))
    assert row(result.against_reference, arm).answer == answer


def test_best_values_are_compared_as_well_where_baselines_differ() -> None:
    even = study([run("A", 0, 1.0, [0.9]), run("C", 0, 1.0, [0.8])])
    assert not one(even).uneven
    assert one(even).by_value == ()
    lucky = study([run("A", 0, 1.0, [0.9]), run("C", 0, 0.85, [0.8])])
    result = one(lucky)
    assert result.uneven
    assert row(result.against_reference, "C").difference.spread.mean == pytest.approx(-0.05)
    assert row(result.by_value, "C").difference.spread.mean == pytest.approx(0.1)


def test_the_order_of_runs_does_not_matter() -> None:
    runs = [
        run(arm, i, 1.0, [0.9 - 0.07 * i * level])
        for i in range(4)
        for level, arm in enumerate("ABC")
    ]
    data = study(runs)
    assert analyse(data) == analyse(replace(data, runs=tuple(reversed(data.runs))))
