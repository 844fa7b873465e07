"""The contract's values as JSON values and back; the same file on both sides of the wall.

Standard library only: the worker loads it by its path. `unfold` serves the host's encoder, `plain`
the worker's; the readers take what json made and raise ValueError with the rule broken.
"""

from __future__ import annotations

import base64
import json
import random
import sys
from array import array
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NoReturn, TypeVar, cast

from bilevel.model import Draft, Edit, Move, Param, Space, Trial, Value, Values

T = TypeVar("T")
MOST_BYTES = 2**20  # of an answer, and of a state
MOST_NODES = 150_000
MOST_DEPTH = 16


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


def plain(value: Any, where: str) -> Any:
    """A copy made of JSON values only; numpy's numbers and arrays become Python's.

    Raises TypeError or ValueError for anything else, subclasses too: their methods are code.
    """
    left = MOST_NODES
    numpy = sys.modules.get("numpy")

    def copy(value: Any, where: str, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > MOST_DEPTH:
            most = f"{MOST_NODES} values or {MOST_DEPTH} deep"
            raise ValueError(f"{where} is too large, over {most}, or it holds itself")
        kind = type(value)
        if kind in (list, tuple):
            return [copy(v, f"{where}[{i}]", depth + 1) for i, v in enumerate(value)]
        if kind in (dict, Frozen):
            items = dict.items(value)
            return {_key(k, where): copy(v, f"{where}[{k!r}]", depth + 1) for k, v in items}
        if kind in (Move, Draft, Edit):
            names = kind.__dataclass_fields__
            return {n: copy(getattr(value, n), f"{kind.__name__}.{n}", depth + 1) for n in names}
        if numpy is not None and isinstance(value, numpy.generic | numpy.ndarray):
            return copy(value.tolist(), where, depth + 1)
        return _scalar(value, where)

    return copy(value, where, 0)


def _scalar(value: Any, where: str) -> Any:
    kind = type(value)
    if kind is str:
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{where} holds half of a surrogate pair; leave it out") from error
    elif kind is float and value - value != 0:
        raise ValueError(f"{where} is {value}; use finite numbers, or None for unknown")
    elif kind is int and not -(2**63) <= value < 2**64:
        raise ValueError(f"{where} is an integer of over 64 bits")
    elif value is not None and kind not in (str, float, int, bool):
        raise TypeError(f"{where} is a {kind.__name__}; use numbers, texts, bools, lists and dicts")
    return value


def _key(key: Any, where: str) -> str:
    if type(key) is not str:
        raise TypeError(
            f"{where} has the key {key!r}; keys of a dict must be texts: use str({key!r})"
        )
    return key


def sized(value: Any, what: str) -> str:
    """The value as JSON text. Raises ValueError when it is over the limit."""
    text = json.dumps(value, allow_nan=False)
    if len(text) > MOST_BYTES:
        raise ValueError(
            f"{what} takes {len(text)} bytes of JSON; at most {MOST_BYTES} may be kept"
        )
    return text


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


READERS: dict[str, Callable[[str, Any], Any]] = {
    "int": lambda name, data: _a(name, data, int),
    "str": lambda name, data: _a(name, data, str),
    "tuple[int, ...]": lambda name, data: _all(name, data, int),
    "tuple[str, ...]": lambda name, data: _all(name, data, str),
    "Values": lambda name, data: _values(name, data),
    "Values | None": lambda name, data: None if data is None else _values(name, data),
    "tuple[Edit, ...]": lambda name, data: tuple(map(_read_edit, _list(name, data))),
    "Move": lambda name, data: read_move(data),
}


def _reader(kind: Callable[..., T]) -> Callable[[Any], T]:
    """A function that makes a dataclass of what json made, and raises ValueError for wrong types.

    Raises KeyError, as this file is loaded, for a field whose type has no reader above.
    """
    name = kind.__name__
    readers = {f.name: READERS[str(f.type)] for f in fields(cast(Any, kind))}

    def read(data: Any) -> T:
        if not isinstance(data, dict) or data.keys() != readers.keys():
            raise ValueError(f"expected a {name}, not a {_name(data)}")
        return kind(**{f: read_one(f"{name}.{f}", data[f]) for f, read_one in readers.items()})

    return read


_read_edit: Callable[[Any], Edit] = _reader(Edit)
read_move: Callable[[Any], Move] = _reader(Move)
read_draft: Callable[[Any], Draft] = _reader(Draft)

ANSWERS: dict[str, Callable[[Any], Any]] = {
    "plan": _each("plan", "Move", read_move),
    "screen": _each("screen", "Draft", read_draft),
    "accept": _keep,
}
