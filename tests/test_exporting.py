"""A run goes out as one file without secrets, comes in elsewhere, and decides the same there.

The runs are scripted: their LLM is a function, and says so by its name.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import leaky
from bilevel.assemble import conduct
from bilevel.cli.cli import app
from bilevel.errors import ConfigError, LLMRejected
from bilevel.exporting import secrets_of
from bilevel.llm import keys
from bilevel.model import Call, Message, OuterPlan, Record, Reply, Run, Session, Stop, Trial
from bilevel.planning import Settings, begin
from bilevel.protocols import Schema
from bilevel.workspace import Workspace
from comparable import write_task
from leaky import KEY
from patience import PATIENCE
from resumable import SCRIPT, TASK
from threelevels import BROKEN, PLAN, SOURCE, Nobody, ThreeLevels, held
from worlds import RUN, Scripted, says

needs_lock = pytest.mark.skipif(not held(), reason="this machine cannot lock a worker")
TESTS = Path(__file__).parent


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def bilevel(*words: str) -> Result:
    return CliRunner().invoke(app, words, env={"COLUMNS": "200"}, catch_exceptions=True)


def elsewhere(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in a process with an empty home and almost no environment."""
    home = tmp_path / "elsewhere"
    home.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "bilevel", *words],
        cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def made(task: str, evals: int = 8, plan: OuterPlan = PLAN) -> Run:
    """A finished scripted run in `state`."""
    workspace = Workspace(Path("state"))
    run = begin(workspace, task, Settings(evals=evals, llm="scripted", confirms=1, outer=plan))
    conduct(workspace, run, ThreeLevels(sources=(BROKEN, SOURCE)), Nobody())
    return run


def records(name: str = "toy-1", home: str = "state") -> list[Record]:
    return Workspace(Path(home)).records(name)


def content(path: str = "run.jsonl.gz") -> str:
    return gzip.decompress(Path(path).read_bytes()).decode()


def assert_nowhere(secret: str, text: str) -> None:
    parts = {secret[i : i + 8] for i in range(len(secret) - 7)}
    assert not [part for part in parts if part in text]


