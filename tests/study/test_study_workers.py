"""Processes beside the first one: the model that they share, and the study that they make."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import closing
from multiprocessing import Pipe
from pathlib import Path

import pytest
from studies import described, go, study

from bilevel.compare.helpers import Silent
from bilevel.errors import LLMRejected, LLMUnavailable
from bilevel.model import Message
from bilevel.protocols import LLM
from bilevel.study.registry import enter
from bilevel.study.results import stored, study_data
from bilevel.study.workers import Assignment, Remote, Shared, _serve, workers
from bilevel.workspace import Workspace
from comparable import reply
from patience import PATIENCE
from worlds import Scripted

ASK = (Message("user", "hello"),)


def served(llm: LLM) -> Remote:
    """The model as another process has it."""
    ours, theirs = Pipe()
    models = Shared(lambda spec: llm)
    threading.Thread(target=_serve, args=(ours, models), daemon=True).start()
    return Remote("toy", theirs)


def test_a_reply_comes_through_the_pipe() -> None:
    llm = Scripted(lambda messages, number: f"{messages[0].content} {number}")
    remote = served(llm)
    texts = [remote.complete(ASK, {"type": "object"}, seed=n, max_tokens=9).text for n in (1, 2)]
    assert texts == ["hello 1", "hello 2"]
    assert llm.asked == [(ASK, {"type": "object"}, 1), (ASK, {"type": "object"}, 2)]
    assert remote.name == "toy"


def test_an_error_comes_through_the_pipe_and_the_next_request_is_answered() -> None:
    def rejects(messages: Sequence[Message], number: int) -> str:
        if number == 1:
            raise LLMRejected("too long; shorten it")
        return "well"

    remote = served(Scripted(rejects))
    with pytest.raises(LLMRejected, match="too long"):
        remote.complete(ASK, seed=1, max_tokens=9)
    assert remote.complete(ASK, seed=1, max_tokens=9).text == "well"


def test_without_the_first_process_there_is_no_model() -> None:
    ours, theirs = Pipe()
    ours.close()
    with pytest.raises(LLMUnavailable, match="same command again"):
        Remote("toy", theirs).complete(ASK, seed=1, max_tokens=9)


def test_a_bug_in_a_model_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: raised.append(args.exc_type))

    def breaks(messages: Sequence[Message], number: int) -> str:
        raise ZeroDivisionError

    with pytest.raises(LLMUnavailable):
        served(Scripted(breaks)).complete(ASK, seed=1, max_tokens=9)
    deadline = time.monotonic() + PATIENCE
    while not raised and time.monotonic() < deadline:
        time.sleep(0.01)
    assert raised == [ZeroDivisionError]


@pytest.mark.parametrize(("spec", "most"), [("embedded:toy", 1), ("openai/toy", 3)])
def test_only_an_embedded_model_answers_one_at_a_time(spec: str, most: int) -> None:
    inside, seen = 0, [0]
    together = threading.Barrier(3) if most == 3 else None
    lock = threading.Lock()

    def slow(messages: Sequence[Message], number: int) -> str:
        nonlocal inside
        with lock:
            inside += 1
            seen.append(inside)
        if together is not None:
            together.wait(timeout=PATIENCE)
        time.sleep(0.02)
        with lock:
            inside -= 1
        return ""

    opened: list[str] = []
    models = Shared(lambda name: opened.append(name) or Scripted(slow))
    threads = [
        threading.Thread(target=lambda: models(spec).complete(ASK, seed=1, max_tokens=9))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(seen) == most
    assert opened == [spec]


def test_two_processes_make_what_one_makes_and_pay_as_often(tmp_path: Path) -> None:
    arms = ("A", "greedy", "random_search")
    (tmp_path / "one").mkdir()
    one = study(tmp_path / "one", described(tmp_path / "one", *arms, repeats=4))
    alone = Scripted(reply)
    go(one, alone)
    file = described(tmp_path, *arms, repeats=4)
    record = enter(Workspace(tmp_path / "state"), file)
    assignment = Assignment(tmp_path / "state", file, record.began, record.lent(), False)
    made, llm = assignment.study(), Scripted(reply)
    with closing(Shared(lambda spec: llm)) as models, workers(1, assignment, models):
        deadline = time.monotonic() + PATIENCE
        while not made.workspace.store.runs() and time.monotonic() < deadline:
            time.sleep(0.05)  # else this process would have made all before the other began
        made.go(models, Silent())
    assert made.left() == []
    assert len(made.workspace.store.runs()) == 12
    assert len(llm.asked) == len(alone.asked)
    found, expected = (study_data(s.file, *stored(s)) for s in (made, one))
    assert [r.scores for r in found.runs] == [r.scores for r in expected.runs]
