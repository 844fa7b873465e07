import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bilevel.errors import ContextTooLong, LLMUnavailable, MissingExtra, WeightsError
from bilevel.llm import embedded, weights
from bilevel.llm.embedded import EmbeddedLLM, cores
from bilevel.llm.forms import FORMS
from bilevel.llm.http import HttpLLM
from bilevel.model import TOO_LONG, Message
from bilevel.schemas import misfit
from patience import PATIENCE

MODEL = "smollm2-135m"
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"enum": ["DEPTH", "LR"]},
        "value": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["name", "value"],
    "additionalProperties": False,
}
WIDE = {
    "type": "object",
    "properties": {
        "changes": {
            "type": "array",
            "items": {
                "anyOf": [
                    {
                        "type": "object",
                        "properties": {
                            "name": {"const": "LR"},
                            "value": {"type": "number", "minimum": -0.021, "maximum": 1.7},
                        },
                        "required": ["name", "value"],
                        "additionalProperties": False,
                    },
                    SCHEMA,
                ]
            },
            "minItems": 1,
            "maxItems": 2,
        },
        "hypothesis": {"type": "string", "minLength": 2, "maxLength": 60},
    },
    "required": ["changes", "hypothesis"],
    "additionalProperties": False,
}
SYSTEM = Message("system", "You tune a small model. " + "DEPTH is from 1 to 9. LR is too. " * 5)


def talk(trials: int) -> tuple[Message, ...]:
    lines = "\n".join(f"trial {n}: DEPTH={n % 9 + 1} loss={3 - n / 50:.2f}" for n in range(trials))
    return SYSTEM, Message("user", f"{lines}\nWhich change is next, and why?")


@pytest.fixture(scope="module")
def cached() -> None:
    try:
        weights.pull(MODEL)
    except WeightsError as error:
        pytest.skip(f"the weights are neither here nor to be had: {error}")


@pytest.fixture(scope="module")
def llm(cached: None) -> Iterator[EmbeddedLLM]:
    model = EmbeddedLLM(MODEL)
    yield model
    model.close()


@pytest.mark.weights
def test_a_reply_fits_the_schema(llm: EmbeddedLLM) -> None:
    reply = llm.complete(talk(3), SCHEMA, seed=1, max_tokens=60)
    answer = json.loads(reply.text)
    assert reply.text == json.dumps(answer), "on one line, blanks after colons and commas"
    assert answer["name"] in ("DEPTH", "LR")
    assert 1 <= answer["value"] <= 9
    assert reply.model == MODEL
    assert reply.tokens_in > 100
    assert 0 < reply.tokens_out <= 60
    assert llm.name == "smollm2-135m@embedded"


@pytest.mark.weights
def test_the_seed_decides(llm: EmbeddedLLM) -> None:
    first, again, other = (
        llm.complete(talk(3), seed=seed, max_tokens=30).text for seed in (5, 5, 6)
    )
    assert first == again != other


@pytest.mark.weights
def test_a_cold_cache_gives_the_replies_of_a_warm_one(llm: EmbeddedLLM) -> None:
    warm = []
    for trials in range(5, 8):
        reply = llm.complete(talk(trials), seed=trials, max_tokens=20)
        warm.append(reply.text)
    assert reply.tokens_cached > reply.tokens_in / 2
    repair = (*talk(7), Message("assistant", reply.text), Message("user", "No. Again."))
    repaired = llm.complete(repair, seed=9, max_tokens=20)
    assert repaired.tokens_cached < reply.tokens_in  # What was written is read anew.
    llm.close()
    cold = llm.complete(repair, seed=9, max_tokens=20)
    assert cold.tokens_cached == 0
    assert cold.text == repaired.text
    llm.close()
    assert llm.complete(talk(6), seed=6, max_tokens=20).text == warm[1]


@pytest.mark.weights
def test_it_sleeps_while_nothing_is_asked(llm: EmbeddedLLM) -> None:
    llm.complete(talk(1), seed=1, max_tokens=5)
    time.sleep(0.3)
    process = psutil.Process(llm.pid)
    before = sum(process.cpu_times()[:2])
    time.sleep(1)
    assert sum(process.cpu_times()[:2]) - before < 0.1


