import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("anthropic", reason="needs anthropic: pip install 'bilevel[anthropic]'")

from adapters import KEY, SCHEMA, TALK, anthropic_llm
from fake_openai import Answer, FakeOpenAI, message, refusal, serving

from bilevel.llm.memory import Memory
from bilevel.model import TOO_LONG, Message, Reply

BOUNDED = {
    "type": "object",
    "properties": {
        "changes": {
            "type": "array",
            "items": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 9}]},
            "minItems": 1,
            "maxItems": 2,
        },
        "name": {"const": "LR"},
    },
    "required": ["changes", "name"],
    "additionalProperties": False,
}


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with serving() as server:
        yield server


def ask(fake: FakeOpenAI, schema: dict[str, Any] | None = None, **more: Any) -> Reply:
    llm = anthropic_llm(fake.root, timeout=5, **more)
    try:
        return llm.complete(TALK, schema, seed=7, max_tokens=50)
    finally:
        llm.close()


def test_a_request_carries_all_and_the_reply_all_that_came_back(fake: FakeOpenAI) -> None:
    usage = {
        "input_tokens": 5,
        "cache_read_input_tokens": 11,
        "cache_creation_input_tokens": 4,
        "output_tokens": 3,
    }
    answer = message(usage=usage)
    answer.headers["request_id"] = "req-7"
    fake.answers = [answer]
    reply = ask(fake, key=KEY, temperature=0.2)
    request = fake.requests[0]
    assert request.path == "/v1/messages"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["anthropic-version"]
    assert request.body["system"] == "Be brief."
    assert request.body["messages"] == [{"role": "user", "content": "Propose."}]
    assert request.body["max_tokens"] == 50
    assert request.body["temperature"] == 0.2
    assert "seed" not in request.body
    assert (reply.text, reply.model, reply.finish) == ("hello", "fake-1", "stop")
    assert (reply.tokens_in, reply.tokens_out, reply.tokens_cached) == (20, 3, 11)
    assert (reply.temperature, reply.form, reply.request_id) == (0.2, "", "req-7")


def test_the_temperature_is_left_to_the_service(fake: FakeOpenAI) -> None:
    fake.answers = [message()]
    assert ask(fake).temperature is None
    assert "temperature" not in fake.requests[0].body


def test_thoughts_are_set_apart(fake: FakeOpenAI) -> None:
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        {"type": "redacted_thinking", "data": "?"},
        {"type": "text", "text": "ye"},
        {"type": "text", "text": "s"},
    ]
    fake.answers = [message(content=blocks)]
    reply = ask(fake)
    assert (reply.text, reply.reasoning) == ("yes", "hm")


@pytest.mark.parametrize(
    ("stop", "finish"),
    [
        ("max_tokens", "length"),
        ("model_context_window_exceeded", TOO_LONG),
        ("refusal", "refusal"),
        ("end_turn", "stop"),
    ],
)
def test_why_it_stopped_is_said_as_for_other_models(
    fake: FakeOpenAI, stop: str, finish: str
) -> None:
    fake.answers = [message(stop=stop)]
    assert ask(fake).finish == finish


def test_a_refusal_by_the_model_is_a_reply(fake: FakeOpenAI) -> None:
    fake.answers = [message(None, stop="refusal")]
    reply = ask(fake)
    assert reply.finish == "refusal"
    assert "refused" in reply.text
    assert reply.attempts == 1


def form_of(body: dict[str, Any]) -> str:
    return "narrow_schema" if "output_config" in body else "tool" if "tools" in body else "text"


@pytest.mark.parametrize("taken", ["narrow_schema", "tool", "text"])
def test_the_strongest_form_that_is_taken_is_found_and_remembered(
    fake: FakeOpenAI, tmp_path: Any, taken: str
) -> None:
    def answer(request: Any) -> Answer:
        form = form_of(request.body)
        if form != taken:
            return refusal(400, "this model does not support that")
        if form == "tool":
            used = {"type": "tool_use", "id": "1", "name": "reply", "input": {"x": 1}}
            return message(content=[{"type": "text", "text": "I call."}, used], stop="tool_use")
        return message('{"x": 1}')

    fake.answers = [answer]
    memory = Memory(tmp_path / "servers.json")
    reply = ask(fake, SCHEMA, memory=memory)
    assert json.loads(reply.text) == {"x": 1}
    assert (reply.form, reply.finish) == (taken, "stop")
    assert reply.reasoning == ("I call." if taken == "tool" else "")
    assert ask(fake, SCHEMA, memory=memory).attempts == 1


def test_the_native_schema_has_no_keyword_that_anthropic_refuses(fake: FakeOpenAI) -> None:
    fake.answers = [message('{"changes": [1], "name": "LR"}')]
    ask(fake, BOUNDED)
    sent = fake.requests[0].body["output_config"]["format"]
    assert sent["type"] == "json_schema"
    changes = sent["schema"]["properties"]["changes"]
    assert changes["description"] == "at least 1 items, at most 2 items"
    assert changes["items"]["anyOf"] == [
        {"type": "integer", "description": "at least 1, at most 9"}
    ]
    assert sent["schema"]["properties"]["name"] == {"enum": ["LR"], "type": "string"}
    assert sent["schema"]["additionalProperties"] is False


def test_the_whole_schema_is_told_where_it_cannot_be_enforced(fake: FakeOpenAI) -> None:
    fake.answers = [
        lambda r: refusal(400, "no") if form_of(r.body) != "text" else message('{"x": 1}')
    ]
    ask(fake, BOUNDED)
    body = fake.requests[-1].body
    assert body["system"].startswith("Be brief.")
    assert '"maxItems": 2' in body["system"]
    assert "system" not in {m["role"] for m in body["messages"]}


def test_a_temperature_that_a_model_refuses_is_left_out(fake: FakeOpenAI) -> None:
    fake.answers = [
        lambda r: (
            refusal(400, "`temperature` is deprecated for this model.")
            if "temperature" in r.body
            else message()
        )
    ]
    reply = ask(fake, temperature=0.5)
    assert (reply.attempts, reply.temperature) == (2, None)


def test_what_the_environment_holds_is_not_sent(
    fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", KEY)
    fake.answers = [message()]
    ask(fake)
    assert KEY not in str(fake.requests[0].headers)


def test_a_talk_goes_on_in_turns(fake: FakeOpenAI) -> None:
    fake.answers = [message()]
    llm = anthropic_llm(fake.root)
    talk = [*TALK, Message("assistant", "No."), Message("user", "Again.")]
    llm.complete(talk, seed=1, max_tokens=5)
    llm.close()
    roles = [m["role"] for m in fake.requests[0].body["messages"]]
    assert roles == ["user", "assistant", "user"]
