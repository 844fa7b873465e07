"""Nothing that a worker can send costs the host more than that worker."""

from __future__ import annotations

import json
import os
import struct
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilevel.sandbox import framing
from bilevel.sandbox.errors import MechanismTimeout, WorkerDied, WrongFrame
from bilevel.sandbox.host import Worker

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
    max_leaves=20,
)


class Piped(Worker):
    """The host's end of a worker that is nothing but bytes already in its pipe."""

    def __init__(self, sent: bytes) -> None:
        self._ring = None
        self.theirs, self._write = os.pipe()
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        os.write(write, sent)
        os.close(write)
        self._number = 0

    def close(self) -> None:
        for descriptor in (self.theirs, self._read, self._write):
            os.close(descriptor)


def receive(sent: bytes) -> dict[str, Any]:
    """What the host makes of these bytes."""
    worker = Piped(sent)
    try:
        return worker._receive(time.monotonic() + 60)
    finally:
        worker.close()


@given(PLAIN)
def test_what_is_sent_comes_back(value: object) -> None:
    body = json.dumps({"value": value}).encode()
    assert framing.parse(body) == {"value": value}


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_any_bytes_are_a_frame_or_refused(body: bytes) -> None:
    with suppress(WrongFrame):
        assert isinstance(framing.parse(body), dict)


@given(st.binary(max_size=100), st.integers(0, 2**32 - 1) | st.none())
@settings(max_examples=200)
def test_any_bytes_in_the_pipe_end_the_call(body: bytes, size: int | None) -> None:
    sent = struct.pack("<I", len(body) if size is None else size) + body
    with pytest.raises((WrongFrame, WorkerDied)):
        receive(sent + b"more")


@given(st.integers(0, 3))
def test_a_frame_cut_short_is_a_dead_worker(kept: int) -> None:
    with pytest.raises(WorkerDied):
        receive(framing.frame(b'{"id": 1}')[:kept])


@pytest.mark.parametrize(
    "text",
    [
        b"[1]",
        b"NaN",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": 18446744073709551616}',
        b'{"a": "\\ud800"}',
        b'{"a": "\xff"}',
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' + b"[" * 30 + b"]" * 30 + b"}",
        b'{"a":[' + b"{}," * 600_000 + b"1]}",
        b'{"a":' + b"9" * 2_000_000 + b"}",
        b'{"a":"' + b"x" * (2**20 + 1) + b'"}',
        b"",
    ],
    ids=lambda text: text[:20].decode(errors="replace"),
)
def test_costly_and_impossible_json_is_refused_quickly(text: bytes) -> None:
    start = time.process_time()
    with pytest.raises(WrongFrame):
        framing.parse(text)
    assert time.process_time() - start < 1


def test_a_frame_is_refused_by_its_header() -> None:
    with pytest.raises(WrongFrame, match="4294967295 bytes"):
        framing.length(b"\xff\xff\xff\xff")


def test_a_worker_that_does_not_read_ends_at_the_deadline() -> None:
    worker = Piped(b"")
    try:
        with pytest.raises(MechanismTimeout):
            worker._send(b"x" * 2**20, time.monotonic() + 0.1)
    finally:
        worker.close()
