"""Requests and answers as files, and on a terminal."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from test_agents import GOOD, SCHEMA

from bilevel.assemble import conduct, replayed
from bilevel.errors import ConfigError, LLMUnavailable
from bilevel.llm.connect import connect
from bilevel.llm.mailbox import MailboxLLM
from bilevel.llm.terminal import TerminalLLM
from bilevel.model import Call, Message, Stop, Trial
from bilevel.planning import Settings, begin
from bilevel.workspace import Workspace
from patience import PATIENCE
from resumable import SCRIPT, TASK, Silent

ASK = [Message("system", "You tune."), Message("user", "Which rate?")]
TESTS = Path(__file__).parent


def put(folder: Path, text: str, number: int = 1) -> None:
    half = folder / "half"
    half.write_text(text)
    half.rename(folder / f"{number:04d}.answer.txt")


def read(folder: Path, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / name).read_text())
    return found


def test_a_request_is_a_file_for_programs_and_one_for_people(tmp_path: Path) -> None:
    llm = connect(f"mailbox:{tmp_path}/box", timeout=0.01)
    with pytest.raises(LLMUnavailable, match=r"0001.answer.txt after 0.01 s; answer it"):
        llm.complete(ASK, SCHEMA, seed=1, max_tokens=9)
    box = tmp_path / "box"
    request = read(box, "0001.request.json")
    assert request["messages"] == [
        {"role": "system", "content": "You tune."},
        {"role": "user", "content": "Which rate?"},
    ]
    assert (request["schema"], request["answer"]) == (SCHEMA, "0001.answer.txt")
    page = (box / "0001.request.md").read_text()
    assert "Which rate?" in page
    assert 'Of this form: {"rate": 0}' in page
    assert "rename to 0001.answer.txt" in page
    assert "rename" in (box / "README.md").read_text()


def test_a_bad_answer_is_set_aside_and_its_author_told(tmp_path: Path) -> None:
    llm = MailboxLLM(tmp_path, timeout=0.5)
    put(tmp_path, '{"rate": 7}')
    with pytest.raises(LLMUnavailable):
        llm.complete(ASK, SCHEMA, seed=1, max_tokens=9)
    assert read(tmp_path, "0001.reply.json") == {
        "accepted": False,
        "problem": "['rate']: 7 is greater than the maximum of 1",
    }
    assert (tmp_path / "0001.refused-1.txt").read_text() == '{"rate": 7}'
    put(tmp_path, GOOD)
    reply = llm.complete(ASK, SCHEMA, seed=1, max_tokens=9)
    assert (reply.text, reply.counted, reply.cost) == (GOOD, False, None)
    assert read(tmp_path, "0001.reply.json") == {"accepted": True}
    assert not (tmp_path / "0002.request.json").exists()


def test_what_is_asked_again_after_it_was_answered_is_a_new_request(tmp_path: Path) -> None:
    llm = MailboxLLM(tmp_path, timeout=0.01)
    put(tmp_path, GOOD)
    assert llm.complete(ASK, SCHEMA, seed=1, max_tokens=9).text == GOOD
    with pytest.raises(LLMUnavailable, match=r"0002"):
        llm.complete(ASK, SCHEMA, seed=1, max_tokens=9)


def test_without_a_limit_it_waits(tmp_path: Path) -> None:
    llm = MailboxLLM(tmp_path)
    threading.Timer(0.5, put, (tmp_path, GOOD)).start()
    start = time.monotonic()
    assert llm.complete(ASK, SCHEMA, seed=1, max_tokens=9).seconds >= 0.3
    assert time.monotonic() - start >= 0.3


def test_plain_text_is_taken_as_it_is(tmp_path: Path) -> None:
    put(tmp_path, "class A:\n    x = {}\n")
    reply = MailboxLLM(tmp_path).complete(ASK, seed=1, max_tokens=9)
    assert reply.text == "class A:\n    x = {}"


@pytest.mark.parametrize("spec", ["mailbox:", "mailbox:/dev/null/box"])
def test_a_folder_that_cannot_be_is_named(spec: str) -> None:
    with pytest.raises(ConfigError, match="folder"):
        connect(spec)


def test_another_process_answers_a_whole_run(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "task.toml").write_text(TASK)
    box = tmp_path / "box"
    answerer = subprocess.Popen(
        [sys.executable, str(TESTS / "answerer.py"), str(box), "2"],
        stdout=subprocess.PIPE,
        text=True,
    )
    workspace = Workspace(tmp_path / "state")
    settings = Settings(evals=2, llm=f"mailbox:{box}", baselines=2, confirms=0)
    run = begin(workspace, str(tmp_path / "task.toml"), settings)
    stop = conduct(workspace, run, connect(run.llm), Silent())
    said, _ = answerer.communicate(timeout=PATIENCE)
    assert stop.reason == "done"
    assert said.count("the answer is not JSON") == 2
    records = workspace.records(run.id)
    tried = [r.values["RATE"] for r in records if isinstance(r, Trial) and r.role == "search"]
    assert tried == [0.4, 0.3]
    assert [r.reply.attempts for r in records if isinstance(r, Call)] == [2, 2]
    assert replayed(run, records).difference is None


RUN = "from bilevel.cli.cli import main; main()"


def test_ctrl_c_leaves_a_run_that_takes_up_the_open_request(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "task.toml").write_text(TASK)
    box, home = tmp_path / "box", tmp_path / "state"
    words = ["run", str(tmp_path / "task.toml"), "--evals", "1", "--llm", f"mailbox:{box}"]
    words += ["--levels", "1", "--confirms", "0", "--home", str(home)]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "COLUMNS": "200"},
    )
    end = time.monotonic() + PATIENCE
    while not (box / "0001.request.json").exists():
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()[0].decode()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=PATIENCE)[0].decode()
    assert process.returncode == 130, said
    assert "answers are awaited in" in said
    workspace = Workspace(home)
    run = workspace.latest()
    assert f"bilevel resume {run.id}" in said
    change = {"changes": [{"name": "RATE", "value": 0.3}], "hypothesis": "lower is better"}
    put(box, json.dumps(change))  # while nothing runs
    assert conduct(workspace, run, connect(run.llm), Silent()).reason == "done"
    stops = [r.reason for r in workspace.records(run.id) if isinstance(r, Stop)]
    assert stops == ["interrupted", "done"]
    assert not (box / "0002.request.json").exists()


def asked(typed: str, *, code: bool = False) -> tuple[str, str]:
    """What a person's typing comes to, and what the terminal showed."""
    screen = io.StringIO()
    llm = TerminalLLM(io.StringIO(typed), screen)
    reply = llm.complete(ASK, None if code else SCHEMA, seed=1, max_tokens=9)
    return reply.text, screen.getvalue()


