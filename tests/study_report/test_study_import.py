"""Other people's runs, read from a file and reported like our own."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy", reason="the statistics of a study need scipy")
pytest.importorskip("matplotlib", reason="the figures of a study need matplotlib")

from typer.testing import CliRunner

from bilevel.cli.cli import app
from bilevel.errors import ConfigError
from bilevel.study.analysis import analyse
from bilevel.study.importing import read_study
from bilevel.study.report_document import Table

PAPER = Path(__file__).parents[3] / "shared/data/paper_runs.json"


def record(value: float | None, **more: Any) -> dict[str, Any]:
    return {"loss": value, **more}


FORM: dict[str, Any] = {
    "source": "Two small groups",
    "notes": ["seen by hand"],
    "metric": "loss",
    "direction": "min",
    "task": "toy",
    "unknown": "is passed over",
    "runs": [
        {
            "group": group,
            "repeat": repeat,
            "baseline_loss": 1.0,
            "best_loss": best,
            "records": [
                record(1.0, is_baseline=True),
                record(None, changes_inferred={"RATE": 2}),
                record(1.5, changes_inferred={"RATE": 3}, repeat_of_earlier_config=True),
                record(0.1, is_baseline=True),
                record(best, changes_inferred={"BATCH": 2}),
            ],
            "level2_sessions": [{"applied": group == "C", "round": 1}],
        }
        for group, repeat, best in (("A", 1, 0.9), ("A", 2, 0.8), ("C", 1, 0.5), ("C", 2, 0.7))
    ],
    "groups": {"A": {"mean_delta": -0.15, "std_sample": 0.070711}},
    "published_table_1": {"A": [-0.1, -0.2, "-0.1+-0.1"]},
}


def write(path: Path, document: object) -> Path:
    file = path / "runs.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


def test_runs_are_read_with_their_failures_and_habits(tmp_path: Path) -> None:
    data = read_study(write(tmp_path, FORM)).data
    assert (data.arms, data.tasks, data.metric, data.evals) == (("A", "C"), ("toy",), "loss", 3)
    first = data.runs[0]
    assert first.scores == (None, 1.5, 0.9)
    assert (first.best, first.baseline, first.failed, first.duplicates) == (0.9, 1.0, 1, 1)
    assert first.parameters_touched == ("RATE", "BATCH")
    assert (first.tokens, first.usd, first.reevaluated) == (None, None, None)
    assert data.curve(first) == (1.0, 1.0, 1.0, 0.9)


def test_what_was_published_stands_beside_what_the_runs_give(tmp_path: Path) -> None:
    _, table, notes = read_study(write(tmp_path, FORM)).extra.blocks
    assert isinstance(table, Table)
    a, c = table.rows
    assert a[:6] == ("A", "-0.1, -0.2", "-0.1+-0.1", "-0.1000, -0.2000", "-0.1500", "0.0707")
    assert c[:5] == ("C", "-", "-", "-0.5000, -0.3000", "-0.4000")
    assert "of which 2 put in their code" in str(notes)


def test_a_metric_to_maximise(tmp_path: Path) -> None:
    up = copy.deepcopy(FORM)
    up |= {"direction": "max", "groups": {"A": {"mean_delta": 0.5, "std_sample": 0.0}}}
    for run in up["runs"]:
        run["best_loss"] = 1.5
    data = read_study(write(tmp_path, up)).data
    assert [data.gain(r, r.best) for r in data.runs] == [0.5] * 4


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("runs",), [], "runs is"),
        (("runs", 0, "records"), [], "runs.0.records"),
        (("runs", 0, "repeat"), "one", "runs.0.repeat is 'one'"),
        (("runs", 1, "repeat"), 1, "A, repeat 1, twice"),
        (("runs", 0, "best_loss"), 0.2, "its records give 0.9"),
        (("runs", 0, "baseline_loss"), None, "baseline_loss of A, repeat 1 is None"),
        (("runs", 0, "records", 4, "loss"), "0.9", "must be a finite number"),
        (("runs", 0, "records", 4, "loss"), True, "must be a finite number"),
        (("groups", "A", "mean_delta"), -0.2, "its runs give -0.150000"),
        (("groups",), {"Z": {"mean_delta": 0.0}}, "no run"),
        (("published_table_1",), {"A": "text"}, "a list for each group"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    tmp_path: Path, path: tuple[str | int, ...], value: object, words: str
) -> None:
    document = copy.deepcopy(FORM)
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ConfigError, match=words):
        read_study(write(tmp_path, document))


def test_what_is_no_json_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="JSON"):
        read_study(tmp_path / "no.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_study(tmp_path / "gone.json")


def test_the_command_writes_a_report(tmp_path: Path) -> None:
    file, out = write(tmp_path, FORM), tmp_path / "out"
    ran = CliRunner().invoke(app, ["study", "import", str(file), "--out", str(out)])
    assert ran.exit_code == 0, ran.output
    text = (out / "report.md").read_text(encoding="utf-8")
    assert f"bilevel study import {file} --out {out}" in text
    assert "With 2 pairs, p cannot be under 0.5" in text


@pytest.mark.skipif(not PAPER.exists(), reason="the paper's runs are not beside the project")
def test_the_papers_runs_give_the_corrected_figures_and_decide_nothing() -> None:
    found = read_study(PAPER)
    (result,) = analyse(found.data)
    known = {  # mean, sd and Student's interval of best - baseline
        "A": (-0.009206, 0.001350, -0.0126, -0.0059),
        "B": (-0.006598, 0.005554, -0.0204, 0.0072),
        "C": (-0.044786, 0.029565, -0.1182, 0.0287),
        "D": (-0.034280, 0.031126, -0.1116, 0.0430),
    }
    for arm in result.arms:
        mean, sd, low, high = known[arm.arm]
        assert arm.gain is not None
        assert arm.gain.student is not None
        assert arm.gain.mean == pytest.approx(-mean, abs=1e-6)
        assert arm.gain.sd == pytest.approx(sd, abs=1e-6)
        assert arm.gain.student.low == pytest.approx(-high, abs=5e-5)
        assert arm.gain.student.high == pytest.approx(-low, abs=5e-5)
    assert [r.answer for r in result.against_reference] == ["undecided"] * 3
    assert min(r.difference.p for r in result.against_reference) == 0.25
    assert result.uneven
