import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from adapters import KEY, OPENAI, SCHEMA, TALK, Client
from fake_openai import Answer, FakeOpenAI, completion, refusal, serving

from bilevel.errors import ConfigError, LLMRejected, LLMUnavailable
from bilevel.llm.forms import Manner
from bilevel.llm.http import HttpLLM
from bilevel.llm.memory import Memory
from bilevel.model import UNUSABLE
from patience import PATIENCE


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with serving() as server:
        yield server


def client(fake: FakeOpenAI, **more: Any) -> Client:
    return OPENAI.client(fake, **more)


def form_of(body: dict[str, Any]) -> str:
    """The form in which a request asks for a schema, as the server sees it."""
    if "tools" in body:
        return "tool"
    kind = body.get("response_format", {}).get("type", "text")
    narrow = kind == "json_schema" and "minLength" not in json.dumps(body)
    return "narrow_schema" if narrow else str(kind)


LONG = {
    "type": "object",
    "properties": {"x": {"type": "string", "minLength": 3}, "y": {"const": 1}},
    "required": ["x"],
}


def test_a_request_carries_all_and_the_reply_all_that_came_back(fake: FakeOpenAI) -> None:
    answer = completion()
    answer.headers["x_request_id"] = "req-7"
    fake.answers = [answer]
    reply = client(fake, key=KEY, key_from="SOME_KEY", temperature=0.2).ask(SCHEMA)
    request = fake.requests[0]
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.body["messages"][1] == {"role": "user", "content": "Propose."}
    assert request.body["seed"] == 7
    assert request.body["max_tokens"] == 50
    assert request.body["temperature"] == 0.2
    assert request.body["response_format"]["json_schema"]["schema"] == SCHEMA
    assert request.body["response_format"]["json_schema"]["strict"] is True
    assert "cache_prompt" not in request.body
    assert reply.text == "hello"
    assert (reply.model, reply.finish, reply.attempts) == ("fake-1", "stop", 1)
    assert (reply.tokens_in, reply.tokens_out, reply.tokens_cached) == (20, 3, 0)
    assert (reply.temperature, reply.form, reply.request_id) == (0.2, "json_schema", "req-7")
    assert 0 < reply.seconds < PATIENCE


def test_the_name_tells_model_host_and_an_unusual_temperature() -> None:
    url = "https://user:pw@api.deepseek.com/v1"
    assert HttpLLM(url, "deepseek-chat").name == "deepseek-chat@api.deepseek.com"
    assert HttpLLM(url, "m", temperature=0).name == "m@api.deepseek.com at temperature 0"


def test_what_the_environment_holds_for_openai_goes_to_no_other_host(
    fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-the-user")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-the-user")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"Authorization: Bearer {KEY}")
    client(fake).ask()
    sent = str(fake.requests[0].headers)
    assert KEY not in sent
    assert "of-the-user" not in sent


def test_seeds_of_any_size_fit_32_bits(fake: FakeOpenAI) -> None:
    client(fake).ask(seed=2**200 + 5)
    assert fake.requests[0].body["seed"] == 5


def test_room_to_think_is_added_to_the_limit(fake: FakeOpenAI) -> None:
    client(fake, room=4096, token_limit="max_completion_tokens").ask()
    assert fake.requests[0].body["max_completion_tokens"] == 50 + 4096


@pytest.mark.parametrize(
    ("more", "cached"),
    [
        ({"usage": {"prompt_tokens": 20, "prompt_tokens_details": {"cached_tokens": 12}}}, 12),
        ({"usage": {"prompt_tokens": 20, "prompt_cache_hit_tokens": 13}}, 13),
        ({"usage": None, "timings": {"cache_n": 15, "prompt_n": 5, "predicted_n": 3}}, 15),
    ],
)
def test_cached_tokens_are_read_in_every_dialect(
    fake: FakeOpenAI, more: dict[str, Any], cached: int
) -> None:
    fake.answers = [completion(**more)]
    reply = client(fake).ask()
    assert (reply.tokens_in, reply.tokens_cached) == (20, cached)


PARTS = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
    {"type": "text", "text": "yes"},
]


@pytest.mark.parametrize(
    "answer",
    [
        completion("<think>\nhm</think>\n\nyes"),
        completion("hm\n</think>\n\nyes"),
        completion("<thinking>hm</thinking>yes"),
        completion("[THINK]hm[/THINK]yes"),
        completion("yes", message={"reasoning_content": "hm"}),
        completion("yes", message={"reasoning": "hm"}),
        completion(None, message={"content": PARTS}),
    ],
)
def test_thoughts_are_set_apart(fake: FakeOpenAI, answer: Answer) -> None:
    fake.answers = [answer]
    reply = client(fake).ask()
    assert (reply.text, reply.reasoning) == ("yes", "hm")


