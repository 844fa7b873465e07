import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from bilevel.gate.gate import Verdict
from bilevel.model import Call, Message, Move, Reply, Run
from bilevel.offers import schema
from bilevel.protocols import Schema
from bilevel.research.dialogue import Researcher
from bilevel.schemas import misfit
from bilevel.tape.tape import Tape
from outer_worlds import PLAN, fitting, sha_of, specified
from traces import GPT, T, history, view_of
from worlds import LOSS

RUN = Run("gpt-1", "gpt", GPT, LOSS, "A small GPT.", 3, 30, llm="scripted",
          outer=replace(PLAN, candidates=1, repairs=0))  # fmt: skip
HISTORY = history(T({"MATRIX_LR": 0.08}, 0.25), T({"ADAM_BETA1": 0.9}))
SCHEMA = {
    "type": "object",
    "properties": {"x": {"type": "integer", "maximum": 9}},
    "required": ["x"],
}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"x": 3}', ""),
        ("", "empty"),
        ("x is 3", "not JSON"),
        ('{"x": 12}', "['x']"),
        ("{}", "'x' is a required property"),
    ],
)
def test_what_breaks_a_schema_is_said(text: str, words: str) -> None:
    said = misfit(text, SCHEMA)
    assert words in said
    assert bool(said) is bool(words)
    assert misfit(text or "x", None) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "MATRIX_LR", "value": 0.04}, "0.04 is not 0.001 to 0.0377 or 0.0425 to "),
        ({"name": "MATRIX_LR", "value": "high"}, "['changes'][0]['value']"),
        ({"name": "WINDOW_PATTERN", "value": "SSSL"}, "'SSSL' is not one of ['SL', 'L']"),
        ({"name": "BATCH", "value": 1}, "'BATCH' is none of ['TOTAL_BATCH_SIZE', 'MATRIX_LR'"),
    ],
)
def test_of_alternatives_the_one_that_was_meant_is_said(change: dict[str, Any], words: str) -> None:
    reply = json.dumps({"changes": [change], "hypothesis": "This should help."})
    assert words in misfit(reply, schema(view_of(history()), Move()))


class InForm:
    """Says what fits, in a form; but to the first requests what it is told to say."""

    name = "scripted"

    def __init__(self, form: str, said: Sequence[str]) -> None:
        self._form = form
        self._said = list(said)

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        assert schema is not None
        fit = specified() if "does" in schema["properties"] else json.dumps(fitting(schema))
        return Reply(self._said.pop(0) if self._said else fit, self.name, form=self._form)

    def close(self) -> None:
        pass


def judge(text: str) -> Verdict:
    return Verdict("", "", text, sha_of(text), "Mine", {})


def rounds(form: str, *said: str) -> list[Call]:
    calls: list[Any] = []
    tape = Tape("scripted", InForm(form, said), [], calls.append)
    Researcher(RUN, HISTORY, tape, judge).hold(view_of(HISTORY), 2, ())
    return [call for call in calls if isinstance(call, Call)]


@pytest.mark.parametrize("form", ["tool", "json_object", "text"])
def test_a_round_that_no_server_held_to_its_schema_goes_back_once(form: str) -> None:
    calls = rounds(form, "{}")
    assert [c.purpose for c in calls[:4]] == ["explore", "explore repair", "critique", "specify"]
    first, repair, critique = calls[:3]
    assert repair.messages[: len(first.messages)] == first.messages
    assert repair.messages[-2].content == "{}"
    assert "'wastes' is a required property" in repair.messages[-1].content
    assert repair.seed != first.seed
    assert critique.messages[len(first.messages)].content == repair.reply.text
    assert "{}" not in [m.content for m in critique.messages], "the mended reply takes its place"


@pytest.mark.parametrize("form", ["", "json_schema", "narrow_schema"])
def test_a_round_that_a_server_held_to_its_schema_is_used_as_it_is(form: str) -> None:
    assert [c.purpose for c in rounds(form, "{}")[:2]] == ["explore", "critique"]


def test_a_second_misfit_is_used_as_it_is() -> None:
    calls = rounds("text", "{}", "no")
    assert [c.purpose for c in calls[:3]] == ["explore", "explore repair", "critique"]


def test_the_repair_replays_from_the_record() -> None:
    calls = rounds("text", "{}")
    again: list[Any] = []
    tape = Tape("scripted", None, calls, again.append)
    session = Researcher(RUN, HISTORY, tape, judge).hold(view_of(HISTORY), 2, ())
    assert session.notes["explore"] == calls[1].reply.text
    assert json.loads(session.notes["explore"])
    assert not again
