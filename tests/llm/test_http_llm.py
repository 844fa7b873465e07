import logging
import socket
import time
import traceback
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest
from fake_openai import Answer, FakeOpenAI, completion, refusal, serving

from bilevel.errors import ConfigError, LLMRejected, LLMUnavailable
from bilevel.llm.http import LARGEST_BODY, HttpLLM
from bilevel.model import Message, Reply

TALK = (Message("system", "Be brief."), Message("user", "Propose."))
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
KEY = "sk-planted-0123456789"


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with serving() as server:
        yield server


class Client(HttpLLM):
    """Sleeps on paper only."""

    def __init__(self, url: str, **more: Any) -> None:
        self.slept: list[float] = []
        super().__init__(url, "m", sleep=self.slept.append, **{"timeout": 5, "attempts": 3, **more})

    def ask(self, schema: dict[str, Any] | None = None, seed: int = 7) -> Reply:
        try:
            return self.complete(TALK, schema, seed=seed, max_tokens=50)
        finally:
            self.close()


def test_a_request_carries_all_and_the_reply_all_that_came_back(fake: FakeOpenAI) -> None:
    client = Client(fake.url, key=KEY, key_from="SOME_KEY", temperature=0.2)
    reply = client.ask(SCHEMA)
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
    assert 0 < reply.seconds < 5


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
    Client(fake.url).ask()
    sent = str(fake.requests[0].headers)
    assert KEY not in sent
    assert "of-the-user" not in sent


def test_loopback_goes_past_a_proxy(fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert Client(fake.url).ask().text == "hello"


def test_seeds_of_any_size_fit_32_bits(fake: FakeOpenAI) -> None:
    Client(fake.url).ask(seed=2**200 + 5)
    assert fake.requests[0].body["seed"] == 5


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
    reply = Client(fake.url).ask()
    assert (reply.tokens_in, reply.tokens_cached) == (20, cached)


@pytest.mark.parametrize(
    "answer",
    [
        completion("<think>\nhm</think>\n\nyes"),
        completion("yes", message={"reasoning_content": "hm"}),
        completion("yes", message={"reasoning": "hm"}),
    ],
)
def test_thoughts_are_set_apart(fake: FakeOpenAI, answer: Answer) -> None:
    fake.answers = [answer]
    reply = Client(fake.url).ask()
    assert (reply.text, reply.reasoning) == ("yes", "hm")


def test_a_think_tag_inside_the_text_stays(fake: FakeOpenAI) -> None:
    fake.answers = [completion("no <think> here")]
    assert Client(fake.url).ask().text == "no <think> here"


FAULTS = [
    pytest.param(refusal(500, "oops"), "500: oops", id="500"),
    pytest.param(refusal(429, "slow down"), "429: slow down", id="429"),
    pytest.param(refusal(408, "late"), "408: late", id="408"),
    pytest.param(Answer(b""), "the answer is empty", id="empty"),
    pytest.param(Answer(b"<html>", kind="text/html"), "text/html, not JSON", id="content type"),
    pytest.param(Answer(b'{"choices": [{"mess'), "no chat completion", id="broken JSON"),
    pytest.param(Answer(b'{"error": "odd"}'), "choices: Field required", id="no choices"),
    pytest.param(Answer(b'{"choices"', short=99), "complete message body", id="cut mid-body"),
    pytest.param(Answer(b" " * (10 * 2**20)), f"longer than {LARGEST_BODY:,} bytes", id="10 MB"),
    pytest.param(completion(""), "no text", id="no text"),
    pytest.param(completion(None), "no text", id="null"),
    pytest.param(
        completion("<think>for ever", finish="length"),
        "thoughts only (finish: length); max_tokens is too small",
        id="thoughts only",
    ),
]


@pytest.mark.parametrize(("answer", "cause"), FAULTS)
def test_a_fault_is_retried_and_named(fake: FakeOpenAI, answer: Answer, cause: str) -> None:
    fake.answers = [answer, completion("at last")]
    reply = Client(fake.url).ask()
    assert (reply.text, reply.attempts) == ("at last", 2)
    fake.requests.clear()
    fake.answers = [answer]
    client = Client(fake.url)
    with pytest.raises(LLMUnavailable) as caught:
        client.ask()
    assert cause in str(caught.value)
    assert fake.url in str(caught.value)
    assert "3 attempts" in str(caught.value)
    assert len(fake.requests) == 3
    assert len(client.slept) == 2


def test_an_empty_reply_is_asked_again_with_another_seed(fake: FakeOpenAI) -> None:
    fake.answers = [refusal(500, "oops"), completion(""), completion("ok")]
    Client(fake.url).ask(seed=7)
    assert [r.body["seed"] for r in fake.requests] == [7, 7, 8]


def test_retry_after_is_honoured_in_both_forms(fake: FakeOpenAI) -> None:
    date = formatdate(time.time() + 60, usegmt=True)
    fake.answers = [
        refusal(429, "slow", retry_after="40"),
        refusal(503, "slow", retry_after=date),
        completion(),
    ]
    client = Client(fake.url)
    client.ask()
    assert client.slept[0] == 40
    assert 50 < client.slept[1] <= 60


def test_a_wait_beyond_reason_ends_at_once(fake: FakeOpenAI) -> None:
    fake.answers = [refusal(429, "daily limit", retry_after="9000")]
    client = Client(fake.url)
    with pytest.raises(LLMUnavailable, match=r"asks to wait 9000 s .*daily limit.* later"):
        client.ask()
    assert client.slept == []


def test_waits_grow_and_differ(fake: FakeOpenAI) -> None:
    fake.answers = [refusal(500, "oops")]
    waits = []
    for _ in range(5):
        client = Client(fake.url, attempts=6)
        with pytest.raises(LLMUnavailable):
            client.ask()
        waits.append(client.slept)
    assert len({w[0] for w in waits}) > 1
    assert all(w[n] <= 0.5 * 2 ** (n + 1) for w in waits for n in range(5))


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (400, "change the request"),
        (401, "set SOME_KEY to a key that is valid there"),
        (402, "top up"),
        (403, "set SOME_KEY"),
        (404, "check the model's name, and the base URL"),
        (413, "shorten the prompt"),
        (418, "documentation"),
    ],
)
def test_a_refusal_is_final_and_says_what_to_do(fake: FakeOpenAI, status: int, remedy: str) -> None:
    fake.answers = [refusal(status, "because")]
    with pytest.raises(LLMRejected) as caught:
        Client(fake.url, key=KEY, key_from="SOME_KEY").ask()
    assert f"{status}: because" in str(caught.value)
    assert remedy in str(caught.value)
    assert len(fake.requests) == 1


