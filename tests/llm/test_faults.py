"""Every fault against every client: what is asked again, what is final, and what is said."""

import datetime
import logging
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import time
import traceback
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trustme
from adapters import ADAPTERS, ANTHROPIC, KEY, OPENAI, SCHEMA, Adapter, Client
from fake_openai import Answer, FakeOpenAI, refusal, serving

from bilevel.errors import ConfigError, ContextTooLong, LLMRejected, LLMUnavailable
from bilevel.llm.wire import LARGEST_BODY
from bilevel.model import UNUSABLE
from patience import PATIENCE

DEEP = '{"x": ' + "[" * 100_000

pytestmark = pytest.mark.parametrize("adapter", ADAPTERS)


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with serving() as server:
        yield server


FAULTS = [
    pytest.param(refusal(408, "late"), "408: late", id="408"),
    pytest.param(refusal(429, "slow down"), "429: slow down", id="429"),
    pytest.param(refusal(500, "oops"), "500: oops", id="500"),
    pytest.param(refusal(503, "busy"), "503: busy", id="503"),
    pytest.param(refusal(529, "overloaded"), "529: overloaded", id="529"),
    pytest.param(Answer(b"", 502), "502: Bad Gateway", id="502 without a word"),
    pytest.param(Answer(b"<h1>no</h1>", 504, "text/html"), "504: <h1>no</h1>", id="504 in HTML"),
    pytest.param(Answer(b"\xff\xfe\xfa", 500), "500: ���", id="500 that is no UTF-8"),
    pytest.param(Answer(b"", reset=True), "eset", id="reset"),
    pytest.param(Answer(b""), "the answer is empty", id="empty"),
    pytest.param(Answer(b"<html>", kind="text/html"), "text/html, not JSON", id="content type"),
    pytest.param(Answer(b'{"choices": [{"mess'), "no completion", id="cut in mid-JSON"),
    pytest.param(Answer(b'{"content": [\xff\xfe]}'), "no completion", id="invalid UTF-8"),
    pytest.param(Answer(b'{"choices": [], "content": 3}'), "no completion", id="wrong schema"),
    pytest.param(Answer(b'{"choices"', short=99), "complete message body", id="cut mid-body"),
    pytest.param(Answer(b"{}", headers={"content-encoding": "gzip"}), "decompress", id="no gzip"),
    pytest.param(
        Answer(b"{}", 503, headers={"content-encoding": "gzip"}), "decompress", id="503, no gzip"
    ),
    pytest.param(Answer(b" " * (10 * 2**20)), f"longer than {LARGEST_BODY:,} bytes", id="10 MB"),
    pytest.param(
        Answer(b" " * (10 * 2**20), 500), f"longer than {LARGEST_BODY:,} bytes", id="10 MB of 500"
    ),
]


def fails(client: Client, fake: FakeOpenAI, cause: str) -> None:
    """Three attempts end in an error that says where and why."""
    with pytest.raises(LLMUnavailable) as caught:
        client.ask()
    assert cause in str(caught.value)
    assert fake.root in str(caught.value)
    assert "3 attempts" in str(caught.value)
    assert len(fake.requests) == 3
    assert len(client.slept) == 2


@pytest.mark.parametrize(("answer", "cause"), FAULTS)
def test_a_fault_is_retried_and_named(
    adapter: Adapter, fake: FakeOpenAI, answer: Answer, cause: str
) -> None:
    fake.answers = [answer, adapter.says("at last")]
    reply = adapter.client(fake).ask()
    assert (reply.text, reply.attempts) == ("at last", 2)
    fake.requests.clear()
    fake.answers = [answer]
    fails(adapter.client(fake), fake, cause)


def comes_back(client: Client, fake: FakeOpenAI, cause: str, schema: Any = None) -> None:
    """What was paid for is not asked for again here, and says what it took."""
    fake.requests.clear()
    reply = client.ask(schema)
    assert reply.finish == UNUSABLE
    assert cause in reply.text
    assert (reply.tokens_in, reply.tokens_out, reply.attempts) == (20, 3, 1)
    assert len(fake.requests) == 1
    assert client.slept == []