@pytest.mark.weights
def test_a_prompt_beyond_the_context_is_refused_and_leaves_no_mark(cached: None) -> None:
    small = EmbeddedLLM(MODEL, context=256)
    first = small.complete(talk(3), SCHEMA, seed=1, max_tokens=20)
    for _ in range(2):
        with pytest.raises(ContextTooLong, match=r"context size.*with a longer context"):
            small.complete(talk(50), SCHEMA, seed=1, max_tokens=20)
    assert small.complete(talk(3), SCHEMA, seed=1, max_tokens=20).text == first.text
    endless = {"type": "string", "minLength": 4000}
    full = small.complete(talk(3), endless, seed=1, max_tokens=400)
    assert full.finish == TOO_LONG
    assert f"full after {full.tokens_in} tokens of prompt and {full.tokens_out} of" in full.text
    small.close()


def kill_servers(llm: EmbeddedLLM, times: int) -> threading.Thread:
    """Kill the next servers in the middle of a reply: after 0.3 s of computing."""

    def kill() -> None:
        before = None
        for _ in range(times):
            while llm.pid in (None, before):
                time.sleep(0.02)
            process = psutil.Process(llm.pid)
            start = process.cpu_times().user
            while process.cpu_times().user < start + 0.3:
                time.sleep(0.02)
            before = process.pid
            process.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


@pytest.mark.weights
def test_a_server_that_dies_is_started_again_once(
    llm: EmbeddedLLM, caplog: pytest.LogCaptureFixture
) -> None:
    calm = llm.complete(talk(2), seed=4, max_tokens=100)
    killer = kill_servers(llm, 1)
    reply = llm.complete(talk(2), seed=4, max_tokens=100)
    killer.join()
    assert (reply.text, reply.attempts) == (calm.text, 2)
    assert "exit status -9" in caplog.text
    assert "starting it again" in caplog.text


@pytest.mark.weights
def test_a_server_that_dies_twice_is_given_up(llm: EmbeddedLLM) -> None:
    killer = kill_servers(llm, 2)
    with pytest.raises(LLMUnavailable, match="ended twice over one request"):
        llm.complete(talk(2), seed=4, max_tokens=2000)
    killer.join()
    assert llm.pid is None
    assert llm.complete(talk(2), seed=4, max_tokens=5).attempts == 1


@pytest.mark.weights
@pytest.mark.parametrize("how", ["kill -9", "return", "interrupt"])
def test_the_server_ends_with_its_parent(cached: None, tmp_path: Path, how: str) -> None:
    """Started from a thread that has ended since; by then the server must still be there."""
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import threading, sys
            from bilevel.llm.embedded import EmbeddedLLM
            from bilevel.model import TOO_LONG, Message
            llm = EmbeddedLLM({MODEL!r})
            def ask():
                llm.complete([Message("user", "hello")], seed=1, max_tokens=3)
            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()
            print(llm.pid, flush=True)
            sys.stdin.readline()
            """
        )
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    time.sleep(0.7)
    assert child.is_running()
    if how == "return":
        parent.stdin.write("\n")
        parent.stdin.flush()
    else:
        os.kill(parent.pid, signal.SIGKILL if how == "kill -9" else signal.SIGINT)
    parent.wait(PATIENCE)
    child.wait(PATIENCE)
    parent.stdin.close()
    parent.stdout.close()


def test_a_file_that_is_no_model_is_refused_early(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no file"):
        EmbeddedLLM(tmp_path / "none.gguf")
    (tmp_path / "page.gguf").write_text("<html>")
    with pytest.raises(WeightsError, match="not in the GGUF format"):
        EmbeddedLLM(tmp_path / "page.gguf")


def test_a_file_that_only_looks_like_a_model_stops_the_server(tmp_path: Path) -> None:
    path = tmp_path / "half.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    llm = EmbeddedLLM(path)
    assert llm.name == "half@embedded"
    with pytest.raises(LLMUnavailable, match=r"ended while it loaded the model.*gguf"):
        llm.complete([Message("user", "hello")], seed=1, max_tokens=3)
    assert llm.pid is None


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'bilevel\[local\]'"):
        EmbeddedLLM(MODEL)


def test_cores_keep_to_a_container_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "QUOTA", tmp_path / "cpu.max")
    free = cores()
    assert 1 <= free <= 16
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cores() == free
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert cores() == 1


@pytest.mark.weights
def test_llama_cpp_holds_a_model_to_our_grammar(cached: None) -> None:
    llm = EmbeddedLLM(MODEL)
    llm.complete(talk(1), seed=1, max_tokens=1)
    assert llm._server is not None
    server = HttpLLM(f"{llm._server.url}/v1", MODEL, llm._server.key, forms=FORMS)
    try:
        for seed in range(6):
            reply = server.complete(talk(3), WIDE, seed=seed, max_tokens=120)
            assert reply.form == "gbnf"
            assert misfit(reply.text, WIDE) == ""
            assert "\n" not in reply.text
    finally:
        server.close()
        llm.close()