def test_a_spent_quota_is_not_retried(fake: FakeOpenAI) -> None:
    fake.answers = [
        Answer(b'{"error": {"message": "none left", "code": "insufficient_quota"}}', 429)
    ]
    with pytest.raises(LLMRejected, match=r"none left.*top up"):
        Client(fake.url).ask()


def test_a_missing_key_is_called_missing(fake: FakeOpenAI) -> None:
    fake.answers = [refusal(401, "who are you")]
    with pytest.raises(LLMRejected, match="no key was sent: set BILEVEL_API_KEY"):
        Client(fake.url).ask()


def test_a_server_without_json_schema_gets_the_schema_in_words(
    fake: FakeOpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    unavailable = "This response_format type is unavailable now"
    fake.answers = [
        lambda r: (
            refusal(400, unavailable)
            if r.body["response_format"]["type"] == "json_schema"
            else completion('{"x": 1}')
        )
    ]
    client = HttpLLM(fake.url, "m")
    with caplog.at_level(logging.WARNING, "bilevel"):
        for _ in range(2):
            reply = client.complete(TALK, SCHEMA, seed=1, max_tokens=9)
            assert reply.text == '{"x": 1}'
    client.close()
    kinds = [r.body["response_format"]["type"] for r in fake.requests]
    assert kinds == ["json_schema", "json_object", "json_object"]
    system = fake.requests[-1].body["messages"][0]["content"]
    assert system.startswith("Be brief.")
    assert '"required": ["x"]' in system
    assert len(caplog.records) == 1
    assert unavailable in caplog.text


def test_a_request_that_is_bad_in_itself_does_not_switch_the_format(
    fake: FakeOpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    fake.answers = [refusal(400, "context too long")]
    client = HttpLLM(fake.url, "m")
    for _ in range(2):
        with pytest.raises(LLMRejected, match="context too long"):
            client.complete(TALK, SCHEMA, seed=1, max_tokens=9)
    client.close()
    kinds = [r.body["response_format"]["type"] for r in fake.requests]
    assert kinds == ["json_schema", "json_object"] * 2
    assert not caplog.records


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_the_key_is_nowhere_to_be_seen(
    fake: FakeOpenAI, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    fake.answers = [refusal(status, f"your key {KEY} is odd")]
    client = Client(fake.url, key=KEY)
    with caplog.at_level(logging.DEBUG), pytest.raises((LLMRejected, LLMUnavailable)) as caught:
        client.ask()
    shown = "".join(traceback.format_exception(caught.value))
    assert "your key *** is odd" in shown
    assert KEY not in shown + repr(client) + caplog.text


def test_a_key_in_a_body_that_is_no_completion_is_hidden(fake: FakeOpenAI) -> None:
    fake.answers = [Answer(f'{{"echo": "{KEY}"}}'.encode())]
    with pytest.raises(LLMUnavailable) as caught:
        Client(fake.url, key=KEY).ask()
    assert "***" in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("key", ["sk-x\n", "sk x", "schlüssel"])
def test_a_key_that_cannot_be_sent_is_refused_unseen(key: str) -> None:
    with pytest.raises(ConfigError, match="SOME_KEY") as caught:
        HttpLLM("http://127.0.0.1/v1", "m", key, key_from="SOME_KEY")
    assert key not in str(caught.value)


def test_silence_beyond_the_timeout_is_a_fault(fake: FakeOpenAI) -> None:
    fake.answers = [Answer(b"{}", delay=0.6), completion("in time")]
    assert Client(fake.url, timeout=0.2).ask().attempts == 2
    fake.requests.clear()
    fake.answers = [Answer(b"{}", delay=0.6)]
    with pytest.raises(LLMUnavailable, match=r"no answer within 0\.2 s"):
        Client(fake.url, timeout=0.2).ask()


def test_an_answer_that_trickles_beyond_the_timeout_is_a_fault(fake: FakeOpenAI) -> None:
    fake.answers = [Answer(b" " * 40, drip=0.05)]
    start = time.monotonic()
    with pytest.raises(LLMUnavailable, match=r"not complete within 0\.2 s"):
        Client(fake.url, timeout=0.2, attempts=1).ask()
    assert time.monotonic() - start < 1


def test_a_refused_connection_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(LLMUnavailable, match=rf"127\.0\.0\.1:{port}/v1 .*refused"):
        Client(f"http://127.0.0.1:{port}/v1").ask()


@pytest.mark.parametrize("url", ["", "api.example.com", "ftp://x/v1", "http://[::1"])
def test_a_base_url_that_is_none_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError, match="base URL"):
        HttpLLM(url, "m")
