"""The contract's values as JSON values and back; the same file on both sides of the wall.

Standard library only: the worker loads it by its path. `unfold` serves the encoder; the readers
take what json made and raise ValueError with the rule broken.
"""

from __future__ import annotations

import base64
import random
from array import array
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NoReturn, TypeVar

from bilevel.model import Draft, Edit, Move, Param, Space, Trial, Value, Values

T = TypeVar("T")


class Frozen(dict[str, Any]):
    """A dict that a mechanism cannot change: what it is shown must outlive a restart."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("trials and the view are read-only; change a copy: {**values, name: value}")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def copy(self) -> dict[str, Any]:
        return dict(self)

    def __deepcopy__(self, memo: dict[int, object]) -> dict[str, Any]:
        return dict(self)

    __copy__ = copy


def unfold(value: Any) -> Any:
    """One level of a value that json cannot write: a dataclass's fields, a mapping's items."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} is no JSON value")


def dump_rng(rng: random.Random) -> list[Any]:
    """A generator's whole state: version, words as base64 of 32 bits each, spare normal."""
    version, words, spare = rng.getstate()
    return [version, base64.b64encode(array("I", words).tobytes()).decode(), spare]


def read_rng(data: list[Any]) -> random.Random:
    """The generator again, at the same point of its sequence."""
    rng = random.Random(0)
    rng.setstate((data[0], tuple(array("I", base64.b64decode(data[1]))), data[2]))
    return rng


def read_space(data: Mapping[str, Any]) -> Space:
    """A space as the host sent it."""
    return Space(tuple(Param(**{**p, "choices": tuple(p["choices"])}) for p in data["params"]))


def read_trial(data: Mapping[str, Any]) -> Trial:
    """A trial as the host sent it, read-only all through."""
    draft = None if data["draft"] is None else read_draft(data["draft"])
    held = {"values": Frozen(data["values"]), "metrics": Frozen(data["metrics"])}
    return Trial(**{**data, **held, "draft": draft})


def read_move(data: Any) -> Move:
    """A move of the right types. Raises ValueError."""
    _fields("Move", data, Move)
    values = data["values"]
    return Move(
        parents=_all("Move.parents", data["parents"], int),
        values=None if values is None else _values("Move.values", values),
        focus=_all("Move.focus", data["focus"], str),
        note=_a("Move.note", data["note"], str),
        tag=_a("Move.tag", data["tag"], str),
        writer=_a("Move.writer", data["writer"], str),
        seed=_a("Move.seed", data["seed"], int),
        since=_a("Move.since", data["since"], int),
    )


def read_draft(data: Any) -> Draft:
    """A draft of the right types. Raises ValueError."""
    _fields("Draft", data, Draft)
    return Draft(
        id=_a("Draft.id", data["id"], int),
        step=_a("Draft.step", data["step"], int),
        move=read_move(data["move"]),
        values=_values("Draft.values", data["values"]),
        hypothesis=_a("Draft.hypothesis", data["hypothesis"], str),
        edits=tuple(map(_edit, _list("Draft.edits", data["edits"]))),
    )


def _edit(data: Any) -> Edit:
    _fields("Edit", data, Edit)
    return Edit(_values("Edit.before", data["before"]), _a("Edit.why", data["why"], str))


def _keep(data: Any) -> bool:
    if not isinstance(data, bool):
        raise ValueError(f"accept must return a bool, not a {_name(data)}")
    return data


def _each(hook: str, kind: str, read: Callable[[Any], T]) -> Callable[[Any], list[T]]:
    def read_all(data: Any) -> list[T]:
        if not isinstance(data, list):
            raise ValueError(f"{hook} must return a list of {kind}, not a {_name(data)}")
        return [read(item) for item in data]

    return read_all


ANSWERS: dict[str, Callable[[Any], Any]] = {
    "plan": _each("plan", "Move", read_move),
    "screen": _each("screen", "Draft", read_draft),
    "accept": _keep,
}


def _fields(name: str, data: Any, kind: type) -> None:
    expected = {f.name for f in fields(kind)}
    if not isinstance(data, dict) or set(data) != expected:
        raise ValueError(f"expected a {name}, not a {_name(data)}")


def _a(name: str, data: Any, kind: type[T]) -> T:
    if type(data) is not kind:
        raise ValueError(f"{name} must be {kind.__name__}, not {str(data)[:80]!r}")
    return data


def _list(name: str, data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise ValueError(f"{name} must be a tuple, not {str(data)[:80]!r}")
    return data


def _all(name: str, data: Any, kind: type[T]) -> tuple[T, ...]:
    return tuple(_a(f"each of {name}", item, kind) for item in _list(name, data))


def _values(name: str, data: Any) -> Values:
    if not isinstance(data, dict):
        raise ValueError(f"{name} must be a dict of parameters, not {str(data)[:80]!r}")
    held: dict[str, Value] = {}
    for key, value in data.items():
        if type(value) not in (int, float, str, bool):
            raise ValueError(f"{name}[{key!r}] must be a number, text or bool, not {value!r:.80}")
        held[key] = value
    return held


def _name(data: Any) -> str:
    return "None" if data is None else type(data).__name__