@needs_lock
def test_a_scripted_run_of_three_levels_replays_elsewhere_from_its_file(tmp_path: Path) -> None:
    made(write_task(tmp_path))
    assert any(isinstance(r, Session) and r.admitted for r in records())
    result = bilevel("export", "toy-1", "run.jsonl.gz", "--home", "state")
    assert result.exit_code == 0, result.output
    assert "LLM scripted" in result.output
    for words in (
        ("import", "../run.jsonl.gz"),
        ("replay", "toy-1", "--rerun-jobs"),
    ):
        done = elsewhere(tmp_path, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "scripted" in done.stdout or "all came out as recorded" in done.stdout
    assert records(home="elsewhere/.bilevel") == records()
    again = elsewhere(tmp_path, "export", "toy-1", "again.jsonl.gz")
    assert again.returncode == 0, again.stderr
    assert content("elsewhere/again.jsonl.gz").split("\n")[1:] == content().split("\n")[1:]


def test_secrets_in_errors_and_prompts_are_in_no_file_and_it_replays_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(leaky.write_task(tmp_path), 12, OuterPlan(steering=True, every=2))
    before = [str(r) for r in records() if KEY in str(r)]
    assert any("Trial(" in r for r in before), "the run has no error with the secret"
    for level in ("1", "1.5"):
        prompts = [r for r in before if r.startswith("Call(") and f"level='{level}'" in r]
        assert prompts, f"level {level} has no prompt with the secret"
    assert any(leaky.HOME in r for r in before)
    monkeypatch.setenv("DEPLOY_TOKEN", KEY)
    monkeypatch.setenv("HOME", leaky.HOME)
    result = bilevel("export", "toy-1", "run.jsonl.gz", "--home", "state")
    assert result.exit_code == 0, result.output
    assert "DEPLOY_TOKEN (" in result.output
    assert "the user's folder (" in result.output
    assert_nowhere(KEY, content())
    assert_nowhere("ottoline", content())
    done = elsewhere(tmp_path, "replay", "../run.jsonl.gz")
    assert done.returncode == 0, done.stdout + done.stderr
    assert content().count("*" * len(KEY)) > 2


class Refused(Scripted):
    """Answers twice, then refuses as a server that repeats the key it was sent."""

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        if len(self.asked) == 2:
            raise LLMRejected(f"401: incorrect API key provided: {KEY}, at http://u:pass1@host/v1")
        return super().complete(messages, schema, seed=seed, max_tokens=max_tokens)


@pytest.mark.parametrize("known", [True, False])
def test_the_error_of_a_server_that_repeats_a_key_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    if known:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
    workspace = Workspace(Path("state"))
    run = begin(workspace, write_task(tmp_path), Settings(evals=5, llm="scripted"))
    conduct(workspace, run, Refused(lambda m, n: says(RATE=0.1 + n / 50)), Nobody())
    (stop,) = [r for r in records() if isinstance(r, Stop)]
    assert "incorrect API key" in stop.detail
    assert (KEY in stop.detail) is not known
    assert "pass1" not in stop.detail
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert bilevel("export", "toy-1", "run.jsonl.gz", "--home", "state").exit_code == 0
    assert_nowhere(KEY, content())
    assert "pass1@" not in content()


FORMED = "sk-proj-A1b2C3d4E5f6G7h8I9j0"


def test_a_key_in_the_output_of_a_training_is_neither_logged_nor_shown_to_the_llm(
    tmp_path: Path,
) -> None:
    (tmp_path / "key.txt").write_text(FORMED)
    leak = 'if RATE > 0.6:\n    raise RuntimeError("denied: " + open("key.txt").read())\n'
    (tmp_path / "train.py").write_text(SCRIPT.replace('print("---")', leak + 'print("---")'))
    (tmp_path / "task.toml").write_text(TASK)
    llm = Scripted(lambda m, n: says(RATE=0.7 if n == 1 else 0.1 + n / 50))
    workspace = Workspace(Path("state"))
    run = begin(workspace, "task.toml", Settings(evals=2, llm="scripted", confirms=0))
    conduct(workspace, run, llm, Nobody())
    crash = next(r for r in records("tiny-1") if isinstance(r, Trial) and r.status == "crash")
    assert "denied: ****" in crash.error
    assert any("denied: ****" in m.content for messages, *_ in llm.asked for m in messages)
    assert FORMED not in str(records("tiny-1")) + str(llm.asked)
    assert bilevel("export", "tiny-1", "run.jsonl.gz", "--home", "state").exit_code == 0
    assert_nowhere(FORMED, content())


def test_an_import_into_a_store_that_has_another_run_of_that_name_is_refused(
    tmp_path: Path,
) -> None:
    made(write_task(tmp_path), 2, OuterPlan())
    assert bilevel("export", "toy-1", "run.jsonl.gz", "--home", "state").exit_code == 0
    same = bilevel("import", "run.jsonl.gz", "--home", "state")
    assert "was here already, the same" in same.output
    Path("state").rename("other")
    made(write_task(tmp_path), 3, OuterPlan())
    refused = bilevel("import", "run.jsonl.gz", "--home", "state")
    assert "with other content" in str(refused.exception)
    assert "--as NAME" in str(refused.exception)
    assert bilevel("import", "run.jsonl.gz", "--as", "claim", "--home", "state").exit_code == 0
    assert records("claim") == records("toy-1", "other")
    assert bilevel("replay", "claim", "--home", "state").exit_code == 0
    assert Workspace(Path("state")).store.next_id("toy") == "toy-2"


def test_a_changed_file_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    made(write_task(tmp_path), 2, OuterPlan())
    assert bilevel("export", "toy-1", "run.jsonl.gz", "--home", "state").exit_code == 0
    Path("run.jsonl.gz").write_bytes(gzip.compress(content().replace("0.5", "0.4").encode()))
    refused = bilevel("import", "run.jsonl.gz", "--home", "new")
    assert "changed or damaged" in str(refused.exception)
    assert Workspace(Path("new")).store.runs() == []


def test_a_file_may_not_write_outside_of_its_task(tmp_path: Path) -> None:
    made(write_task(tmp_path), 1, OuterPlan())
    assert bilevel("export", "toy-1", "run.jsonl.gz", "--home", "state").exit_code == 0
    from bilevel.archive import pack, read_archive

    archive = replace(read_archive(Path("run.jsonl.gz")), files={"../../evil.py": "1"})
    Path("evil.jsonl.gz").write_bytes(pack("toy-1", archive.documents(), "1"))
    refused = bilevel("import", "evil.jsonl.gz", "--home", "new")
    assert "outside of its task" in str(refused.exception)
    assert not list(tmp_path.rglob("evil.py"))


def test_a_file_has_no_leave_to_run_code_in_a_weak_sandbox(tmp_path: Path) -> None:
    workspace = Workspace(Path("state"))
    workspace.store.create(replace(RUN, sandbox="weak", allow_weak=True, created="2026-01-01"))
    assert bilevel("export", "toy-1", "run.jsonl.gz", "--home", "state").exit_code == 0
    assert bilevel("import", "run.jsonl.gz", "--home", "new").exit_code == 0
    brought = Workspace(Path("new")).store.run("toy-1")
    assert (brought.sandbox, brought.allow_weak) == ("weak", False)  # what it was, and no leave
    again = bilevel("import", "run.jsonl.gz", "--home", "state")
    assert "already" in again.output


def test_a_task_that_has_changed_is_left_out_and_that_is_said(tmp_path: Path) -> None:
    made(write_task(tmp_path), 1, OuterPlan())
    text = Path("task.toml").read_text()
    Path("task.toml").write_text(text.replace("Make the loss small.", "Make it small."))
    result = bilevel("export", "toy-1", "run.jsonl.gz", "--home", "state")
    assert result.exit_code == 0
    assert "task.toml has changed since the run began" in result.output
    assert '"file"' not in content()


def test_a_bare_script_goes_with_its_run_and_is_run_again_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "task.toml").write_text(TASK)
    workspace = Workspace(Path("state"))
    llm = Scripted(lambda m, n: says(RATE=0.1 + n / 50))
    run = begin(workspace, "train.py", Settings(evals=1, llm="scripted", confirms=0))
    conduct(workspace, run, llm, Nobody())
    assert bilevel("export", "tiny-1", "run.jsonl.gz", "--home", "state").exit_code == 0
    files = {x["file"]: x["text"] for x in map(json.loads, content().splitlines()) if "file" in x}
    assert files == {"task.toml": TASK, "train.py": SCRIPT}
    assert elsewhere(tmp_path, "import", "../run.jsonl.gz").returncode == 0
    done = elsewhere(tmp_path, "replay", "tiny-1", "--rerun-jobs")
    assert "all 3 evaluations came out as recorded" in done.stdout, done.stdout + done.stderr


