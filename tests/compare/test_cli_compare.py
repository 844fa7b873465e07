"""`bilevel compare` as a user types it."""

import gzip
import json
import os
import signal
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bilevel.cli.cli import app
from bilevel.compare.output import clock
from comparable import write_task
from patience import PATIENCE
from resumable import SCRIPT, TASK
from terminal import bilevel, jobs_of, start

NOBODY = "toy@http://127.0.0.1:9/v1"  # no server is there


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task's function lies beside this file."""
    places = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(places))


def compare(folder: Path, *words: str, evals: int = 3):  # type: ignore[no-untyped-def]
    write_task(folder)
    given = ("--evals", str(evals), "--seeds", "2", "--llm", NOBODY)
    return bilevel("compare", "task.toml", *given, *words, cwd=folder)


def test_help_teaches() -> None:
    page = CliRunner().invoke(app, ["compare", "--help"])
    assert page.exit_code == 0
    for word in ("--strategies", "--parallel", "--share", "the same command", "tabu+ucb1"):
        assert word in " ".join(page.output.split())


def test_a_comparison_without_llm_leaves_a_table_curves_and_logs_that_replay(
    tmp_path: Path,
) -> None:
    words = ("--strategies", "random_search,cmaes", "--out", "out")
    result = compare(tmp_path, *words)
    assert result.returncode == 0, result.stderr
    lines = result.stderr.splitlines()
    assert (lines[0], lines[-1]) == ("4 runs of 2 strategies, 0 there already", "written to out")
    assert [line.split(" ")[0] for line in lines[1:-1]] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    for word in (
        "single best",
        "to target",
        "tokens in",
        "random_search",
        "cmaes",
        "toy: loss (lower is better)",
    ):
        assert word in result.stdout
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    taken = compare(elsewhere, *words, "--records", "../out")
    assert taken.returncode == 0, taken.stderr
    assert taken.stderr.splitlines() == [
        "../out: 4 runs taken in, 0 were here",
        "4 runs of 2 strategies, 4 there already",
        "written to out",
    ]
    assert taken.stdout == result.stdout
    other = compare(elsewhere, *words, "--records", "../out", evals=2)
    assert "4 left out, which this command would not make" in other.stderr
    out = tmp_path / "out"
    assert (out / "curves.png").stat().st_size > 10_000
    text = (out / "table.md").read_text()
    assert "bilevel compare task.toml --strategies random_search,cmaes --evals 3 --seeds 2" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1
    found = json.loads((out / "table.json").read_text())
    assert {"cmaes", "bilevel"} <= set(found["versions"])
    assert found["machines"][0]["python"]
    assert {row["strategy"]: row["n"] for row in found["rows"]} == {"random_search": 2, "cmaes": 2}
    assert all(len(run["curve"]) == 4 for row in found["rows"] for run in row["runs"])
    logs = sorted(path.name for path in (out / "runs").iterdir())
    assert logs == [f"{s}-{n}.json.gz" for s in ("cmaes", "random_search") for n in (0, 1)]
    (tmp_path / "run.json").write_bytes(gzip.decompress((out / "runs" / logs[3]).read_bytes()))
    assert "as recorded" in bilevel("replay", "run.json", cwd=tmp_path).stdout
    again = compare(tmp_path, *words[:2], "--json")
    assert {**json.loads(again.stdout), "command": ""} == {**found, "command": ""}
    assert len(json.loads(bilevel("list", "--json", cwd=tmp_path).stdout)) == 4


def test_several_processes_make_what_one_makes(tmp_path: Path) -> None:
    words = ("--strategies", "random_search", "--seeds", "4", "--json")
    (tmp_path / "one").mkdir()
    (tmp_path / "three").mkdir()
    one = compare(tmp_path / "one", *words)
    three = compare(tmp_path / "three", *words, "--parallel", "3")
    assert three.returncode == 0, three.stderr
    for first, second in zip(*(json.loads(r.stdout)["rows"] for r in (one, three)), strict=True):
        assert first["best"] == second["best"]
        assert first["n"] == second["n"] == 4
    assert len(json.loads(bilevel("list", "--json", cwd=tmp_path / "three").stdout)) == 4


def test_a_helper_leaves_to_the_first_process_what_wants_an_llm(tmp_path: Path) -> None:
    """Eight configurations and a budget of more: all turn to the LLM, which has no key."""
    write_task(tmp_path)
    task = tmp_path / "task.toml"
    text = task.read_text().partition("[params.RATE]")[0]
    for name, choices in (("RATE", [0.1, 0.2]), ("BATCH", [4096, 1024]), ("PATTERN", ["SL", "S"])):
        default = json.dumps(choices[0])
        text += f'[params.{name}]\nkind = "choice"\ndefault = {default}\nchoices = {choices}\n'
    task.write_text(text)
    words = ("--strategies", "random_search", "--parallel", "2", "--evals", "8", "--seeds", "2")
    result = bilevel("compare", "task.toml", *words, "--llm", "openai/gpt-x", cwd=tmp_path)
    assert result.returncode == 1
    assert "random_search: api.openai.com needs a key" in result.stderr
    assert "Traceback" not in result.stderr
    runs = json.loads(bilevel("list", "--json", cwd=tmp_path).stdout)
    assert [run["counts"]["evaluations"] for run in runs] == [7, 7]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--strategies", "tabuu"), "did you mean tabu"),
        (("--seeds", "0"), "seeds is 0 but must be at least 1"),
        (("--parallel", "0"), "parallel is 0 but must be at least 1"),
        (("--strategies", "plain,cmaes", "--llm", "openai/gpt-x"), "OPENAI_API_KEY"),
    ],
)
def test_a_mistake_gets_one_clear_message(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    result = compare(tmp_path, *words)
    assert result.returncode == 1
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("parallel", ["1", "2"])
def test_ctrl_c_pauses_and_leaves_nothing_running(tmp_path: Path, parallel: str) -> None:
    (tmp_path / "train.py").write_text(SCRIPT + "import time\ntime.sleep(900)\n")
    (tmp_path / "task.toml").write_text(TASK.replace("timeout = 120", "timeout = 900"))
    words = ("--strategies", "random_search,cmaes", "--llm", NOBODY, "--parallel", parallel)
    process = start("compare", "task.toml", *words, cwd=tmp_path)
    deadline = time.monotonic() + PATIENCE
    try:
        # A job is its own process and a supervisor's.
        while len(jobs_of(tmp_path)) < int(parallel) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(jobs_of(tmp_path)) >= int(parallel)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, output
    assert "the same command goes on" in output
    assert "Traceback" not in output
    assert jobs_of(tmp_path) == []


def test_times_read_as_people_write_them() -> None:
    assert [clock(s) for s in (0.42, 64, 750, 4350)] == ["0.4 s", "64 s", "12:30 min", "1:12:30"]