def test_a_reply_without_text_comes_back_with_what_it_took(
    adapter: Adapter, fake: FakeOpenAI
) -> None:
    for text in ("", " \n", None):
        fake.answers = [adapter.says(text)]
        comes_back(adapter.client(fake), fake, "the reply holds no text (finish: stop)")
    fake.answers = [adapter.cut("")]
    comes_back(adapter.client(fake), fake, "max_tokens is too small")


def test_json_that_nobody_can_read_comes_back_with_what_it_took(
    adapter: Adapter, fake: FakeOpenAI
) -> None:
    digits = '{"x": ' + "1" * 5000 + "}"
    for text in (DEEP, digits):
        fake.answers = [adapter.says(text)]
        comes_back(adapter.client(fake), fake, "the reply's JSON cannot be read", SCHEMA)


USAGE = (
    b'"usage": {"prompt_tokens": 20, "completion_tokens": 3, "input_tokens": 20, '
    b'"output_tokens": 3}'
)


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        pytest.param(Answer(b"{" + USAGE + b', "cho'), "no completion", id="cut in mid-JSON"),
        pytest.param(Answer(b"{" + USAGE + b', "content": 3}'), "no completion", id="wrong schema"),
        pytest.param(
            Answer(b"{" + USAGE + b', "cho', short=99), "complete message body", id="cut mid-body"
        ),
        pytest.param(
            Answer(b"{" + USAGE + b', "x": "' + b"x" * LARGEST_BODY + b'"}'),
            f"longer than {LARGEST_BODY:,} bytes",
            id="too long",
        ),
        pytest.param(
            Answer(b"{" + USAGE + b"}", kind="text/html"), "text/html, not JSON", id="content type"
        ),
    ],
)
def test_a_broken_answer_that_tells_its_tokens_comes_back_with_them(
    adapter: Adapter, fake: FakeOpenAI, answer: Answer, cause: str
) -> None:
    fake.answers = [answer]
    comes_back(adapter.client(fake), fake, cause)


def test_retry_after_is_honoured_in_every_form(adapter: Adapter, fake: FakeOpenAI) -> None:
    date = formatdate(time.time() + 60, usegmt=True)
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}
    google = {"error": {"code": 429, "message": "slow", "details": [info]}}
    fake.answers = [
        refusal(429, "slow", retry_after_ms="2500"),
        refusal(429, "slow", retry_after="40"),
        refusal(503, "slow", retry_after=date),
        Answer(f"[{google}]".replace("'", '"').encode(), 429),
        adapter.says("ok"),
    ]
    client = adapter.client(fake, attempts=5)
    client.ask()
    for slept, least, most in zip(client.slept, (2.5, 40, 40, 34), (3.5, 41, 61, 35), strict=True):
        assert least <= slept <= most


def test_a_wait_beyond_reason_ends_at_once(adapter: Adapter, fake: FakeOpenAI) -> None:
    fake.answers = [refusal(429, "daily limit", retry_after="9000")]
    client = adapter.client(fake)
    with pytest.raises(LLMUnavailable, match=r"asks to wait 9000 s .*daily limit.* later"):
        client.ask()
    assert client.slept == []


def test_waits_grow_and_differ(adapter: Adapter, fake: FakeOpenAI) -> None:
    fake.answers = [refusal(500, "oops")]
    waits = []
    for _ in range(5):
        client = adapter.client(fake, attempts=6)
        with pytest.raises(LLMUnavailable):
            client.ask()
        waits.append(client.slept)
    assert len({w[0] for w in waits}) > 1
    assert all(w[n] <= 0.5 * 2 ** (n + 1) for w in waits for n in range(5))


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (307, "as the base URL"),
        (400, "change the request"),
        (401, "set SOME_KEY to a key that is valid there"),
        (402, "top up"),
        (403, "set SOME_KEY"),
        (404, "check the model's name, and the base URL"),
        (413, "a longer context"),
        (418, "documentation"),
        (501, "documentation"),
    ],
)
def test_a_refusal_is_final_and_says_what_to_do(
    adapter: Adapter, fake: FakeOpenAI, status: int, remedy: str
) -> None:
    fake.answers = [refusal(status, "because")]
    with pytest.raises(LLMRejected) as caught:
        adapter.client(fake, key=KEY, key_from="SOME_KEY").ask()
    assert f"{status}: because" in str(caught.value)
    assert remedy in str(caught.value)
    assert len(fake.requests) == 1


