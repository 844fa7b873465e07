"""The command line as a user types it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bilevel import __version__
from bilevel.budget.words import seconds
from bilevel.cli.cli import app
from bilevel.errors import ConfigError, MissingExtra
from patience import PATIENCE
from resumable import SCRIPT, TASK
from terminal import bilevel, jobs_of, start

HEAVY = ("torch", "numpy", "matplotlib", "openai", "sqlalchemy", "alembic", "xllamacpp", "pydantic")


def test_help_teaches_every_command() -> None:
    result = CliRunner().invoke(app, ["--help"])
    for command in ("demo", "init", "run", "resume", "list", "show", "best", "models", "doctor"):
        assert command in result.output
        page = CliRunner().invoke(app, [command, "--help"])
        assert page.exit_code == 0
        assert len(page.output) > 100


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from bilevel.cli.cli import app;"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0;"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_version(tmp_path: Path) -> None:
    assert bilevel("--version", cwd=tmp_path).stdout.strip() == __version__


def test_nothing_there_yet_says_how_to_begin(tmp_path: Path) -> None:
    assert "bilevel demo" in bilevel("list", cwd=tmp_path).stdout
    result = bilevel("show", cwd=tmp_path)
    assert result.returncode == 1
    assert "start one with" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "missing.py"), "missing.py"),
        (("run", "gtp"), "there is no task 'gtp'; give gpt, gpt-cuda, heilbronn"),
        (("run", "gpt", "--evals", "-1"), "evals is -1 but must be at least 0"),
        (("run", "gpt", "--baselines", "1"), "baselines is 1 but must be at least 2"),
        (("run", "gpt", "--wall", "soon"), "must be a time such as 8h"),
        (("show", "gpt-7"), "no run 'gpt-7'"),
        (("init", "gone.py"), "there is no script gone.py; give the path"),
        (("models", "verify", "qwen9"), "qwen9"),
        (("run", "gpt", "--llm", "openai/gpt-x"), "OPENAI_API_KEY"),
    ],
)
def test_a_mistake_gets_one_clear_message(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    result = bilevel(*words, cwd=tmp_path)
    assert result.returncode != 0
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_init_then_the_file_loads(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    result = bilevel("init", "train.py", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    from bilevel.tasks.loading import load_task

    task = load_task(tmp_path / "task.toml")
    assert {"RATE", "BATCH"} <= set(task.space.names)
    assert task.objective.metric == "val_loss"
    again = bilevel("init", "train.py", cwd=tmp_path)
    assert again.returncode == 1
    assert "--force" in again.stderr


def test_an_unreachable_llm_pauses_the_run_and_nothing_is_lost(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "task.toml").write_text(TASK)
    result = bilevel("run", "task.toml", "--llm", "toy@http://127.0.0.1:9/v1", cwd=tmp_path)
    assert result.returncode == 3, result.stdout + result.stderr
    assert "bilevel resume tiny-1" in result.stdout
    shown = json.loads(bilevel("show", "--json", cwd=tmp_path).stdout)
    kinds = [r["type"] for r in shown["records"]]
    assert kinds == ["Prices", "Estimate", "Opening", "Trial", "Trial", "Stop"]


def test_a_run_without_proposals_leaves_its_results(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "task.toml").write_text(TASK)
    spec = "toy@http://127.0.0.1:9/v1"
    result = bilevel("run", ".", "--evals", "0", "--llm", spec, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    folder = tmp_path / ".bilevel" / "runs" / "tiny-1"
    assert (folder / "results.tsv").read_text().startswith("commit\tval_loss\tmemory_gb\t")
    assert (folder / "progress.png").stat().st_size > 10_000
    assert json.loads((folder / "best.json").read_text())["values"]["BATCH"] == 1024
    assert bilevel("replay", cwd=tmp_path).returncode == 0
    (tmp_path / "run.json").write_text(bilevel("show", "--json", cwd=tmp_path).stdout)
    assert "as recorded" in bilevel("replay", "run.json", cwd=tmp_path).stdout
    assert "baseline" in bilevel("show", "run.json", cwd=tmp_path).stdout


def test_times() -> None:
    assert [seconds(t) for t in ("8h", "1h30m", "90s")] == [28800, 5400, 90]
    with pytest.raises(ConfigError):
        seconds("")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(tmp_path: Path, number: int) -> None:
    slow = "import time, subprocess\nsubprocess.Popen(['sleep', '900'])\ntime.sleep(900)\n"
    (tmp_path / "train.py").write_text(SCRIPT + slow)
    (tmp_path / "task.toml").write_text(TASK.replace("timeout = 120", "timeout = 900"))
    process = start("run", "task.toml", "--llm", "toy@http://127.0.0.1:9/v1", cwd=tmp_path)
    deadline = time.monotonic() + PATIENCE
    while len(jobs_of(tmp_path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(jobs_of(tmp_path)) >= 2
    process.send_signal(number)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, output
    assert "bilevel resume tiny-1" in output
    assert "Traceback" not in output
    assert jobs_of(tmp_path) == []


@pytest.mark.weights
def test_a_real_model_proposes_and_the_run_replays(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "task.toml").write_text(TASK)
    words = ("--llm", "embedded:smollm2-135m", "--evals", "2", "--confirms", "1")
    process = start("run", "task.toml", *words, cwd=tmp_path)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    shown = json.loads(bilevel("show", "--json", cwd=tmp_path).stdout)
    calls = [r["record"] for r in shown["records"] if r["type"] == "Call"]
    assert calls
    assert all(c["reply"]["tokens_out"] > 0 for c in calls)
    assert shown["summary"]["stop"]
    assert "as recorded" in bilevel("replay", cwd=tmp_path).stdout


def test_brackets_in_names_values_and_errors_are_printed_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`[/x]` would end a style that was never begun, and `[red]` would vanish."""
    folder = tmp_path / "odd [" / "x]"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("BILEVEL_HOME", "[/h]")
    (folder / "train.py").write_text(
        'MODE = "[/x]"\nif MODE == "[red]a":\n    raise SystemExit("[/y]")\n'
        'print("METRIC loss=1")\n'
    )
    (folder / "task.toml").write_text(
        '[task]\nname = "odd"\nkind = "script"\ngoal = "g"\nmetric = "loss"\ndirection = "min"\n'
        '[script]\nfile = "train.py"\n[params.MODE]\nchoices = ["[/x]", "[red]a", "[/b]c"]\n'
    )

    def said(*words: str) -> str:
        result = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    ran = said("run", "task.toml", "--llm", "none", "--stack", "random_search", "--evals", "2")
    assert '-> "[red]a"' in ran
    assert "exit 1: [/y]" in ran
    assert "results in [/h]/runs/odd-1" in ran
    assert 'MODE = "[/x]"' in said("best")
    for words in (("show",), ("show", "--ledger"), ("list",), ("replay",), ("costs",)):
        said(*words)
    compared = ("compare", "task.toml", "--strategies", "random_search", "--out", "[/o]")
    assert "written to [/o]" in said(*compared, "--seeds", "1", "--evals", "1")


def test_a_remedy_in_brackets_reaches_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*_: object) -> None:
        raise MissingExtra("a plot needs matplotlib; pip install 'bilevel[plots]'")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bilevel.cli.running.plot_progress", lacking)
    words = ["run", "paper-mock", "--llm", "none", "--stack", "random_search", "--evals", "1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "no progress.png: a plot needs matplotlib; pip install 'bilevel[plots]'" in result.output
