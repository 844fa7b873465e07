"""Whole runs against a server that fails: they go on or pause, and lose nothing."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from adapters import ADAPTERS, Adapter
from fake_openai import Answer, FakeOpenAI, Request, refusal, serving
from typer.testing import CliRunner, Result

from bilevel.cli.cli import app
from bilevel.cli.run import PAUSED
from bilevel.llm import patience
from bilevel.model import TOO_LONG, Call, Record, Stop, Trial
from bilevel.workspace import Workspace
from comparable import write_task

SECRET = "sk-planted-0123456789"

pytestmark = pytest.mark.parametrize("adapter", ADAPTERS)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with a task, and no waits; SIGTERM as it was, when the test ends."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(patience, "pause", lambda error, failed: 0.0)
    write_task(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with serving() as server:
        yield server


def proposals(adapter: Adapter) -> Callable[[Request], Answer]:
    """Answers to each prompt with a rate of its own: what the prompt is long decides."""

    def answer(request: Request) -> Answer:
        rate = round(0.02 + len(str(request.body["messages"])) % 83 / 100, 2)
        changes = [{"name": "RATE", "value": rate}]
        return adapter.says(json.dumps({"changes": changes, "hypothesis": "It is better so."}))

    return answer


def bilevel(*words: str, adapter: Adapter, fake: FakeOpenAI) -> Result:
    """The command line, the provider of the adapter being on this machine."""
    name = "openai" if adapter.path.endswith("completions") else "anthropic"
    env = {
        "COLUMNS": "200",
        f"{name.upper()}_API_KEY": SECRET,
        f"{name.upper()}_BASE_URL": fake.url if name == "openai" else fake.root,
    }
    if words[0] == "run":
        words = ("run", "task.toml", "--levels", "1", "--llm", f"{name}/m",
                 "--confirms", "1", "--evals", "4", *words[1:])  # fmt: skip
    return CliRunner().invoke(app, words, env=env)


def records() -> list[Record]:
    return Workspace(Path(".bilevel")).records("toy-1")


def trials() -> list[Trial]:
    return [r for r in records() if isinstance(r, Trial)]


def end() -> Stop:
    return [r for r in records() if isinstance(r, Stop)][-1]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(refusal(500, "oops"), id="500"),
        pytest.param(refusal(429, "slow", retry_after="3"), id="429"),
        pytest.param(Answer(b"", reset=True), id="reset"),
        pytest.param(Answer(b'{"choices', short=9), id="cut"),
        pytest.param(Answer(b"<html>", kind="text/html"), id="HTML"),
        pytest.param(Answer(b" " * (9 * 2**20)), id="9 MB"),
    ],
)
def test_a_passing_fault_leaves_no_trace_but_the_attempts(
    adapter: Adapter, fake: FakeOpenAI, fault: Answer
) -> None:
    good = proposals(adapter)
    fake.answers = [good, fault, fault, good]
    result = bilevel("run", adapter=adapter, fake=fake)
    assert result.exit_code == 0, result.output
    assert end().reason == "done"
    attempts = [r.reply.attempts for r in records() if isinstance(r, Call)]
    assert attempts[:3] == [1, 3, 1]


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        pytest.param(refusal(503, "down for repairs"), "503: down for repairs", id="503"),
        pytest.param(refusal(401, "who are you"), "API_KEY", id="401"),
        pytest.param(refusal(404, "no such model"), "check the model's name", id="404"),
        pytest.param(refusal(429, "limit of the day", retry_after="9000"), "resume it later",
                     id="429 for hours"),
        pytest.param(refusal(413, "too big"), "with a longer context", id="413"),
        pytest.param(Answer(b"", reset=True), "check that the server runs", id="reset"),
    ],
)  # fmt: skip
def test_a_lasting_fault_pauses_and_resume_goes_on_to_the_same_end(
    adapter: Adapter, fake: FakeOpenAI, fault: Answer, cause: str
) -> None:
    good = proposals(adapter)
    fake.answers = [good, good, fault]
    paused = bilevel("run", adapter=adapter, fake=fake)
    assert paused.exit_code == PAUSED, paused.output
    assert "resume toy-1" in paused.output
    assert (end().reason, cause in end().detail) == ("failed", True)
    assert cause in " ".join(paused.output.split())
    before = trials()
    assert len(before) == 4  # two baselines, and what the first two replies proposed

    fake.answers = [good]
    asked = len(fake.requests)
    gone_on = bilevel("resume", adapter=adapter, fake=fake)
    assert gone_on.exit_code == 0, gone_on.output
    assert end().reason == "done"
    assert trials()[:4] == before
    assert len([t for t in trials() if t.role == "search"]) == 4
    assert len({request.path for request in fake.requests}) == 1
    assert len(fake.requests) > asked
    said = paused.output + gone_on.output + repr(records())
    assert SECRET not in said


def test_a_schema_that_only_words_can_give_still_leads_to_proposals(
    adapter: Adapter, fake: FakeOpenAI
) -> None:
    good = proposals(adapter)

    def words_only(request: Request) -> Answer:
        held = {"response_format", "tools", "output_config"} & request.body.keys()
        return refusal(400, "I know nothing of that") if held else good(request)

    fake.answers = [words_only]
    assert bilevel("run", adapter=adapter, fake=fake).exit_code == 0
    forms = [r.reply.form for r in records() if isinstance(r, Call)]
    assert forms
    assert set(forms) == {"text"}
    refused = [r for r in fake.requests if "response_format" in r.body or "tools" in r.body]
    assert len(refused) <= 3


def test_a_prompt_that_is_too_long_is_shortened_and_all_who_look_are_told(
    adapter: Adapter, fake: FakeOpenAI
) -> None:
    good = proposals(adapter)

    def narrow(request: Request) -> Answer:
        talk = str(request.body["messages"])
        if talk.count("\\n#") + talk.count("\\nrefused") > 6:
            return refusal(400, "This model's maximum context length is 700 tokens.")
        return good(request)

    fake.answers = [narrow]
    done = bilevel("run", "--evals", "9", adapter=adapter, fake=fake)
    assert done.exit_code == 0, done.output
    assert end().reason == "done"
    calls = [r for r in records() if isinstance(r, Call)]
    refused = [c for c in calls if c.reply.finish == TOO_LONG]
    assert refused
    assert all("maximum context length is 700 tokens" in c.reply.text for c in refused)
    first = next(c.cut for c in calls if c.cut)
    assert first.startswith("history cut to 4 of ")
    assert f"{first}: the prompt was too long for " in done.output
    shown = " ".join(bilevel("show", adapter=adapter, fake=fake).output.split())
    assert "refused as the prompt was too long for the model" in shown
    assert "shortened; the last: history cut to 4 of " in shown
    again = bilevel("replay", adapter=adapter, fake=fake)
    assert again.exit_code == 0, again.output