def test_a_think_tag_inside_the_text_stays(fake: FakeOpenAI) -> None:
    for text in ("no <think> here", "no <think> here</think>"):
        fake.answers = [completion(text)]
        assert client(fake).ask().text == text


def test_thoughts_that_leave_no_room_for_a_reply_are_named(fake: FakeOpenAI) -> None:
    fake.answers = [completion("<think>for ever", finish="length")]
    reply = client(fake).ask()
    assert reply.finish == UNUSABLE
    assert re.search(r"thoughts only \(finish: length\).*thoughts=8192", reply.text)
    assert reply.reasoning == "for ever"


def test_a_refusal_by_the_model_is_a_reply(fake: FakeOpenAI) -> None:
    fake.answers = [completion(None, message={"refusal": "I will not."})]
    reply = client(fake).ask()
    assert (reply.text, reply.finish, reply.attempts) == ("I will not.", "refusal", 1)
    fake.answers = [completion(None, finish="content_filter")]
    reply = client(fake).ask()
    assert reply.finish == "content_filter"
    assert "refused" in reply.text


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        ({"code": 502, "message": "no provider"}, "no provider"),
        ("odd", "an error in place of an answer: odd"),
    ],
)
def test_an_error_that_comes_as_a_success_is_retried(
    fake: FakeOpenAI, error: Any, cause: str
) -> None:
    failed = Answer(json.dumps({"error": error}).encode())
    midway = completion("{", finish="error", usage=None)
    fake.answers = [failed, midway, completion("ok")]
    assert client(fake).ask().attempts == 3
    fake.requests.clear()
    fake.answers = [completion("{", finish="error")]  # It tells what it took.
    assert client(fake).ask().finish == UNUSABLE
    fake.requests.clear()
    fake.answers = [failed]
    with pytest.raises(LLMUnavailable, match=cause):
        client(fake).ask()


def test_a_refusal_that_comes_as_a_success_is_final(fake: FakeOpenAI) -> None:
    fake.answers = [Answer(b'{"error": {"code": 402, "message": "Insufficient credits"}}')]
    with pytest.raises(LLMRejected, match=r"Insufficient credits.*top up"):
        client(fake).ask()
    assert len(fake.requests) == 1


def only(*taken: str) -> Any:
    """A server that knows these forms alone, and answers a tool's call by one."""

    def answer(request: Any) -> Answer:
        form = form_of(request.body)
        if form not in taken:
            return refusal(400, f"This response_format type is unavailable now ({form})")
        if form == "tool":
            call = {"function": {"name": "reply", "arguments": '{"x": "abc"}'}}
            return completion("I call it.", message={"tool_calls": [call]}, finish="tool_calls")
        if form == "text":
            return completion('Sure!\n```json\n{"x": "abc"}\n```\nAnything else?')
        return completion('{"x": "abc"}')

    return answer


@pytest.mark.parametrize("taken", ["json_schema", "narrow_schema", "tool", "json_object", "text"])
def test_the_strongest_form_that_is_taken_is_found_and_remembered(
    fake: FakeOpenAI, caplog: pytest.LogCaptureFixture, tmp_path: Any, taken: str
) -> None:
    fake.answers = [only(taken)]
    memory = Memory(tmp_path / "cache" / "servers.json")
    llm = HttpLLM(fake.url, "m", memory=memory)
    with caplog.at_level(logging.INFO, "bilevel"):
        replies = [llm.complete(TALK, LONG, seed=1, max_tokens=9) for _ in range(2)]
    llm.close()
    assert [json.loads(r.text) for r in replies] == [{"x": "abc"}] * 2
    assert [r.form for r in replies] == [taken] * 2
    asked = [form_of(r.body) for r in fake.requests]
    forms = ["json_schema", "narrow_schema", "tool", "json_object", "text"]
    assert asked == [*forms[: forms.index(taken) + 1], taken]
    assert [r.attempts for r in replies] == [len(asked) - 1, 1]
    assert len(caplog.records) == 1
    assert f"schemas go as {taken}" in caplog.text
    assert ("unavailable now (json_schema)" in caplog.text) is (taken != "json_schema")

    fake.requests.clear()
    again = HttpLLM(fake.url, "m", memory=Memory(memory.path))
    assert again.complete(TALK, LONG, seed=1, max_tokens=9).attempts == 1
    again.close()
    assert [form_of(r.body) for r in fake.requests] == [taken]


