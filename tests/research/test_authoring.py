"""How a source is asked for: the specification, the frames, the prompts, what goes back."""

from __future__ import annotations

import ast
import json
from typing import Any

import pytest

from bilevel.gate.normalise import normalise
from bilevel.gate.vocabulary import misnamed
from bilevel.model import MechanismSource, Message
from bilevel.research.authoring import (
    TAKEN,
    Specification,
    assembled,
    fill,
    fill_schema,
    parse_specification,
    repair,
    request,
    skeleton,
    specification_schema,
)
from bilevel.research.frames import FRAMES, Frame
from bilevel.sandbox import policy
from filled import FILLED
from outer_worlds import COUNTS, TrustedSandbox, fitting, notes, sha_of
from traces import T, history, view_of

KNOWN = [MechanismSource(sha_of(t), "Mine", t, "It notes.") for t in (notes("one"), COUNTS)]
IDS = [frame.does[:30] for frame in FRAMES]


def said(**changes: object) -> str:
    reply: dict[str, Any] = fitting(specification_schema([f.does for f in FRAMES]))
    return json.dumps({**reply, **changes})


def spec(frame: Frame = FRAMES[0], **changes: object) -> Specification:
    found = parse_specification(said(does=frame.does, **changes))
    assert found is not None
    return found


def text_of(talk: list[Message]) -> str:
    return "\n".join(m.content for m in talk)


def test_what_the_schema_allows_is_a_specification() -> None:
    for frame in FRAMES:
        assert spec(frame).frame is frame
    assert frame.does in spec(frame).text()


@pytest.mark.parametrize(
    "reply",
    ["", "no JSON", "[]", "null", '"plan"', "{}", said(does="evaluate twice"), said(idea=3),
     said(name=None), said(does=["plan"])],
)  # fmt: skip
def test_what_is_no_specification_is_none(reply: str) -> None:
    assert parse_specification(reply) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("try less", "TryLess"),
        ("LeastTried", "LeastTried"),
        ("3-opt", "Rule3Opt"),
        ("", "Rule"),
        ("¿qué?", "Qu"),
        ("none", "RuleNone"),
        ("Mechanism", "RuleMechanism"),
        ("class A(B): pass", "ClassABPass"),
    ],
)
def test_any_name_becomes_the_name_of_a_class(name: str, expected: str) -> None:
    assert spec(name=name).name == expected
    assert expected.isidentifier()
    assert expected not in TAKEN


NASTY = 'Say """stop""" \\ and\nimport os # \ud83d {name} $key %s'


def test_text_of_the_llm_stays_within_its_docstring_and_its_line() -> None:
    made = spec(idea=NASTY, condition=NASTY)
    assert "\n" not in made.idea + made.condition
    assert '"' not in made.idea + made.condition
    text = skeleton(made) + "\n        return moves\n"
    (kind,) = [n for n in ast.parse(text).body if isinstance(n, ast.ClassDef)]
    assert len(kind.body) == 2, "the docstring and the hook"
    text.encode()


@pytest.mark.parametrize("frame", FRAMES, ids=IDS)
def test_a_filled_frame_is_a_mechanism(frame: Frame) -> None:
    text = assembled(spec(frame, name="mine", idea=NASTY), json.dumps(FILLED[frame.does]))
    assert policy.lint(text) == []
    assert misnamed(text) == []
    assert normalise(text) == text
    mechanism = TrustedSandbox().load(text)
    assert frame.hook in vars(type(mechanism).__mro__[1])


@pytest.mark.parametrize("frame", FRAMES, ids=IDS)
def test_the_schema_of_a_frame_has_its_holes_and_no_more(frame: Frame) -> None:
    filled = fitting(fill_schema(frame))
    assert filled.keys() == {hole.name for hole in frame.holes}
    assert fill_schema(frame)["additionalProperties"] is False


@pytest.mark.parametrize("reply", ["class Mine: pass", "[]", "{}", '{"when": 3}', "null"])
def test_a_reply_that_fills_in_nothing_goes_to_the_gate_as_it_is(reply: str) -> None:
    assert assembled(spec(), reply) == reply


@pytest.mark.parametrize("frame", FRAMES, ids=IDS)
def test_a_frame_is_shown_with_its_holes_and_the_names_at_hand(frame: Frame) -> None:
    made = history(T({"MATRIX_LR": 0.08}, -0.1), T({"MATRIX_LR": 0.01}, None))
    text = text_of(fill(spec(frame), view_of(made)))
    for hole in frame.holes:
        assert f"<{hole.name}>" in text
    assert FILLED[frame.does]["when"] not in text, "a small model hands in the form it is shown"
    assert frame.does in text


@pytest.mark.parametrize("way", ["write", "complete", "improve", "combine"])
def test_each_way_names_the_class_and_shows_what_it_builds_on(way: Any) -> None:
    text = text_of(request(way, spec(name="LessOften"), ("RATE", "BATCH"), KNOWN))
    assert "LessOften" in text
    assert "RATE, BATCH" in text
    assert (KNOWN[0].source.strip() in text) == (way in ("improve", "combine"))
    assert (KNOWN[1].source.strip() in text) == (way == "combine")


def test_all_ways_begin_alike_for_the_servers_cache() -> None:
    talks = [
        request(way, spec(), ("RATE",), KNOWN)
        for way in ("write", "complete", "improve", "combine")  # type: ignore[arg-type]
    ]
    assert len({talk[0] for talk in talks}) == 1
    ideas = [talk[1].content.partition(spec().idea) for talk in talks]
    assert len({before for before, _, _ in ideas}) == 1


@pytest.mark.parametrize("refill", [True, False])
def test_a_refusal_goes_back_after_what_was_refused(refill: bool) -> None:
    talk = [Message("system", "be brief"), Message("user", "write it")]
    longer = repair(talk, "class Mine: ...", "it changed no decision", refill=refill)
    assert longer[:2] == talk
    assert longer[2] == Message("assistant", "class Mine: ...")
    assert longer[3].role == "user"
    assert "it changed no decision" in longer[3].content
