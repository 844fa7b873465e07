"""Agents as the LLM, driven through stand-ins for their programs."""

import ctypes
import json
import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from stand_ins import calls, claude_says, codex_says, path_with, stand_in

from bilevel.budget.budget import Budget
from bilevel.errors import ConfigError, ContextTooLong, LLMError, LLMRejected, LLMUnavailable
from bilevel.llm.agents import AgentLLM, agent
from bilevel.llm.asking import bare, checked, example, misfit
from bilevel.llm.connect import connect
from bilevel.model import UNUSABLE, Ask, Call, Message, Record, Reply
from bilevel.tape.tape import Tape
from patience import PATIENCE
from worlds import RUN

ASK = [Message("system", "You tune."), Message("user", "Which rate?")]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"rate": {"type": "number", "minimum": 0, "maximum": 1}},
    "required": ["rate"],
    "additionalProperties": False,
}
GOOD = '{"rate": 0.5}'


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose executables are found first."""
    folder = tmp_path / "bin"
    monkeypatch.setenv("PATH", path_with(folder))
    monkeypatch.setenv("STAND_IN_KEY", "the user's own")
    return folder


def ask(spec: str, timeout: float | None = None) -> Reply:
    return connect(spec, timeout=timeout).complete(ASK, SCHEMA, seed=1, max_tokens=99)


def test_claude_code_gets_the_prompt_by_stdin_and_says_tokens_and_cost(programs: Path) -> None:
    stand_in(programs, "claude", claude_says(GOOD))
    reply = ask("claude-code/sonnet")
    assert (reply.text, reply.model, reply.finish) == (GOOD, "claude-x", "stop")
    assert (reply.tokens_in, reply.tokens_out, reply.tokens_cached) == (15648, 6, 15635)
    assert reply.cost == 0.0079825
    assert reply.counted
    (call,) = calls(programs, "claude")
    argv = call["argv"]
    assert isinstance(argv, list)
    assert argv[argv.index("--output-format") + 1] == "json"
    assert argv[argv.index("--tools") + 1] == ""
    assert json.loads(argv[argv.index("--json-schema") + 1]) == SCHEMA
    assert argv[-2:] == ["--model", "sonnet"]
    prompt = str(call["prompt"])
    assert prompt.index("You tune.") < prompt.index("Which rate?")
    assert "maximum" not in prompt
    assert "Which rate?" not in " ".join(argv)


def test_it_runs_in_an_empty_folder_with_the_users_environment(programs: Path) -> None:
    stand_in(programs, "claude", claude_says(GOOD))
    ask("claude-code")
    (call,) = calls(programs, "claude")
    assert call["files"] == []
    assert call["key"] == "the user's own"
    assert not Path(str(call["cwd"])).exists()


def test_codex_says_its_tokens_and_no_cost(programs: Path) -> None:
    stand_in(programs, "codex", codex_says(GOOD))
    reply = ask("codex")
    assert (reply.text, reply.model, reply.reasoning) == (GOOD, "codex", "Hm.")
    assert (reply.tokens_in, reply.tokens_out, reply.tokens_cached) == (210, 7, 69)
    assert reply.cost is None
    (call,) = calls(programs, "codex")
    assert call["argv"] == [
        "exec", "--output-schema", "../schema.json", "--json", "--skip-git-repo-check",
        "--ephemeral", "--sandbox", "read-only", "-",
    ]  # fmt: skip
    assert json.loads(str(call["schema"])) == SCHEMA
    assert reply.form == "narrow_schema"


def test_claudes_answer_under_a_schema_is_taken_from_its_own_field(programs: Path) -> None:
    stand_in(programs, "claude", claude_says("Done.", structured_output={"rate": 0.5}))
    reply = ask("claude-code")
    assert (reply.text, reply.finish, reply.form) == (GOOD, "stop", "narrow_schema")


@pytest.mark.parametrize(
    ("name", "spec", "said"),
    [
        ("claude", "claude-code", "error: unknown option '--json-schema'"),
        ("codex", "codex", "error: unexpected argument '--output-schema' found"),
        ("codex", "codex", "Invalid schema for response_format 'codex_output_schema'"),
    ],
)
def test_where_the_flag_is_refused_the_schema_is_told(
    programs: Path, name: str, spec: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = claude_says(GOOD) if name == "claude" else codex_says(GOOD)
    body = "if any('-schema' in word for word in sys.argv):\n    sys.exit(said[0])\nprint(said[1])"
    stand_in(programs, name, said, good, body=body)
    llm = connect(spec)
    replies = [llm.complete(ASK, SCHEMA, seed=s, max_tokens=99) for s in (1, 2)]
    assert [(r.text, r.form) for r in replies] == [(GOOD, "text")] * 2
    held = ["-schema" in str(call["argv"]) for call in calls(programs, name)]
    assert held == [True, False, False], "it is tried once"
    (warning,) = caplog.messages
    assert said in warning
    assert '"maximum": 1' in str(calls(programs, name)[-1]["prompt"])


def test_a_schema_too_long_for_a_command_line_is_told(programs: Path) -> None:
    stand_in(programs, "claude", claude_says(GOOD))
    rate = {**SCHEMA["properties"]["rate"], "description": "x" * 100_000}
    reply = connect("claude-code").complete(
        ASK, {**SCHEMA, "properties": {"rate": rate}}, seed=1, max_tokens=99
    )
    assert (reply.text, reply.form) == (GOOD, "text")


def test_a_command_is_told_the_schema(programs: Path) -> None:
    stand_in(programs, "mine", GOOD)
    assert ask("command:mine").form == "text"
    assert '"maximum": 1' in str(calls(programs, "mine")[0]["prompt"])


def test_of_a_command_tokens_and_cost_are_unknown(programs: Path) -> None:
    stand_in(programs, "mine", f"Sure:\n```json\n{GOOD}\n```\n")
    reply = ask('command:mine --deep "two words"')
    assert reply.text == GOOD
    assert reply.cost is None
    assert not reply.counted
    (call,) = calls(programs, "mine")
    assert call["argv"] == ["--deep", "two words"]


def test_a_bad_answer_goes_back_once_with_the_reason(programs: Path) -> None:
    stand_in(programs, "claude", claude_says('{"rate": 7}'), claude_says(GOOD))
    reply = ask("claude-code")
    assert (reply.text, reply.attempts, reply.cost) == (GOOD, 2, 2 * 0.0079825)
    again = str(calls(programs, "claude")[1]["prompt"])
    assert '{"rate": 7}' in again
    assert "['rate']: 7 is greater than the maximum of 1" in again


def test_one_that_stays_bad_is_handed_on_and_says_so(programs: Path) -> None:
    stand_in(programs, "claude", claude_says("no idea"))
    reply = ask("claude-code")
    assert (reply.text, reply.finish, reply.attempts) == ("no idea", "schema", 2)


def test_what_was_paid_is_not_lost_when_the_repair_fails(programs: Path) -> None:
    fails = "print(said[0], end='')\nsys.exit(3 if calls else 0)"
    stand_in(programs, "claude", claude_says("no idea"), body=fails)
    assert ask("claude-code").text == "no idea"


def test_a_failure_that_was_paid_for_comes_back_with_what_it_took(programs: Path) -> None:
    stand_in(programs, "claude", claude_says("API Error: overloaded", is_error=True))
    reply = ask("claude-code")
    assert reply.finish == UNUSABLE
    assert "claude-code failed (exit status 0) and said: API Error: overloaded" in reply.text
    assert (reply.tokens_out, reply.cost, reply.attempts) == (6, 0.0079825, 1)
    turns = json.loads(claude_says("", subtype="error_max_turns", is_error=True))
    stand_in(programs, "claude", json.dumps({k: v for k, v in turns.items() if k != "result"}))
    reply = ask("claude-code")
    assert (reply.finish, reply.cost) == (UNUSABLE, 0.0079825)
    assert "no result (error_max_turns)" in reply.text


def test_a_repair_that_failed_and_was_paid_for_is_counted(programs: Path) -> None:
    stand_in(programs, "claude", claude_says("no idea"), claude_says("API Error", is_error=True))
    reply = ask("claude-code")
    assert (reply.text, reply.finish, reply.attempts) == ("no idea", "schema", 2)
    assert (reply.tokens_out, reply.cost) == (12, pytest.approx(2 * 0.0079825))


def test_a_prompt_that_is_too_long_for_an_agent_is_said_to_be(programs: Path) -> None:
    stand_in(programs, "claude", claude_says("Prompt is too long", is_error=True))
    with pytest.raises(ContextTooLong, match="Prompt is too long; use a model with a longer"):
        ask("claude-code")


@pytest.mark.parametrize(
    ("name", "body", "remedy"),
    [
        (
            "claude",
            "print(said[0]); sys.exit(1)",
            r"Not logged in.*run `claude`, then /login",
        ),
        (
            "codex",
            'print(\'{"type":"turn.failed","error":{"message":"401 Unauthorized"}}\'); sys.exit(1)',
            r"401 Unauthorized; log in \(codex login\)",
        ),
    ],
)
def test_not_logged_in_is_refused_with_the_remedy(
    programs: Path, name: str, body: str, remedy: str
) -> None:
    said = claude_says("Not logged in · Please run /login", is_error=True)
    stand_in(programs, name, said, body=body)
    with pytest.raises(LLMRejected, match=remedy):
        ask("claude-code" if name == "claude" else name)


@pytest.mark.parametrize(
    ("spec", "remedy"),
    [
        ("claude-code", "npm install -g @anthropic-ai/claude-code"),
        ("codex/gpt-x", "npm install -g @openai/codex"),
        ("command:no-such-program -x", "give its whole path"),
        ("command:", "names no program"),
        ('command:"open', "quote it as a shell would"),
    ],
)
def test_a_program_that_is_not_there_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spec: str, remedy: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=remedy):
        connect(spec)


def test_a_program_that_has_gone_since_is_an_llm_error(programs: Path) -> None:
    path = stand_in(programs, "claude", claude_says(GOOD))
    llm = connect("claude-code")
    path.unlink()
    with pytest.raises(LLMRejected, match="install Claude Code"):
        llm.complete(ASK, SCHEMA, seed=1, max_tokens=99)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"type": "result", "subtype": "error_max_turns", "is_error": true}',
        claude_says("x").encode("utf-16").decode("latin-1").replace("\0", ""),
    ],
)
def test_output_that_is_no_answer_is_an_error_with_what_was_said(programs: Path, said: str) -> None:
    stand_in(programs, "claude", said)
    with pytest.raises(LLMUnavailable, match="claude-code failed"):
        ask("claude-code")


def test_every_event_may_come_at_once(programs: Path) -> None:
    events = f'[{{"type": "system", "subtype": "init"}}, {claude_says(GOOD)}]'
    stand_in(programs, "claude", events)
    assert ask("claude-code").text == GOOD


def test_a_failing_command_says_its_last_words(programs: Path) -> None:
    stand_in(programs, "mine", body="print('no fuel left', file=sys.stderr); sys.exit(4)")
    with pytest.raises(LLMUnavailable, match=r"exit status 4\) and said: no fuel left"):
        ask("command:mine")


# The grandchild keeps stdout open: a reader of a pipe would wait for it.
SLEEPS = """\
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(__file__ + ".pids").write_text(f"{os.getpid()} {child.pid}")
"""


def _end(path: Path) -> bool:
    """Whether the stand-in and its child are gone, or soon are: a signal takes its time."""
    pids = [int(p) for p in Path(f"{path}.pids").read_text().split()]
    there = [psutil.Process(p) for p in pids if psutil.pid_exists(p)]
    _, alive = psutil.wait_procs(there, timeout=60)
    return all(p.status() == psutil.STATUS_ZOMBIE for p in alive)


def test_when_its_time_is_up_the_whole_group_is_killed(programs: Path) -> None:
    path = stand_in(programs, "mine", body=f"{SLEEPS}time.sleep(600)")
    start = time.monotonic()
    with pytest.raises(LLMUnavailable, match=r"no answer in 6 s and was killed"):
        ask("command:mine", timeout=6)
    assert time.monotonic() - start < PATIENCE
    assert _end(path)


def test_what_an_agent_leaves_running_is_killed_when_it_ends(programs: Path) -> None:
    path = stand_in(programs, "mine", GOOD, body=f"{SLEEPS}print(said[0])")
    assert ask("command:mine").text == GOOD
    assert _end(path)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only its group is killed")
def test_a_child_that_left_its_group_is_killed_too(programs: Path) -> None:
    path = programs / "mine"
    programs.mkdir()
    path.write_text(f"#!/bin/sh\nsetsid sleep 47 &\necho $$ $! > $0.pids\nsleep 1\necho '{GOOD}'\n")
    path.chmod(0o755)
    assert ask("command:mine").text == GOOD
    assert not any(map(psutil.pid_exists, map(int, Path(f"{path}.pids").read_text().split())))


def test_ctrl_c_that_is_passed_to_a_thread_ends_the_agent(programs: Path) -> None:
    path = stand_in(programs, "mine", body=f"{SLEEPS}time.sleep(600)")
    ended = threading.Event()

    def wait() -> None:
        with suppress(KeyboardInterrupt):
            ask("command:mine")
        ended.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    while not Path(f"{path}.pids").exists():
        time.sleep(0.05)
    raised = ctypes.py_object(KeyboardInterrupt)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), raised)
    assert ended.wait(PATIENCE)
    assert _end(path)


def repaired(limits: dict[str, float], log: list[Record]) -> Reply:
    """A call of a run with these limits to a stand-in; `log` takes its records."""
    budget = Budget(replace(RUN, limits=limits), log)

    def append(record: Record) -> None:
        log.append(record)
        budget.add(record)

    tape = Tape("claude-code", connect("claude-code", timeout=PATIENCE), (), append, budget=budget)
    return tape.complete(ASK, SCHEMA, seed=1, max_tokens=99, step=0, level="1", purpose="propose")


def test_a_repair_is_reserved_and_counts_by_what_it_told(programs: Path) -> None:
    limits = {"tokens": 100_000.0, "calls": 1.0}
    stand_in(programs, "claude", claude_says("no"), claude_says(GOOD))
    log: list[Record] = []
    reply = repaired(limits, log)
    assert (reply.text, reply.attempts) == (GOOD, 2)
    first, second = (r for r in log if isinstance(r, Ask))
    assert (first.more, second.more) == (False, True)
    assert second.tokens > first.tokens
    spent = Budget(replace(RUN, limits=limits), log).spent()
    assert (spent.calls, spent.tokens) == (1, reply.tokens_in + reply.tokens_out)
    killed = Budget(replace(RUN, limits=limits), log[:-1]).spent()
    assert (killed.calls, killed.tokens) == (1, first.tokens + second.tokens)


def test_a_repair_that_fails_counts_at_its_most(programs: Path) -> None:
    limits = {"tokens": 100_000.0}
    body = "print(said[0]) if calls == 0 else sys.exit('gone')"
    stand_in(programs, "claude", claude_says("no"), body=body)
    log: list[Record] = []
    reply = repaired(limits, log)
    assert (reply.finish, reply.attempts) == ("schema", 1)
    more = next(r for r in log if isinstance(r, Ask) and r.more)
    spent = Budget(replace(RUN, limits=limits), log).spent()
    assert spent.tokens == reply.tokens_in + reply.tokens_out + more.tokens


def test_a_repair_for_which_a_limit_has_no_room_is_not_made(programs: Path) -> None:
    stand_in(programs, "claude", claude_says("no"), claude_says(GOOD))
    log: list[Record] = []
    assert repaired({"tokens": 400.0}, log).finish == "schema"
    assert len(calls(programs, "claude")) == 1
    assert [type(r) for r in log] == [Ask, Call]


def test_a_program_that_never_reads_its_prompt_does_not_block(programs: Path) -> None:
    path = programs / "deaf"
    programs.mkdir()
    path.write_text(f"#!/bin/sh\necho '{GOOD}'\n")
    path.chmod(0o755)
    long = [Message("user", "x" * 2**20)]
    reply = AgentLLM(agent("command:deaf")).complete(long, SCHEMA, seed=1, max_tokens=9)
    assert reply.text == GOOD


def test_only_llm_errors_leave_complete(programs: Path) -> None:
    path = programs / "broken"
    programs.mkdir()
    path.write_text("#!/no/such/interpreter\n")
    path.chmod(0o755)
    with pytest.raises(LLMError, match="cannot be started"):
        ask("command:broken")
    assert os.access(path, os.X_OK)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (GOOD, GOOD),
        (f"```json\n{GOOD}\n```", GOOD),
        (f"Here it is: {GOOD} as you wished.", GOOD),
        (f"```\nnot this\n```\n```json\n{GOOD}\n```", GOOD),
        ("no brace", "no brace"),
        ("an open { brace", "an open { brace"),
    ],
)
def test_what_stands_around_an_answer_is_left_out(text: str, found: str) -> None:
    assert bare(text, SCHEMA) == found


def test_code_is_left_as_it_came() -> None:
    assert bare(" x = {1: 2}\n", None) == "x = {1: 2}"


def test_an_example_has_the_form_that_is_asked_for() -> None:
    choice = {"anyOf": [{"const": 3}, {"type": "string"}]}
    schema = {
        "type": "object",
        "properties": {
            "list": {"type": "array", "minItems": 2, "items": choice},
            "word": {"enum": ["a", "b"]},
            "rate": {"type": "number", "minimum": 0.5},
        },
        "required": ["list", "word", "rate"],
    }
    assert example(schema) == {"list": [3, 3], "word": "a", "rate": 0.5}
    assert misfit(json.dumps(example(schema)), schema) == ""


def test_what_is_allowed_in_its_place_is_said() -> None:
    kinds = [{"type": "object", "properties": {"name": {"const": n}}} for n in ("LR", "BATCH")]
    schema = {"type": "array", "items": {"anyOf": kinds}}
    said = misfit('[{"name": "DEPTH"}]', schema)
    assert said == "[0]['name']: 'DEPTH' is none of ['LR', 'BATCH']"
    assert misfit("[]", schema) == ""


def test_of_alternatives_the_one_that_was_meant_says_what_is_wrong() -> None:
    kinds = [
        {"type": "object", "properties": {"name": {"const": n}, "value": {"maximum": most}}}
        for n, most in (("LR", 1), ("DROP", 2))
    ]
    schema = {"type": "array", "items": {"anyOf": kinds}}
    said = misfit('[{"name": "DROP", "value": 7}]', schema)
    assert said == "[0]['value']: 7 is greater than the maximum of 2"


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 10_000])
def test_json_that_nobody_can_read_is_said_to_be_so(text: str) -> None:
    assert "cannot be read" in checked(text, SCHEMA)[1]


def test_a_command_that_misses_its_file_is_told_of_the_empty_folder() -> None:
    with pytest.raises(LLMUnavailable, match="runs in an empty folder: give whole paths"):
        ask(f"command:{sys.executable} ans.py")
