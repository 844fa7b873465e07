"""What goes into the log comes out of it, value for value and type for type."""

import dataclasses
import json
import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilevel import codec
from bilevel.errors import StoreError
from bilevel.model import (
    Ask,
    Attempt,
    Begun,
    Call,
    Decision,
    Denial,
    Draft,
    Edit,
    Estimate,
    Fault,
    Layering,
    MechanismSource,
    Message,
    Move,
    Objective,
    Opening,
    Param,
    Prices,
    Proposal,
    Rate,
    Record,
    Refusal,
    Reply,
    Run,
    Session,
    Share,
    Space,
    Steering,
    Stop,
    Trial,
)

VALUES = {"i": 1, "f": 1.0, "s": "1", "t": True, "big": 2**70, "none": 0, "text": "a\n\x00é\u2028"}
MOVE = Move(parents=(3, 1), values=VALUES, focus=("i",), note="n", tag="t", writer="tpe")
DRAFT = Draft(4, 2, MOVE, VALUES, "smaller is faster", (Edit(VALUES, "why"),))
REPLY = Reply('{"i": 1}', "m", 900, 30, 880, 4.5, "thinking", "length", 2)
SPACE = Space(
    (
        Param("i", "int", 1, low=1.0, high=8.0, step=2.0, log=True, doc="d"),
        Param("c", "choice", "1", choices=("1", 1, 1.5, True)),
    )
)
RECORDS: tuple[Record | Run, ...] = (
    Proposal(2, (MOVE, Move()), (DRAFT,), (Refusal(2, MOVE, "twice", VALUES, "h"),), (4,)),
    Trial(4, DRAFT, VALUES, "ok", -3.25, {"val_bpb": 3.25}, 4.0, 7, True),
    Trial(5, None, VALUES, "crash", None, {}, 0.5, 7, False, "boom", "baseline"),
    Call("k", 2, "1.5", "steer", (Message("user", "hi"),), "{}", 3, 200, REPLY),
    Decision(2, "sha", "plan", 4, "[]", "[1]", 0.25),
    Fault(2, "sha", "accept", "raise", "ZeroDivisionError"),
    Layering(2, "sha", "add", "admitted"),
    Prices("m", "table", (Rate(0.25, 2.0, 0.025), Rate(0.5, 4.0, 0.05, 200_000)), "a table"),
    Opening(2, 12.5, {"usd": 5.0, "2:tokens": 2e5}),
    Ask("k", 2, "1.5", 900, None),
    Begun(2, 1),
    Denial("k", 2, "2", "explore", "2:tokens", 2e5, "2:tokens=200k: 199,000 tokens spent", 2.1e5),
    Estimate((Share("1", (30, 60), (1, 2), (3, 4), None, (0.5, 1.0)),), (32, 42), 1, None, ("x",)),
    Steering(("i",), "try less", "focused", 3),
    Session(
        2,
        1,
        {"explore": "{}"},
        (Attempt("fill", "w", "s", "sha", "Rest", "harm", "no", {"influence": 0.5}, ("p",)),),
        "sha",
        {"sha2": "asked"},
    ),
    Stop(2, "done"),
    MechanismSource("sha", "Tabu", "class Tabu: ...", "r", "d", "o", ("p",)),
    Run("gpt-1", "gpt", SPACE, Objective("val_bpb"), "b", 3, 30, wall=60.0, machine={"cpu": "x"}),
)


def typed(value: Any) -> Any:
    """The value with the type of every part spelled out, since 1 == 1.0 == True."""
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return type(value), {f.name: typed(getattr(value, f.name)) for f in fields}
    if isinstance(value, dict):
        return {name: typed(part) for name, part in value.items()}
    if isinstance(value, tuple):
        return [typed(part) for part in value]
    return type(value), repr(value)


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: type(r).__name__)
def test_every_kind_survives_with_its_types(record: Record | Run) -> None:
    text = codec.dump(record)
    assert "\n" not in text
    assert typed(codec.load(type(record), text)) == typed(record)


def test_every_kind_of_record_is_known_by_its_name() -> None:
    assert set(codec.KINDS) == {type(r).__name__ for r in RECORDS} - {"Run"}
    assert all(kind.__name__ == name for name, kind in codec.KINDS.items())


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
MAPS = st.dictionaries(TEXTS, st.integers() | NUMBERS | TEXTS | st.booleans())


@given(MAPS, st.none() | MAPS, st.none() | NUMBERS, st.dictionaries(TEXTS, NUMBERS), TEXTS)
def test_any_values_survive_with_their_types(
    values: dict[str, Any],
    given_values: dict[str, Any] | None,
    score: float | None,
    metrics: dict[str, float],
    error: str,
) -> None:
    draft = Draft(1, 1, Move(values=given_values, note=error), values, error)
    trial = Trial(1, draft, values, "ok", score, metrics, 1.5, 3, False, error)
    assert typed(codec.load(Trial, codec.dump(trial))) == typed(trial)


def test_a_whole_number_in_a_float_field_is_read_as_a_float() -> None:
    trial = dataclasses.replace(RECORDS[1], seconds=4, metrics={"steps": 10})
    back = codec.load(Trial, codec.dump(trial))
    assert (repr(back.seconds), repr(back.metrics["steps"])) == ("4.0", "10.0")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["score", "seconds", "metrics", "values"])
def test_numbers_that_json_cannot_hold_are_refused(bad: float, field: str) -> None:
    value: Any = {"x": bad} if field in ("metrics", "values") else bad
    with pytest.raises(StoreError, match="must be made of finite numbers"):
        codec.dump(dataclasses.replace(RECORDS[1], **{field: value}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": "7"}, "Trial.seed is '7'"),
        ({"seconds": True}, "Trial.seconds is 'True'"),
        ({"metrics": {"x": "1"}}, "Trial.metrics.x is '1'"),
        ({"values": {"x": [1]}}, "Trial.values.x"),
        ({"status": "fine"}, "Trial.status is 'fine'"),
        ({"values": {"x": {1, 2}}}, "not JSON serializable"),
        ({"error": "half \ud83d"}, "surrogate"),
    ],
)
def test_what_could_not_be_read_back_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(StoreError, match=words):
        codec.dump(dataclasses.replace(RECORDS[1], **change))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"step": "2", "reason": "done"}'])
def test_a_text_that_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(StoreError, match="damaged or written by another version"):
        codec.load(Stop, text)


def test_fields_of_another_version_are_passed_over_or_defaulted() -> None:
    assert codec.load(Stop, '{"step": 2, "reason": "done", "later": 1}') == Stop(2, "done")


def test_a_record_takes_less_than_a_fifth_of_a_millisecond() -> None:
    history = Message("user", "trial 1: -3.25\n" * 1000)
    records = (*RECORDS, dataclasses.replace(RECORDS[3], messages=(history,)))
    for record in records:
        codec.load(type(record), codec.dump(record))
    start = time.process_time()
    for _ in range(50):
        for record in records:
            codec.load(type(record), codec.dump(record))
    assert (time.process_time() - start) / (50 * len(records)) < 0.0002


def test_the_text_is_plain_json() -> None:
    assert json.loads(codec.dump(Stop(2, "done"))) == {"step": 2, "reason": "done", "detail": ""}