def test_a_person_answers_on_the_terminal() -> None:
    text, shown = asked(f"{GOOD}\n")
    assert text == GOOD
    assert "Which rate?" in shown
    assert 'Of this form: {"rate": 0}' in shown


def test_an_answer_of_several_lines_ends_by_itself_or_by_a_dot() -> None:
    assert json.loads(asked('{"rate":\n0.5}\n')[0]) == {"rate": 0.5}
    assert asked("class A:\n\n    pass\n.\n", code=True)[0] == "class A:\n\n    pass"


def test_a_bad_answer_is_asked_for_again() -> None:
    text, shown = asked(f"higher!\n.\n{GOOD}\n")
    assert text == GOOD
    assert "This cannot be used: the answer is not JSON" in shown


def test_the_end_of_input_is_an_error_with_the_remedy() -> None:
    with pytest.raises(LLMUnavailable, match="resume the run"):
        asked("")


def test_what_was_shown_before_is_left_out() -> None:
    screen = io.StringIO()
    llm = TerminalLLM(io.StringIO(f"{GOOD}\n{GOOD}\n"), screen)
    llm.complete(ASK, SCHEMA, seed=1, max_tokens=9)
    screen.truncate(0)
    llm.complete([*ASK, Message("user", "And now?")], SCHEMA, seed=1, max_tokens=9)
    assert "lines as before" in screen.getvalue()
    assert "You tune." not in screen.getvalue()
    assert "And now?" in screen.getvalue()