def test_a_redirect_is_not_followed(adapter: Adapter, fake: FakeOpenAI) -> None:
    fake.answers = [refusal(308, "moved", location=f"{fake.root}/elsewhere"), adapter.says("no")]
    with pytest.raises(LLMRejected, match=r"redirects to http://.*/elsewhere.*as the base URL"):
        adapter.client(fake, key=KEY).ask()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (429, "You exceeded your quota: insufficient_quota"),
        (400, "Your credit balance is too low to access the Anthropic API."),
        (402, "Insufficient Balance"),
    ],
)
def test_an_account_without_money_is_not_retried(
    adapter: Adapter, fake: FakeOpenAI, status: int, words: str
) -> None:
    fake.answers = [refusal(status, words)]
    with pytest.raises(LLMRejected, match="top up"):
        adapter.client(fake).ask(SCHEMA)
    assert len(fake.requests) == 1


def test_a_bad_key_that_is_called_a_bad_request_is_a_bad_key(
    adapter: Adapter, fake: FakeOpenAI
) -> None:
    fake.answers = [refusal(400, "API key not valid. Please pass a valid API key.")]
    with pytest.raises(LLMRejected, match="set SOME_KEY to a key that is valid there"):
        adapter.client(fake, key=KEY, key_from="SOME_KEY").ask(SCHEMA)
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "This model's maximum context length is 8192 tokens. However, you requested 9000."),
        (400, "the request exceeds the available context size, try increasing it"),
        (400, "prompt is too long: 210000 tokens > 200000 maximum"),
        (400, "The input token count (1050000) exceeds the maximum number of tokens allowed"),
        (413, "Request exceeds the maximum size"),
    ],
)
def test_a_prompt_that_is_too_long_is_told_from_other_refusals(
    adapter: Adapter, fake: FakeOpenAI, status: int, words: str
) -> None:
    fake.answers = [refusal(status, words)]
    with pytest.raises(
        ContextTooLong, match="use a model or a server setting with a longer context"
    ):
        adapter.client(fake).ask(SCHEMA)
    assert len(fake.requests) == 1


