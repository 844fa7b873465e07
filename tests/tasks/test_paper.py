"""The mock of the paper's landscape: its shape, its noise, the contract, and what cheats try."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from cheating import (
    TRICKS,
    forged_outputs,
    job_beside_forged_files,
    refused,
    without_clock_and_chance,
)

import bilevel.tasks.paper
from bilevel.conformance.task import TaskSuite
from bilevel.space import Value, Values
from bilevel.tasks.function import FunctionTask
from bilevel.tasks.loading import load_task
from bilevel.tasks.paper import landscape
from patience import PATIENCE

ROOT = Path(__file__).parents[2]
FOLDER = Path(bilevel.tasks.paper.__file__).parent
RUNS = ROOT.parent / "shared" / "data" / "paper_runs.json"
POINT = {"TOTAL_BATCH_SIZE": 2**17, "WEIGHT_DECAY": 0.12, "WINDOW_PATTERN": "SSSS", "HEAD_DIM": 96}


def paper() -> FunctionTask:
    task = load_task(FOLDER)
    assert isinstance(task, FunctionTask)
    return task


def at(**changes: Value) -> dict[str, Value]:
    return {**paper().space.defaults(), **changes}


def expected(**changes: Value) -> float:
    return landscape.expected({**paper().locked, **at(**changes)})


class TestPaper(TaskSuite):
    def task(self) -> FunctionTask:
        return paper()

    def good(self) -> list[Values]:
        return [at(**POINT), at(EMBEDDING_LR=0.9), at(WEIGHT_DECAY=0.0)]


def test_it_is_quick_noisy_and_repeatable() -> None:
    task = paper()
    assert (task.name, task.inline, task.seeded, task.deterministic) == (
        "paper-mock", True, True, True,
    )  # fmt: skip
    assert task.call(at(), 3) == task.call(at(), 3) == paper().call(at(), 3)


def test_the_batch_is_what_matters() -> None:
    gains = [expected(TOTAL_BATCH_SIZE=2**k) - expected() for k in (17, 18, 20, 21)]
    assert gains == pytest.approx([-0.06, -0.035, 0.055, 0.25], abs=0.01)


def test_the_default_is_the_papers_and_its_noise_too() -> None:
    values = [paper().call(at(), seed).value for seed in range(400)]
    numbers = [v for v in values if v is not None]
    assert len(numbers) == 400
    assert statistics.mean(numbers) == pytest.approx(1.1018, abs=0.0005)
    assert statistics.stdev(numbers) == pytest.approx(0.0017, rel=0.1)


def test_other_values_are_another_draw_and_minus_zero_is_not() -> None:
    def noise(**changes: Value) -> float:
        value = paper().call(at(**changes), 5).value
        assert value is not None
        return value - expected(**changes)

    assert noise(WINDOW_PATTERN="SSSS") != pytest.approx(noise(), abs=1e-6)
    assert noise(WARMUP_RATIO=-0.0) == noise(WARMUP_RATIO=0.0)


def test_a_batch_below_the_devices_is_refused_with_the_rule() -> None:
    found = paper().call(at(TOTAL_BATCH_SIZE=2**16), 0)
    assert (found.status, found.value) == ("invalid", None)
    assert "multiple of DEVICE_BATCH_SIZE * 2048 = 131072" in found.error


def test_an_effect_is_linear_between_its_knots() -> None:
    assert landscape.interpolate(2.0, [1.0, 4.0], [0.0, 1.0], log=True) == 0.5
    assert landscape.interpolate(2.5, [1.0, 4.0, 5.0], [0.0, 1.0, 9.0], log=False) == 0.5
    assert landscape.interpolate(4.5, [1.0, 4.0, 5.0], [0.0, 1.0, 9.0], log=False) == 5.0
    assert landscape.interpolate(1.0, [1.0, 4.0], [0.25, 1.0], log=True) == 0.25
    assert landscape.interpolate(4.0, [1.0, 4.0], [0.25, 1.0], log=True) == 1.0


def test_the_fit_has_a_value_at_every_bound() -> None:
    task = paper()
    for param in task.space:
        values = param.choices or [v for v in param.bounds if v != 2**16]
        for value in values:
            found = task.call(at(**{param.name: value}), 0)
            assert found.value is not None, (param.name, found.error)
            assert 1.0 < found.value < 1.5


def test_the_job_gives_the_same_to_the_last_bit(tmp_path: Path) -> None:
    task = paper()
    found = job_beside_forged_files(task, at(**POINT), 7, tmp_path / "ok")
    assert found == task.call(at(**POINT), 7)
    refused = at(TOTAL_BATCH_SIZE=2**16)
    found = job_beside_forged_files(task, refused, 7, tmp_path / "refused")
    assert found == task.call(refused, 7)


@pytest.mark.parametrize("trick", TRICKS)
def test_values_outside_the_space_are_refused(trick: str) -> None:
    assert refused(paper(), trick)


@pytest.mark.parametrize("name", ["DEVICE_BATCH_SIZE", "DEPTH"])
def test_what_is_fixed_cannot_be_given(name: str) -> None:
    found = paper().call(at(**{name: 1}), 0)
    assert f"there is no parameter '{name}'" in found.error


def test_a_clock_or_generator_tampered_with_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = paper().call(at(**POINT), 7)
    without_clock_and_chance(monkeypatch)
    assert paper().call(at(**POINT), 7) == honest


def test_forged_output_of_a_failed_job_is_no_result() -> None:
    forged_outputs(paper())


@pytest.mark.skipif(not RUNS.exists(), reason="the paper's runs are not beside the repository")
def test_the_committed_numbers_are_those_of_the_fit(tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="the extra search is not installed")
    script = ROOT / "benchmarks" / "fit_paper_landscape.py"
    written = tmp_path / "landscape.toml"
    command = [sys.executable, str(script), str(RUNS), "--write", str(written)]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    assert written.read_text() == (FOLDER / "landscape.toml").read_text()


@pytest.mark.skipif(not RUNS.exists(), reason="the paper's runs are not beside the repository")
def test_the_papers_best_configuration_is_near_its_value() -> None:
    runs = json.loads(RUNS.read_text())["runs"]
    best = min(run["best_val_bpb"] for run in runs)
    found = expected(TOTAL_BATCH_SIZE=2**17, WEIGHT_DECAY=0.12, EMBEDDING_LR=0.34)
    assert found == pytest.approx(best, abs=0.005)
