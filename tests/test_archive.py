"""A run's file comes back as it was written, and is refused when it is not what it was."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bilevel.archive import Archive, is_file, pack, read_log, unpack
from bilevel.codec import dump_log
from bilevel.errors import ConfigError, StoreError
from bilevel.model import Record, Run
from test_codec import RECORDS

RUN = next(r for r in RECORDS if isinstance(r, Run))
LOG: list[Record] = [r for r in RECORDS if not isinstance(r, Run)]
TIMES = ["2026-01-01T00:00:00.000001+00:00", *[None] * (len(LOG) - 1)]
ARCHIVE = Archive(RUN, LOG, TIMES, {"train.py": "X = 1\r\n\u2028"}, "9.9")


def packed(small: bool = False) -> bytes:
    return pack(RUN.id, ARCHIVE.documents(), ARCHIVE.version, small)


def repacked(change: Callable[[list[Any]], None], checksum: bool = True) -> bytes:
    """The file with some lines changed; checksum: mended, as somebody would who means it."""
    lines = [json.loads(line) for line in gzip.decompress(packed()).splitlines()]
    change(lines)
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines[1:])
    if checksum:
        lines[0]["sha256"] = hashlib.sha256(body).hexdigest()
    return gzip.compress(json.dumps(lines[0]).encode() + b"\n" + body)


def test_every_record_comes_back_with_its_time_and_the_files_with_their_texts() -> None:
    assert unpack(packed(), "x.jsonl.gz") == ARCHIVE
    assert {type(r) for r in LOG} == {type(r) for r in unpack(packed(), "x").records}


def test_equal_runs_make_equal_files() -> None:
    assert packed() == packed()


def test_xz_holds_the_same_in_less_room_where_texts_come_again_far_apart() -> None:
    text = random.Random(0).randbytes(30_000).hex()  # as prompts do; gzip sees 32 KiB back
    documents = replace(ARCHIVE, files={"a.txt": text, "b.txt": text}).documents()
    large, small = (pack(RUN.id, documents, "1", packs) for packs in (False, True))
    assert unpack(small, "x.jsonl.xz") == unpack(large, "x.jsonl.gz")
    assert pack(RUN.id, documents, "1", small=True) == small
    assert len(small) < 0.6 * len(large)


def test_the_header_says_what_it_is() -> None:
    header = json.loads(gzip.decompress(packed()).partition(b"\n")[0])
    assert (header["format"], header["version"], header["bilevel"]) == ("bilevel run", 1, "9.9")
    assert (header["run"], header["records"]) == (RUN.id, len(LOG))


def better(lines: list[Any]) -> None:
    next(x for x in lines if x.get("kind") == "Trial")["record"]["score"] = -0.1


def shorter(lines: list[Any]) -> None:
    lines.pop()


def later(lines: list[Any]) -> None:
    lines[0]["version"] = 2


def foreign(lines: list[Any]) -> None:
    lines[0]["format"] = "something else"


def odd(lines: list[Any]) -> None:
    lines[-1]["kind"] = "Dream"


def two(lines: list[Any]) -> None:
    lines.append({"run": lines[1]["run"]})


CUT, SMALL_CUT = packed()[:-20], packed(small=True)[:-20]
BROKEN = packed()[:5] + b"?" + packed()[6:200]
SMALL_BROKEN = packed(small=True)[:60] + b"?" + packed(small=True)[61:]


@pytest.mark.parametrize(
    ("data", "said"),
    [  # Each by name: bytes that hold a time would give each test process other tests.
        pytest.param(repacked(better, False), "changed or damaged after it was", id="better"),
        pytest.param(repacked(shorter, False), "changed or damaged after it was", id="shorter"),
        pytest.param(repacked(later), "version 2 of the format, written by", id="later"),
        pytest.param(repacked(foreign), "no exported run", id="foreign"),
        pytest.param(repacked(odd), "a record of kind 'Dream'", id="odd"),
        pytest.param(repacked(two), "2 runs", id="two"),
        pytest.param(CUT, "damaged", id="cut"),
        pytest.param(BROKEN, "damaged", id="broken"),
        pytest.param(b"", "no exported run", id="empty"),
        pytest.param(b"plain text", "not packed by gzip", id="plain"),
        pytest.param(SMALL_CUT, "damaged", id="small-cut"),
        pytest.param(SMALL_BROKEN, "damaged", id="small-broken"),
        pytest.param(gzip.compress(b"[1]\n"), "no exported run", id="no-header"),
        pytest.param(gzip.compress(b"\xff\xfe\n"), "no exported run", id="no-text"),
    ],
)
def test_what_is_not_what_it_was_is_refused_with_the_reason(data: bytes, said: str) -> None:
    with pytest.raises(StoreError, match=said):
        unpack(data, "x.jsonl.gz")


def test_a_file_that_unpacks_to_more_than_any_run_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bilevel.archive.LARGEST", 1000)
    with pytest.raises(StoreError, match="more than 1,000 bytes"):
        unpack(packed(), "x.jsonl.gz")


def test_a_log_is_read_from_each_kind_of_file(tmp_path: Path) -> None:
    text = dump_log(RUN, LOG).encode()
    files = {
        "a.jsonl.gz": packed(),
        "b.json": text,
        "c.json.gz": gzip.compress(text),
        "d.jsonl.xz": packed(small=True),
    }
    for name, data in files.items():
        assert is_file(name)
        (tmp_path / name).write_bytes(data)
        assert read_log(tmp_path / name) == (RUN, LOG)
    assert not is_file("gpt-1")
    assert not is_file(None)


def test_a_file_that_is_not_there_is_an_error_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file"):
        read_log(tmp_path / "gone.jsonl.gz")
