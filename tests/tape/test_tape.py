"""Completions are found again by what was asked, never by their order."""

import pytest

from bilevel.errors import TapeMiss
from bilevel.model import Call, Message
from bilevel.tape.tape import Tape, request_key
from worlds import Scripted

ASK = [Message("user", "one?")]
OTHER = [Message("user", "two?")]


def ask(tape: Tape, messages: list[Message], seed: int = 1) -> str:
    return tape.complete(
        messages, seed=seed, max_tokens=9, step=0, level="1", purpose="propose"
    ).text


def test_records_before_it_answers_and_answers_from_the_record() -> None:
    calls: list[Call] = []
    tape = Tape("scripted", Scripted(lambda m, n: f"{m[-1].content} {n}"), [], calls.append)
    said = [ask(tape, ASK), ask(tape, OTHER), ask(tape, ASK)]
    assert said == ["one? 1", "two? 2", "one? 3"]
    silent = Tape("scripted", None, calls)
    assert [ask(silent, OTHER), ask(silent, ASK), ask(silent, ASK)] == [
        "two? 2",
        "one? 1",
        "one? 3",
    ]


def test_a_request_that_was_never_recorded_is_an_error() -> None:
    with pytest.raises(TapeMiss, match="two"):
        ask(Tape("scripted", None, []), OTHER)


def test_the_key_depends_on_everything_a_completion_depends_on() -> None:
    keys = {
        request_key("m", ASK, None, 1, 9),
        request_key("n", ASK, None, 1, 9),
        request_key("m", OTHER, None, 1, 9),
        request_key("m", ASK, {"type": "object"}, 1, 9),
        request_key("m", ASK, None, 2, 9),
        request_key("m", ASK, None, 1, 8),
    }
    assert len(keys) == 6


def test_half_of_a_surrogate_pair_is_replaced_before_anything_is_recorded() -> None:
    calls: list[Call] = []
    tape = Tape("scripted", Scripted(lambda m, n: "half of \ud83d"), [], calls.append)
    assert ask(tape, ASK) == "half of ?"
    assert calls[0].reply.text == "half of ?"
