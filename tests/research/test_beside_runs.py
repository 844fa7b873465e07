"""Whole runs with sessions beside the loop, behind the real wall; how it is chosen and shown."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from beside_worlds import of_session, place, until
from bilevel import engine
from bilevel.assemble import conduct, replayed
from bilevel.cli.cli import app
from bilevel.cli.running import levels_text
from bilevel.errors import ConfigError
from bilevel.levels import chosen
from bilevel.model import Begun, Call, Message, Phase, Record, Run, Session, Stop, Trial
from bilevel.planning import Settings, answers_here, begin, with_sessions, with_writes
from bilevel.protocols import Schema
from bilevel.render.live import Terminal
from bilevel.render.render import summary_panel
from bilevel.summary import summarise
from bilevel.workspace import Workspace
from comparable import write_task
from factories import shown
from outer_worlds import WHOLE, of
from threelevels import PLAN, Nobody, ThreeLevels, held

needs_lock = pytest.mark.skipif(not held(), reason="this machine cannot lock a worker")
BESIDE = replace(PLAN, beside=True)


@pytest.fixture(autouse=True, scope="module")
def _brief_gate() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "Gate", WHOLE)
        yield


@dataclass
class Slow(ThreeLevels):
    """A scripted LLM whose first session gets its first reply after two more evaluations.

    trials: how many there are.
    """

    trials: threading.Semaphore | None = None

    def answer(self, messages: Sequence[Message], schema: Schema | None, seed: int) -> str:
        if of_session(schema) and self.trials is not None:
            trials, self.trials = self.trials, None
            for _ in range(2):
                until(partial(trials.acquire, blocking=False))
        return super().answer(messages, schema, seed)


class Counting(Nobody):
    """Tells of each trial that comes after a session began."""

    def __init__(self, trials: threading.Semaphore) -> None:
        self.trials = trials
        self.begun = False

    def record(self, record: Record) -> None:
        self.begun |= isinstance(record, Begun)
        if self.begun and isinstance(record, Trial):
            self.trials.release()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Run]:
    folder = tmp_path_factory.mktemp("beside")
    workspace = Workspace(folder / "state")
    settings = Settings(evals=7, llm="scripted", confirms=1, outer=BESIDE)
    run = begin(workspace, write_task(folder), settings)
    trials = threading.Semaphore(0)
    stop = conduct(workspace, run, Slow(trials=trials), Counting(trials))
    assert stop.reason == "done"
    return workspace, run


@needs_lock
def test_a_run_beside_is_recorded_with_a_real_gate_and_replays(
    whole: tuple[Workspace, Run],
) -> None:
    workspace, run = whole
    assert workspace.store.run(run.id).outer.beside
    log = workspace.records(run.id)
    meanwhile = log[place(log, Begun) : place(log, Session)]
    assert len(of(meanwhile, Trial)) >= 2
    first = of(log, Session)[0]
    assert first.admitted
    assert first.landed is not None
    assert first.landed > first.step
    assert all(s.landed is not None for s in of(log, Session))
    result = replayed(run, log)
    assert result.difference is None
    assert result.decisions >= 9


@needs_lock
def test_a_run_on_its_tape_lands_its_sessions_where_it_did(
    whole: tuple[Workspace, Run], tmp_path: Path
) -> None:
    workspace, run = whole
    settings = Settings(evals=7, llm="scripted", confirms=1, outer=BESIDE, tape=run.id)
    rerun = begin(workspace, run.source, settings)
    stop = conduct(workspace, rerun, ThreeLevels(), Nobody())
    assert (stop.reason, stop.detail) == ("done", "7 evaluations")
    old, new = (of(workspace.records(r.id), Session) for r in (run, rerun))
    assert [(s.step, s.landed, s.admitted) for s in old] == [
        (s.step, s.landed, s.admitted) for s in new
    ]
    assert all(c.reply.taken == run.id for c in of(workspace.records(rerun.id), Call))


@needs_lock
def test_ctrl_c_in_a_run_beside_is_resumed(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "state")
    settings = Settings(evals=7, llm="scripted", confirms=1, outer=BESIDE)
    run = begin(workspace, write_task(tmp_path), settings)
    trials = threading.Semaphore(0)

    class Impatient(Counting):
        def phase(self, phase: Phase) -> None:
            if self.begun and phase.kind == "propose":
                raise KeyboardInterrupt

    stop = conduct(workspace, run, Slow(trials=trials), Impatient(trials))
    assert stop.reason == "interrupted"
    log = workspace.records(run.id)
    assert of(log, Begun)
    assert not of(log, Session)
    assert isinstance(log[-1], Stop)
    assert conduct(workspace, run, ThreeLevels(), Nobody()).reason == "done"
    log = workspace.records(run.id)
    assert len({c.key for c in of(log, Call)}) == len(of(log, Call))
    assert replayed(run, log).difference is None


# What is chosen


@pytest.mark.parametrize(
    ("llm", "outer", "beside"),
    [
        ("embedded", "", False),
        ("embedded:smollm2-135m", "", False),
        ("openai/gpt", "", True),
        ("openai/gpt?rpm=60", "", True),
        ("embedded", "anthropic/claude", True),
        ("anthropic/claude", "embedded", False),
        ("ensemble:openai/gpt,embedded", "", True),
        ("ensemble:embedded,openai/gpt", "", False),
        ("claude-code", "", True),
        ('command:"my-agent --flag"', "", True),
        ("ollama/qwen", "", False),
        ("qwen@http://127.0.0.1:8000/v1", "", False),
        ("qwen:7b@http://gpu.example:8000/v1", "", True),
        ("deepseek", "", True),
        ("scripted", "", False),
        ("terminal", "", False),
        ("mailbox:letters", "", False),
    ],
)
def test_sessions_are_beside_where_the_model_of_level_2_has_cores_of_its_own(
    llm: str, outer: str, beside: bool
) -> None:
    assert with_sessions(chosen("1,2", llm), "auto", llm, outer).beside == beside
    assert with_sessions(chosen("1,2", llm), "turns", llm, outer).beside is False
    assert with_sessions(chosen("1,2", llm), "beside", llm, outer).beside is True
    assert not with_sessions(chosen("1", llm), "auto", llm, outer).beside


@pytest.mark.parametrize(
    ("llm", "outer", "writes"),
    [
        ("embedded", "", "frames"),
        ("embedded:smollm2-135m", "", "frames"),
        ("embedded", "deepseek", "classes"),
        ("deepseek", "embedded", "frames"),
        ("claude-code/opus", "", "classes"),
        ("ensemble:embedded,deepseek", "", "frames"),
        ("llamacpp/qwen2.5-coder-1.5b-q4_k_m", "", "frames"),
        ("ollama/qwen2.5-coder:1.5b", "", "frames"),
        ("ollama/SmolLM2-135M@http://10.0.0.7:8080/70b", "", "frames"),
        ("ollama/qwen2.5-coder:7b", "", "classes"),
        ("deepseek", "ollama/llama3.2:3b", "frames"),
        ("ollama/mixtral:8x3b", "", "classes"),
        ("ollama/qwen3:30b-3b-active", "", "classes"),
    ],
)
def test_small_models_fill_frames_and_others_write_classes(
    llm: str, outer: str, writes: str
) -> None:
    plan = chosen("1,2", llm)
    assert with_writes(plan, "auto", llm, outer).writes == writes
    assert with_writes(plan, "classes", llm, outer).writes == "classes"
    assert with_writes(plan, "frames", llm, outer).writes == "frames"
    silent = chosen("1,1.5", llm)
    assert with_writes(silent, "auto", llm, outer) == silent
    with pytest.raises(ConfigError, match=r"--writes classes .* takes no part"):
        with_writes(silent, "classes", llm, outer)


def test_who_answers_here_is_asked_one_request_after_the_other() -> None:
    assert answers_here("terminal")
    assert not answers_here("deepseek")


def test_sessions_of_a_level_that_takes_no_part_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--sessions beside .* takes no part"):
        with_sessions(chosen("1,1.5", "openai/gpt"), "beside", "openai/gpt", "")


@pytest.mark.parametrize(
    ("words", "beside"), [((), False), (("--sessions", "beside"), True)], ids=["auto", "forced"]
)
def test_the_command_line_chooses_and_the_header_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], beside: bool
) -> None:
    begun: list[Settings] = []
    monkeypatch.setattr("bilevel.cli.run._start", lambda task, settings, *_: begun.append(settings))
    result = CliRunner().invoke(app, ["run", "gpt", *words, "--home", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert begun[0].outer.beside is beside
    bad = CliRunner().invoke(app, ["run", "gpt", "--levels", "1", "--sessions", "beside"])
    assert bad.exit_code != 0


@needs_lock
def test_header_summary_and_lines_say_that_sessions_are_beside(
    whole: tuple[Workspace, Run], tmp_path: Path
) -> None:
    workspace, run = whole
    log = workspace.records(run.id)
    assert "a session after every 4, beside the inner loop" in levels_text(run)
    text = " ".join(shown(summary_panel(summarise(run, log)), 200).split())
    assert "research 1 session beside the inner loop, 1 admitted" in text
    assert json.loads(json.dumps(summarise(run, log).outer.beside)) is True
    screen = Console(file=io.StringIO(), force_terminal=False, width=140, color_system=None)
    begun, landed = place(log, Begun), place(log, Session)
    watcher = Terminal(run, log[:begun], tmp_path, screen)
    for record in log[begun : landed + 1]:
        watcher.record(record)
    assert isinstance(screen.file, io.StringIO)
    printed = screen.file.getvalue()
    assert "Level 2  a session of cycle 2 begins; the inner loop goes on meanwhile" in printed
    assert f"Level 2  session of cycle 2, begun before step {of(log, Begun)[0].step}" in printed


@needs_lock
def test_the_terminal_shows_both_and_what_is_waited_for(
    whole: tuple[Workspace, Run], tmp_path: Path
) -> None:
    workspace, run = whole
    log = workspace.records(run.id)
    explored = next(i for i, r in enumerate(log) if isinstance(r, Call) and r.purpose == "explore")

    def now(phase: Phase, end: int) -> str:
        screen = Console(file=io.StringIO(), force_terminal=True, width=140, color_system=None)
        watcher = Terminal(run, log[:end], tmp_path, screen)
        watcher.phase(phase)
        screen.print(watcher._draw())
        assert isinstance(screen.file, io.StringIO)
        return screen.file.getvalue()

    step = of(log, Begun)[0].step
    both = now(Phase("propose", step + 1), explored + 1)
    assert "now       asking the LLM for a proposal" in both
    assert "beside    Level 2: doubting what it saw" in both
    waits = now(Phase("wait", step), explored + 1)
    assert "now       waiting for Level 2: doubting what it saw" in waits
    assert "beside" not in waits
    assert "beside" not in now(Phase("propose", step + 1), place(log, Session) + 1)
