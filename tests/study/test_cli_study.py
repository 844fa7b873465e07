"""`bilevel study` as a user types it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from studies import text
from typer.testing import CliRunner

from bilevel.cli.cli import app
from comparable import write_task
from patience import PATIENCE
from resumable import SCRIPT, TASK
from terminal import bilevel, jobs_of, start

ARMS = ("random_search", "cmaes")
TESTS = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task's function lies in the folder of the tests."""
    places = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(places))


def write(folder: Path, repeats: int = 2) -> None:
    write_task(folder)
    said = text(*ARMS, repeats=repeats).replace('llm = "scripted"', 'llm = "none"')
    (folder / "study.toml").write_text(said)


def test_help_teaches() -> None:
    for command, word in (("run", "same command"), ("status", "results"), ("report", "--credit"),
        ("replay", "first difference"), ("export", "packed small"),
    ):  # fmt: skip
        page = CliRunner().invoke(app, ["study", command, "--help"])
        assert page.exit_code == 0
        assert word in " ".join(page.output.split())


def test_run_status_grow_export_and_refuse(tmp_path: Path) -> None:
    write(tmp_path)
    assert "not begun" in bilevel("study", "status", "study.toml", cwd=tmp_path).stdout
    made = bilevel("study", "run", "study.toml", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    lines = made.stderr.splitlines()
    assert lines[0].startswith("toy-study: 4 runs, 0 there already; 1 tasks, 2 arms, 2 repeats")
    assert [line.split(" ")[0] for line in lines[1:5]] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert "loss" not in made.stderr
    write(tmp_path, repeats=3)
    shutil.copy(tmp_path / "study.toml", tmp_path / "[study].toml")
    grown = bilevel("study", "run", "[study].toml", "--parallel", "2", cwd=tmp_path)
    assert grown.stderr.startswith("toy-study: 6 runs, 4 there already"), grown.stderr
    assert "bilevel study report [study].toml" in grown.stderr, "a name is no markup"
    found = json.loads(bilevel("study", "status", "study.toml", "--json", cwd=tmp_path).stdout)
    assert (found["done"], found["wanted"]) == (6, 6)
    assert {row["arm"]: row["done"] for row in found["arms"]} == dict.fromkeys(ARMS, 3)
    out = bilevel("study", "export", "study.toml", "--out", "out", cwd=tmp_path)
    assert re.search(r"^out: 6 runs, [\d,]+ bytes in 8 files, [\d,]+ a run", out.stdout)
    log = tmp_path / "out" / "runs" / "task-cmaes-2.jsonl.xz"
    assert "as recorded" in bilevel("replay", str(log), cwd=tmp_path).stdout
    changed = (tmp_path / "study.toml").read_text().replace("first arm", "second arm")
    (tmp_path / "study.toml").write_text(changed)
    refused = bilevel("study", "run", "study.toml", cwd=tmp_path)
    assert refused.returncode == 1
    assert "Rules are written before the first run and never after" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_from_an_export_alone_the_report_and_every_run_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("scipy", reason="the statistics of a study need scipy")
    pytest.importorskip("matplotlib", reason="the figures of a study need matplotlib")
    write(tmp_path)
    assert bilevel("study", "run", "study.toml", cwd=tmp_path).returncode == 0
    here = bilevel("study", "report", "study.toml", "--out", "report", cwd=tmp_path)
    assert here.returncode == 0, here.stderr
    assert bilevel("study", "export", "study.toml", "--out", "out", cwd=tmp_path).returncode == 0
    fresh = tmp_path / "elsewhere"
    fresh.mkdir()
    write(fresh, repeats=3)
    grown = bilevel("study", "run", "study.toml", "--records", "../out", cwd=fresh)
    assert grown.returncode == 0, grown.stderr
    said = grown.stderr.splitlines()
    assert said[0] == "../out: 4 runs taken in, 0 were here"
    assert said[1].startswith("toy-study: 6 runs, 4 there already")
    shutil.rmtree(fresh)
    fresh.mkdir()
    shutil.move(tmp_path / "out", fresh / "out")
    there = bilevel("study", "report", "out", "--out", "report", cwd=fresh)
    assert there.returncode == 0, there.stderr
    for name in ("statistics.json", "figures/arms.svg", "figures/arms.png"):
        assert (fresh / "report" / name).read_bytes() == (tmp_path / "report" / name).read_bytes()
    monkeypatch.chdir(fresh)
    every = CliRunner().invoke(app, ["study", "replay", "out"])
    assert every.output.splitlines()[-1] == "4 of 4 runs came out as recorded"
    one = CliRunner().invoke(app, ["study", "replay", "out", "task-cmaes-1"])
    assert one.output.startswith("task-cmaes-1: as recorded: 3 proposals")
    assert sorted(p.name for p in fresh.iterdir()) == ["out", "report"]  # no store was needed
    none = CliRunner().invoke(app, ["study", "replay", "out", "task-cmaes-7"])
    assert none.exit_code == 1
    assert "has no run task-cmaes-7; there is task-cmaes-" in str(none.exception)


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_study_goes_on(tmp_path: Path, kill: signal.Signals) -> None:
    (tmp_path / "train.py").write_text(SCRIPT + "import time\ntime.sleep(900)\n")
    (tmp_path / "task.toml").write_text(TASK.replace("timeout = 120", "timeout = 900"))
    said = text(*ARMS).replace('llm = "scripted"', 'llm = "none"')
    (tmp_path / "study.toml").write_text(said)
    process = start("study", "run", "study.toml", "--parallel", "2", cwd=tmp_path)
    try:
        wait_for(lambda: len(jobs_of(tmp_path)) == 2)  # both processes are at work
        process.send_signal(kill)
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert "Traceback" not in output
    assert process.returncode == (130 if kill == signal.SIGINT else -kill), output
    assert ("the same command goes on" in output) == (kill == signal.SIGINT)
    wait_for(lambda: jobs_of(tmp_path) == [])
    found = json.loads(bilevel("study", "status", "study.toml", "--json", cwd=tmp_path).stdout)
    assert sum(row["open"] for row in found["arms"]) == 2


def wait_for(happens: Callable[[], bool]) -> None:
    """Raises AssertionError when it has not happened in time."""
    deadline = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_some_tasks_first_and_the_others_with_the_next_command(tmp_path: Path) -> None:
    write(tmp_path)
    shutil.copy(tmp_path / "task.toml", tmp_path / "other.toml")
    said = (tmp_path / "study.toml").read_text()
    both = said.replace('tasks = ["task.toml"]', 'tasks = ["task.toml", "other.toml"]')
    (tmp_path / "study.toml").write_text(both)
    refused = bilevel("study", "run", "study.toml", "--only", "third.toml", cwd=tmp_path)
    assert refused.returncode == 1
    assert "no task of this study: third.toml; it has task.toml, other.toml" in refused.stderr
    some = bilevel(
        "study", "run", "study.toml", "--only", "other.toml", "--parallel", "2", cwd=tmp_path
    )
    assert some.returncode == 0, some.stderr
    assert some.stderr.startswith("toy-study: 4 runs, 0 there already; 1 tasks"), some.stderr
    assert "these are whole, not looked at: task.toml; now: bilevel study report" in some.stderr
    found = json.loads(bilevel("study", "status", "study.toml", "--json", cwd=tmp_path).stdout)
    assert {(row["task"], row["done"]) for row in found["arms"]} == {
        ("task.toml", 0), ("other.toml", 2)
    }  # fmt: skip
    rest = bilevel("study", "run", "study.toml", cwd=tmp_path)
    assert rest.stderr.startswith("toy-study: 8 runs, 4 there already; 2 tasks"), rest.stderr
    assert "\nwhole; now: bilevel study report" in rest.stderr
