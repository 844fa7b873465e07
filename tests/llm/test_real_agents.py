"""The agents' real command lines, where they are installed; a fake serves as their provider.

    npm install @anthropic-ai/claude-code @openai/codex    # and node_modules/.bin on the PATH

The fake is no model: it says what it was made to, in the form in which each agent asks for it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_openai import Answer, FakeOpenAI, Request, serving

import traces
from bilevel.errors import ConfigError
from bilevel.llm.agents import AgentLLM, agent
from bilevel.model import Message, Move, Reply
from bilevel.offers import schema

ASK = [Message("system", "You tune."), Message("user", "Which rate?")]
SAID = {"changes": [{"name": "WEIGHT_DECAY", "value": 0.5}], "hypothesis": "It may help."}
CODEX = """\
model = "gpt-5"
model_provider = "fake"
[model_providers.fake]
name = "fake"
base_url = "{url}"
wire_api = "responses"
env_key = "OPENAI_API_KEY"
"""


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    """The provider of both agents, whose settings and login lie in a folder of their own."""
    with serving() as fake:
        fake.answers = [_answer]
        (tmp_path / "config.toml").write_text(CODEX.format(url=fake.url))
        for name in ("HOME", "CODEX_HOME", "CLAUDE_CONFIG_DIR"):
            monkeypatch.setenv(name, str(tmp_path))
        for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
            monkeypatch.setenv(name, "a-key-for-tests")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", fake.root)
        monkeypatch.setenv("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        yield fake


def ask(spec: str, asked: dict[str, Any] | None) -> Reply:
    try:
        llm = AgentLLM(agent(spec), timeout=60)
    except ConfigError as error:
        pytest.skip(str(error))
    return llm.complete(ASK, asked, seed=1, max_tokens=99)


def offered() -> dict[str, Any]:
    """The schema of a proposal on the GPT task."""
    return schema(traces.view_of(traces.history()), Move())


@pytest.mark.parametrize("spec", ["claude-code/sonnet", "codex/gpt-5"])
def test_a_proposal_is_asked_for_under_its_schema(provider: FakeOpenAI, spec: str) -> None:
    reply = ask(spec, offered())
    assert (json.loads(reply.text), reply.finish) == (SAID, "stop")
    assert (reply.form, reply.attempts) == ("narrow_schema", 1)
    assert reply.tokens_in
    assert reply.tokens_out
    sent = json.dumps([request.body for request in provider.requests])
    assert "Which rate?" in sent
    assert all(name in sent for name in traces.GPT.names), "the schema came through"


@pytest.mark.parametrize("spec", ["claude-code", "codex"])
def test_without_a_schema_the_answer_is_text(provider: FakeOpenAI, spec: str) -> None:
    reply = ask(spec, None)
    assert (json.loads(reply.text), reply.form) == (SAID, "")


def _answer(request: Request) -> Answer:
    events = _anthropic if "/messages" in request.path else _openai
    made = events(request.body)
    text = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in made)
    return Answer(text.encode(), kind="text/event-stream")


def _anthropic(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Calls the tool that takes the answer, once; without one, the answer is text."""
    last = body["messages"][-1]["content"]
    taken = isinstance(last, list) and any(part.get("type") == "tool_result" for part in last)
    tool = next((t["name"] for t in body.get("tools", ()) if not taken), "")
    block = {"type": "tool_use", "id": "toolu_1", "name": tool, "input": {}}
    delta = {"type": "input_json_delta", "partial_json": json.dumps(SAID)}
    if not tool:
        block = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": json.dumps(SAID)}
    message = {"id": "m", "type": "message", "role": "assistant", "model": body["model"]}
    usage = {"input_tokens": 100, "output_tokens": 1}
    ends = {"stop_reason": "tool_use" if tool else "end_turn", "stop_sequence": None}
    return [
        {"type": "message_start", "message": {**message, "content": [], "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ends, "usage": {"output_tokens": 12}},
        {"type": "message_stop"},
    ]


def _openai(body: dict[str, Any]) -> list[dict[str, Any]]:
    item = {"type": "message", "id": "m", "role": "assistant", "status": "completed"}
    said = {"type": "output_text", "text": json.dumps(SAID), "annotations": []}
    full = {**item, "content": [said]}
    usage = {"input_tokens": 50, "output_tokens": 7, "total_tokens": 57}
    done = {"id": "r", "object": "response", "status": "completed", "model": body["model"]}
    return [
        {"type": "response.created", "response": {"id": "r"}},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        {"type": "response.output_item.done", "output_index": 0, "item": full},
        {"type": "response.completed", "response": {**done, "usage": usage, "output": [full]}},
    ]