def test_what_stands_around_the_answer_is_kept_among_the_thoughts(fake: FakeOpenAI) -> None:
    fake.answers = [only("text")]
    reply = client(fake).ask(LONG)
    assert reply.reasoning.startswith("Sure!")
    assert reply.reasoning.endswith("Anything else?")
    fake.answers = [only("tool")]
    assert client(fake).ask(LONG).reasoning == "I call it."


def test_weaker_forms_are_told_the_schema_in_words(fake: FakeOpenAI) -> None:
    fake.answers = [only("json_object")]
    client(fake).ask(LONG)
    system = fake.requests[-1].body["messages"][0]["content"]
    assert system.startswith("Be brief.")
    assert '"minLength": 3' in system
    assert all("minLength" not in str(r.body["messages"]) for r in fake.requests[:-1])


def test_the_narrow_form_is_what_strict_servers_take(fake: FakeOpenAI) -> None:
    fake.answers = [only("narrow_schema")]
    client(fake).ask(LONG)
    sent = fake.requests[-1].body["response_format"]["json_schema"]["schema"]
    assert sent["properties"]["x"] == {"type": "string", "description": "at least 3 characters"}
    assert sent["properties"]["y"] == {"enum": [1], "type": "integer"}


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ('Invalid JSON payload received. Unknown name "seed": Cannot find field.', "seed"),
        ("Unsupported value: 'temperature' does not support 0.7 with this model.", "temperature"),
        ("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", "max_tokens"),
    ],
)
def test_a_field_that_a_server_does_not_know_is_left_out_and_that_remembered(
    fake: FakeOpenAI, tmp_path: Any, words: str, field: str
) -> None:
    fake.answers = [lambda r: refusal(400, words) if field in r.body else completion('{"x": "a"}')]
    memory = Memory(tmp_path / "servers.json")
    reply = client(fake, memory=memory).ask()
    assert reply.attempts == 2
    if field == "max_tokens":
        assert fake.requests[-1].body["max_completion_tokens"] == 50
    assert reply.temperature == (None if field == "temperature" else 0.7)
    assert memory.find(fake.url, "m") == Manner("json_schema", frozenset({field}))
    assert client(fake, memory=memory).ask(LONG).attempts == 1


def test_a_request_that_is_bad_in_itself_changes_nothing(
    fake: FakeOpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    fake.answers = [refusal(400, "bad in every form")]
    llm = HttpLLM(fake.url, "m")
    for _ in range(2):
        with pytest.raises(LLMRejected, match="bad in every form"):
            llm.complete(TALK, SCHEMA, seed=1, max_tokens=9)
    llm.close()
    assert len(fake.requests) == 10
    assert fake.requests[0].body == fake.requests[5].body
    assert not caplog.records


def test_one_schema_that_is_refused_does_not_weaken_a_form_that_works(fake: FakeOpenAI) -> None:
    odd = {**SCHEMA, "title": "odd"}
    fake.answers = [
        lambda r: (
            refusal(400, "odd schema")
            if "response_format" in r.body and "odd" in json.dumps(r.body)
            else completion('{"x": 1}')
        )
    ]
    llm = HttpLLM(fake.url, "m")
    forms = [llm.complete(TALK, s, seed=1, max_tokens=9).form for s in (SCHEMA, odd, SCHEMA)]
    llm.close()
    assert forms == ["json_schema", "tool", "json_schema"]


def test_a_form_that_is_taken_and_not_heeded_is_given_up(
    fake: FakeOpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    fake.answers = [
        lambda r: completion('{"x": 1}' if form_of(r.body) == "json_object" else "I would try 3.")
    ]
    llm = HttpLLM(fake.url, "m")
    replies = [llm.complete(TALK, SCHEMA, seed=1, max_tokens=9) for _ in range(5)]
    llm.close()
    assert [r.form for r in replies] == ["json_schema"] * 2 + ["tool"] * 2 + ["json_object"]
    assert replies[0].text == "I would try 3."
    assert "2 replies in a row did not fit the schema" in caplog.text


def test_a_reply_that_was_cut_says_nothing_about_the_form(fake: FakeOpenAI) -> None:
    fake.answers = [completion('{"x": ', finish="length")]
    llm = HttpLLM(fake.url, "m")
    replies = [llm.complete(TALK, SCHEMA, seed=1, max_tokens=9) for _ in range(4)]
    llm.close()
    assert {r.form for r in replies} == {"json_schema"}


@pytest.mark.parametrize("url", ["", "api.example.com", "ftp://x/v1", "http://[::1"])
def test_a_base_url_that_is_none_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError, match="base URL"):
        HttpLLM(url, "m")
