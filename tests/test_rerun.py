"""Evaluations that are done again are compared with the record to the last bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bilevel.assemble import conduct
from bilevel.cli.cli import app
from bilevel.model import Outcome, OuterPlan, Trial, Values
from bilevel.planning import Settings, begin
from bilevel.rerun import rerun
from bilevel.workspace import Workspace
from comparable import write_task
from threelevels import Nobody, ThreeLevels
from worlds import LOSS, Instant, Log, build, loss


def trials() -> list[Trial]:
    log = Log()
    build(log, evals=6).go()
    return [r for r in log if isinstance(r, Trial)]


def otherwise(values: Values, seed: int) -> Outcome:
    """As the record, but for one failure and one score that is another in its last digit."""
    outcome = loss(values, seed)
    if values["RATE"] == 0.1 and outcome.value is not None:
        return replace(outcome, value=outcome.value * (1 + 2**-52))
    return outcome


@pytest.mark.parametrize("slots", [1, 3])
def test_equal_outcomes_are_the_same_whatever_time_they_took(slots: int) -> None:
    done = trials()
    begun: list[int] = []
    found = list(rerun(done, LOSS, Instant(slots), lambda t: begun.append(t.id)))
    assert [pair.recorded for pair in found] == done
    assert all(pair.same for pair in found)
    assert sorted(begun) == [t.id for t in done]


def test_a_score_that_differs_in_its_last_bit_is_another() -> None:
    done = trials()
    found = list(rerun(done, LOSS, Instant(measure=otherwise)))
    expected = [t.id for t in done if t.values["RATE"] == 0.1 and t.score is not None]
    assert 0 < len(expected) < len(done)
    assert [pair.recorded.id for pair in found if not pair.same] == expected


def test_a_failure_in_place_of_a_score_is_another_and_so_is_another_failure() -> None:
    done = trials()
    found = rerun(done, LOSS, Instant(measure=lambda v, s: Outcome("timeout", None)))
    assert not any(pair.same for pair in found)


def bilevel(*words: str) -> Result:
    return CliRunner().invoke(app, (*words, "--home", "state"), env={"COLUMNS": "200"})


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A finished scripted run of a task that is still there."""
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(Path("state"))
    settings = Settings(evals=3, llm="scripted", confirms=1, outer=OuterPlan())
    begun = begin(workspace, write_task(tmp_path), settings)
    conduct(workspace, begun, ThreeLevels(), Nobody())
    return workspace


def test_the_command_says_that_all_came_out_again(run: Workspace) -> None:
    result = bilevel("replay", "toy-1", "--rerun-jobs")
    assert result.exit_code == 0, result.output
    count = sum(isinstance(r, Trial) for r in run.records("toy-1"))
    assert f"all {count} evaluations came out as recorded" in result.output


def test_the_command_names_each_score_that_differs_and_fails(
    run: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = [r for r in run.records("toy-1") if isinstance(r, Trial)]
    monkeypatch.setattr("comparable.loss", lambda values, seed: 0.25)
    result = bilevel("replay", "toy-1", "--rerun-jobs")
    assert result.exit_code == 1
    assert "all came out as recorded" in result.output  # the decisions do, from the record
    for trial in recorded:
        assert trial.score is not None
        said = f"#{trial.id} differs: recorded loss {-trial.score!r}, now loss 0.25"
        assert (said in result.output) is (trial.score != -0.25)
    assert f"{len(recorded)} of {len(recorded)} evaluations differ" in result.output


def test_another_task_is_not_compared(run: Workspace, tmp_path: Path) -> None:
    text = (tmp_path / "task.toml").read_text()
    (tmp_path / "task.toml").write_text(text.replace("low = 0.001", "low = 0.01"))
    result = bilevel("replay", "toy-1", "--rerun-jobs")
    assert "is not the task of toy-1 as it was" in str(result.exception)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "task.toml").write_text(text)
    assert bilevel("replay", "toy-1", "--rerun-jobs", "--task", "old").exit_code == 0


def test_without_the_option_nothing_is_evaluated(
    run: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(values: object, seed: int) -> float:
        raise AssertionError("a replay evaluated")

    monkeypatch.setattr("comparable.loss", never)
    assert bilevel("replay", "toy-1").exit_code == 0
