"""Records as JSON texts and back, typed: 1 stays an int, 1.0 a float, True a bool, "1" a str."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePath
from typing import Any, TypeVar, get_args

from pydantic import TypeAdapter, ValidationError

from bilevel.errors import StoreError
from bilevel.model import Record, Run

T = TypeVar("T")

KINDS: dict[str, type[Record]] = {kind.__name__: kind for kind in get_args(Record)}

_adapters: dict[type, TypeAdapter[Any]] = {}


def dump(record: object) -> str:
    """The record as one line of JSON, which `load` is certain to read back.

    Raises StoreError for what JSON or the record's own types cannot hold: NaN and infinity,
    half of a surrogate pair, a value of another type.
    """
    kind = type(record)
    try:
        plain = _adapter(kind).dump_python(record, warnings=False)
        text = json.dumps(plain, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        # A log that cannot be read back is worse than none, and the check costs microseconds.
        _adapter(kind).validate_json(text.encode(), strict=True)
    except UnicodeEncodeError as error:
        bad = error.object[error.start]
        raise StoreError(
            f"a {kind.__name__} holds {bad!r}, half of a surrogate pair, which no UTF-8 text can "
            "hold; replace it where the text comes in"
        ) from error
    except ValidationError as error:
        raise StoreError(f"{_first(kind, error)}; give it a value of that type") from error
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"a {kind.__name__} must be made of finite numbers, texts, truth values, lists and "
            f"maps, but: {error}; leave the value out or make it None"
        ) from error
    return text


def load(kind: type[T], text: str) -> T:
    """The record that `dump` made the text of. Raises StoreError when it is no such text."""
    try:
        return _adapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        raise StoreError(
            f"{_first(kind, error)}; the text was damaged or written by another version of bilevel"
        ) from error


def dump_log(run: Run, records: Iterable[Record]) -> str:
    """A run with its whole log as one JSON text, for a file that others can read and replay.

    Of where task and tape were read from, which means something on this machine only, the name
    stays.
    """
    run = replace(run, source=PurePath(run.source).name, tape=PurePath(run.tape).name)
    listed = [{"type": type(r).__name__, "record": json.loads(dump(r))} for r in records]
    return json.dumps({"run": json.loads(dump(run)), "records": listed}, indent=1)


def load_log(text: str) -> tuple[Run, list[Record]]:
    """What `dump_log` made the text of, but for the leave to run code unguarded.

    That is the user's own, and no file brings it. Raises StoreError when it is no such text.
    """
    try:
        doc = json.loads(text)
        run = load(Run, json.dumps(doc["run"]))
        listed = [(KINDS[r["type"]], json.dumps(r["record"])) for r in doc["records"]]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"this is no exported run ({error!r}); make one with `bilevel show RUN --json`"
        ) from error
    return replace(run, allow_weak=False), [load(kind, record) for kind, record in listed]


def _adapter(kind: type[T]) -> TypeAdapter[T]:
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def _first(kind: type, error: ValidationError) -> str:
    """The first rule broken, where, and the value, in one line."""
    detail = error.errors(include_url=False)[0]
    where = ".".join([kind.__name__, *map(str, detail["loc"])])
    return f"{where} is {str(detail['input'])[:80]!r}: {detail['msg']}"