def test_a_missing_key_is_called_missing(adapter: Adapter, fake: FakeOpenAI) -> None:
    fake.answers = [refusal(401, "who are you")]
    with pytest.raises(LLMRejected, match="no key was sent: set BILEVEL_API_KEY"):
        adapter.client(fake).ask()


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_the_key_is_nowhere_to_be_seen(
    adapter: Adapter, fake: FakeOpenAI, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    fake.answers = [refusal(status, f"your key {KEY} is odd")]
    client = adapter.client(fake, key=KEY)
    with caplog.at_level(logging.DEBUG), pytest.raises((LLMRejected, LLMUnavailable)) as caught:
        client.ask(SCHEMA)
    told = "".join(traceback.format_exception(caught.value))
    assert "your key *** is odd" in told
    assert KEY not in told + repr(client.llm) + caplog.text


def test_a_key_in_a_body_that_is_no_completion_is_hidden(
    adapter: Adapter, fake: FakeOpenAI
) -> None:
    fake.answers = [Answer(f'{{"echo": "{KEY}"}}'.encode())]
    with pytest.raises(LLMUnavailable) as caught:
        adapter.client(fake, key=KEY).ask()
    assert "***" in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("key", ["sk-x\n", "sk x", "schlüssel"])
def test_a_key_that_cannot_be_sent_is_refused_unseen(adapter: Adapter, key: str) -> None:
    with pytest.raises(ConfigError, match="SOME_KEY") as caught:
        adapter.make("http://127.0.0.1", key=key, key_from="SOME_KEY")
    assert key not in str(caught.value)


def test_silence_beyond_the_timeout_is_a_fault(adapter: Adapter, fake: FakeOpenAI) -> None:
    late = Answer(b"{}", delay=60)
    fake.answers = [late, adapter.says("in time")]
    assert adapter.client(fake, timeout=2.0).ask().attempts == 2
    fake.requests.clear()
    fake.answers = [late]
    with pytest.raises(LLMUnavailable, match=r"no answer within 0\.2 s"):
        adapter.client(fake, timeout=0.2).ask()


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_that_trickles_beyond_the_timeout_is_a_fault(
    adapter: Adapter, fake: FakeOpenAI, status: int
) -> None:
    fake.answers = [Answer(b" " * 9999, status, drip=0.05)]
    start = time.monotonic()
    with pytest.raises(LLMUnavailable, match=r"not complete within 0\.2 s"):
        adapter.client(fake, timeout=0.2, attempts=1).ask()
    assert time.monotonic() - start < PATIENCE


def test_a_refused_connection_is_named(adapter: Adapter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(LLMUnavailable, match=rf"127\.0\.0\.1:{port}.*refused"):
        Client(adapter, f"http://127.0.0.1:{port}").ask()


def test_loopback_goes_past_a_proxy(
    adapter: Adapter, fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    fake.answers = [adapter.says("hello")]
    assert adapter.client(fake).ask().text == "hello"


DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.UTC)


def context(authority: trustme.CA, **validity: Any) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", **validity).configure_cert(tls)
    return tls


@pytest.mark.parametrize(
    ("validity", "cause"),
    [
        ({"not_before": NOW - 3 * DAY, "not_after": NOW - DAY}, "certificate has expired"),
        ({"not_before": NOW + DAY, "not_after": NOW + 3 * DAY}, "certificate is not yet valid"),
    ],
)
def test_a_skewed_clock_is_named_and_not_waited_for(
    adapter: Adapter,
    validity: dict[str, datetime.datetime],
    cause: str,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with serving(context(authority)) as good:
        good.answers = [adapter.says("hello")]
        assert adapter.client(good).ask().text == "hello"
    with serving(context(authority, **validity)) as bad:
        client = adapter.client(bad)
        with pytest.raises(LLMUnavailable, match=f"{cause}.* clock is right"):
            client.ask()
    assert client.slept == []


def test_an_unknown_authority_is_named_with_the_remedy(adapter: Adapter) -> None:
    with (
        serving(context(trustme.CA())) as fake,
        pytest.raises(LLMUnavailable, match=r"certificate verify failed.*SSL_CERT_FILE"),
    ):
        adapter.client(fake).ask()


PATIENT = """
    import sys
    sys.path.insert(0, {tests!r})
    from adapters import {name}
    client = {name}.make({root!r}, timeout=60)
    print("asking", flush=True)
    try:
        client.complete([], seed=1, max_tokens=5)
    except KeyboardInterrupt:
        sys.exit(7)
"""


@pytest.mark.parametrize("waits", ["for the answer", "to ask again"])
def test_ctrl_c_ends_a_waiting_request_at_once(
    adapter: Adapter, fake: FakeOpenAI, waits: str
) -> None:
    slow = Answer(b"{}", delay=60)
    fake.answers = [slow if waits == "for the answer" else refusal(429, "", retry_after="60")]
    name = {OPENAI.path: "OPENAI", ANTHROPIC.path: "ANTHROPIC"}[adapter.path]
    code = PATIENT.format(tests=str(Path(__file__).parent), name=name, root=fake.root)
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)]) as process:
        try:
            while not fake.requests and process.poll() is None:
                time.sleep(0.05)
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            assert process.wait(50) == 7
        finally:
            process.kill()