def test_the_file_must_have_the_name_by_which_it_is_known(tmp_path: Path) -> None:
    made(write_task(tmp_path), 1, OuterPlan())
    result = bilevel("export", "toy-1", "run.zip", "--home", "state")
    assert isinstance(result.exception, ConfigError)
    assert "ends in .jsonl.gz, or .jsonl.xz for a smaller one" in str(result.exception)


def test_keys_of_the_runs_models_are_looked_up_in_the_keyring_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keys, "from_keyring", {"ANTHROPIC_API_KEY": KEY}.get)
    run = replace(RUN, llm="embedded", llm_outer="anthropic/x")
    assert secrets_of(run, {"A_TOKEN": "12345678"}) == {
        "A_TOKEN": "12345678",
        "ANTHROPIC_API_KEY": KEY,
    }
    assert secrets_of(RUN, {}) == {}


def test_a_replay_over_a_tape_makes_the_same_decisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(write_task(tmp_path), 4, OuterPlan())
    monkeypatch.setattr("socket.socket.connect", _no_network)
    plain = ("run", "task.toml", "--evals", "4", "--confirms", "1", "--levels", "1")
    for tape in ("toy-1", "run.jsonl.gz"):
        bilevel("export", "toy-1", "run.jsonl.gz", "--home", "state")
        result = bilevel(*plain, "--replay", tape, "--home", "state")
        assert result.exit_code == 0, result.output
        assert "no model is asked" in result.output
        assert "(4 from the tape of toy-1, 0 from the LLM)" in result.output.replace("\n", " ")
    first, again = (
        [replace(r, seconds=0.0) for r in records(name) if isinstance(r, Trial)]
        for name in ("toy-1", "toy-3")
    )
    assert first == again
    assert {r.reply.taken for r in records("toy-3") if isinstance(r, Call)} == {"toy-1"}


def _no_network(*_: object) -> None:
    raise AssertionError("the network was used")


def test_a_request_that_the_tape_lacks_ends_the_run_with_the_difference(tmp_path: Path) -> None:
    made(write_task(tmp_path), 2, OuterPlan())
    text = Path("task.toml").read_text().replace("Make the loss small.", "Make it tiny.")
    Path("task.toml").write_text(text)
    words = ("run", "task.toml", "--evals", "2", "--levels", "1", "--replay", "toy-1")
    result = bilevel(*words, "--home", "state")
    assert result.exit_code == 3
    (stop,) = [r for r in records("toy-2") if isinstance(r, Stop)]
    assert "recorded: Make the loss small.\nnow:      Make it tiny." in stop.detail
    assert "other settings than toy-1: evals" not in stop.detail
    assert "the task's brief" in stop.detail


def test_mixed_asks_the_llm_for_the_rest_and_the_summary_says_how_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(write_task(tmp_path), 3, OuterPlan())
    live = ThreeLevels()
    monkeypatch.setattr("bilevel.cli.running.connect", lambda spec, **_: live)
    plain = ("run", "task.toml", "--evals", "5", "--confirms", "1", "--levels", "1", "--mixed")
    result = bilevel(*plain, "--replay", "toy-1", "--home", "state")
    assert result.exit_code == 0, result.output
    assert "the LLM answers what it does not hold" in result.output
    taken = [r.reply.taken for r in records("toy-2") if isinstance(r, Call)]
    assert len(live.asked) == taken.count("") > 0
    assert taken.count("toy-1") > 0
    said = f"({taken.count('toy-1')} from the tape of toy-1, {taken.count('')} from the LLM)"
    assert said in result.output.replace("\n", " ")


def test_an_llm_that_is_not_the_tapes_is_refused_before_anything_runs(tmp_path: Path) -> None:
    made(write_task(tmp_path), 1, OuterPlan())
    words = ("run", "task.toml", "--replay", "toy-1", "--llm", "x@http://y", "--home", "state")
    result = bilevel(*words)
    assert "answers for no other" in str(result.exception)
    assert "--replay RUN" in str(bilevel("run", "task.toml", "--mixed").exception)
    assert [r.id for r in Workspace(Path("state")).store.runs()] == ["toy-1"]
