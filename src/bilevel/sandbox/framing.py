"""Frames: a length of 4 bytes, little-endian, and that many bytes of JSON.

`parse` is for frames from a worker that may be hostile: it costs bounded time and memory.
Source of the bounds: a frame of 4 MB of `{},` cost 4.4 s and 200 MB before they were there.
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any

from bilevel.sandbox.errors import WrongFrame

HEADER = struct.Struct("<I")
MOST_BYTES = 2 * 2**20 + 4096
MOST_NODES = 200_000
MOST_DEPTH = 24
MOST_TEXT = 2**20


def frame(body: bytes) -> bytes:
    """The bytes to send. Raises ValueError for a body over 4 GiB."""
    if len(body) >= 2**32:
        raise ValueError(f"a frame holds less than 4 GiB, not {len(body)} bytes")
    return HEADER.pack(len(body)) + body


def length(header: bytes) -> int:
    """Bytes that follow. Raises WrongFrame when they are more than a worker may send."""
    size = int(HEADER.unpack(header)[0])
    if size > MOST_BYTES:
        raise WrongFrame(f"a frame announces {size} bytes; at most {MOST_BYTES} may come back")
    return size


def parse(body: bytes) -> dict[str, Any]:
    """The frame's JSON object, of finite numbers, moderate integers and whole characters.

    Raises WrongFrame.
    """
    nodes = body.count(b",") + body.count(b"[") + body.count(b"{")
    if nodes > MOST_NODES:
        raise WrongFrame(f"a frame holds some {nodes} values; at most {MOST_NODES} may come back")
    try:
        value = json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise WrongFrame(f"a frame is not JSON: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise WrongFrame(f"a frame is a {type(value).__name__}, not an object")
    _walk(value, 0)
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _walk(value: Any, depth: int) -> None:
    if depth > MOST_DEPTH:
        raise WrongFrame(f"a frame is nested over {MOST_DEPTH} deep")
    if isinstance(value, dict):
        for key, item in value.items():
            _walk(key, depth + 1)
            _walk(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _walk(item, depth + 1)
    elif isinstance(value, str):
        _text(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise WrongFrame("a frame holds a number beyond the range of floats")
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise WrongFrame("a frame holds an integer of over 64 bits")


def _text(value: str) -> None:
    if len(value) > MOST_TEXT:
        raise WrongFrame(f"a text has {len(value)} characters; at most {MOST_TEXT} may come back")
    if any("\ud800" <= c <= "\udfff" for c in value) if not value.isascii() else False:
        raise WrongFrame("a text holds half of a surrogate pair, which no log can hold")
