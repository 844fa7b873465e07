"""Every field of every value crosses the wall, also one that is added tomorrow."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
from attacks import FIRST, QUICK, VIEW

from bilevel.mechanism import View
from bilevel.model import Draft, Edit, Move, Param, Space, Trial
from bilevel.sandbox import host, wire
from bilevel.sandbox.sandboxed import Sandbox

MOVE = Move((1, 2), {"RATE": 0.5}, ("RATE",), "note", "tag", "copy", 3, 4)
EDIT = Edit({"RATE": 0.4}, "because")
DRAFT = Draft(7, 8, MOVE, {"RATE": 0.5}, "It may help.", (EDIT,))
TRIAL = Trial(
    *(9, DRAFT, {"RATE": 0.5}, "crash", None, {"loss": 1.5}, 2.5, 42, True, "out of memory"),
    role="confirm",
)
PARAM = Param("RATE", "choice", 1, 1.0, 4.0, True, 2.0, (1, 2, 4), "how fast")
READ: list[tuple[Any, Callable[[Any], Any]]] = [
    (MOVE, wire.read_move),
    (DRAFT, wire.read_draft),
    (TRIAL, wire.read_trial),
    (Space((PARAM,)), wire.read_space),
]


def sent(value: Any) -> Any:
    """What json makes of a value on the other side."""
    return json.loads(json.dumps(value, default=wire.unfold))


@pytest.mark.parametrize(("value", "read"), READ, ids=lambda v: type(v).__name__)
def test_a_value_comes_back_whole(value: Any, read: Callable[[Any], Any]) -> None:
    assert read(sent(value)) == value


@pytest.mark.parametrize("value", [MOVE, DRAFT, EDIT, TRIAL, PARAM], ids=lambda v: type(v).__name__)
def test_no_field_is_left_at_its_default_here(value: Any) -> None:
    for field in fields(value):
        assert getattr(value, field.name) != field.default, f"give {field.name} another value above"


def wrong(value: Any) -> Iterator[tuple[str, Any]]:
    """The value as JSON, once for each field, with something there that fits no field."""
    for field in fields(value):
        yield field.name, {**sent(value), field.name: [[None]]}


@pytest.mark.parametrize(("value", "read"), READ[:2], ids=lambda v: type(v).__name__)
def test_every_field_is_checked_by_its_type(value: Any, read: Callable[[Any], Any]) -> None:
    for name, data in wrong(value):
        with pytest.raises(ValueError, match=rf"{name}|expected a"):
            read(data)
    for data in ({**sent(value), "extra": 1}, {"id": 1}, None):
        with pytest.raises(ValueError, match="expected a"):
            read(data)


@dataclass(frozen=True)
class Odd:
    """A value of a type that nobody has taught the wire."""

    when: complex = 0j


def test_a_field_of_an_unknown_type_is_found_when_the_file_is_loaded() -> None:
    with pytest.raises(KeyError, match="complex"):
        wire._reader(Odd)


@dataclass(frozen=True)
class Later(View):
    """The view of a later version."""

    mood: str = ""
    marks: tuple[int, ...] = ()


def test_a_new_plain_field_of_the_view_needs_no_change_of_the_wall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = host.OWN_FILES["bilevel.mechanism"].read_text()
    old = '    guidance: str = ""\n'
    assert old in ours
    later = tmp_path / "mechanism.py"
    later.write_text(
        ours.replace(old, f'{old}    mood: str = ""\n    marks: tuple[int, ...] = ()\n')
    )
    monkeypatch.setitem(host.OWN_FILES, "bilevel.mechanism", later)
    plain = {f.name: getattr(VIEW, f.name) for f in fields(VIEW)}
    view = Later(**{**plain, "mood": "bold", "marks": (1, 2)})
    source = """
from bilevel.mechanism import Mechanism
class Shows(Mechanism):
    def plan(self, view, moves):
        self.seen = [view.mood, view.marks, type(view.marks).__name__, view.guidance]
        return moves
"""
    with Sandbox(QUICK) as sandbox:
        mechanism = sandbox.load(source)
        mechanism.plan(view, [Move((FIRST.id,))])
        assert (mechanism.state or {})["seen"] == ["bold", [1, 2], "tuple", ""]
