"""A run as one file: packed JSON lines that say what they are and hold their own checksum.

Packed by gzip, or by xz, which takes twice the time and half the room, as the file's name says.

The first line is the header: format, its version, the version of bilevel, the run's name, how many
records there are, and the sha256 of all bytes after that line. Then a line for the run, one for
each file of its task, and one for each record, in order, with the time at which it was logged.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import bilevel
from bilevel import codec
from bilevel.errors import ConfigError, StoreError
from bilevel.model import Record, Run

__all__ = ["SMALL", "SUFFIX", "Archive", "is_file", "pack", "read_archive", "read_log", "unpack"]

FORMAT = "bilevel run"
VERSION = 1
SUFFIX = ".jsonl.gz"
SMALL = ".jsonl.xz"
XZ = b"\xfd7zXZ\x00"  # the first bytes of such a file
LARGEST = 2 * 2**30


@dataclass(frozen=True)
class Archive:
    """A run, its log and the files of its task, as one file holds them.

    times: when each record was logged, ISO 8601 in UTC, None where the log does not say. files:
    texts by relative path; `run.source` is one of them, if there are any. version: of the bilevel
    that wrote it.
    """

    run: Run
    records: Sequence[Record]
    times: Sequence[str | None]
    files: Mapping[str, str] = field(default_factory=dict)
    version: str = bilevel.__version__

    def documents(self) -> list[dict[str, Any]]:
        """The lines after the header, as JSON values."""
        listed: list[dict[str, Any]] = [{"run": json.loads(codec.dump(self.run))}]
        listed += [{"file": path, "text": text} for path, text in self.files.items()]
        for record, at in zip(self.records, self.times, strict=True):
            line = {"kind": type(record).__name__, "at": at}
            listed.append({**line, "record": json.loads(codec.dump(record))})
        return listed


def pack(
    run: str, documents: Sequence[Mapping[str, Any]], version: str, small: bool = False
) -> bytes:
    """The file that holds these documents of that bilevel's; of equal ones always the same.

    small: packed by xz and not by gzip.
    """
    body = b"".join(_line(document) for document in documents)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "bilevel": version,
        "run": run,
        "records": sum("record" in d for d in documents),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    data = _line(header) + body
    return lzma.compress(data) if small else gzip.compress(data, mtime=0)


def unpack(data: bytes, name: str) -> Archive:
    """What `pack` made the file of; `name` stands for it in messages.

    Raises StoreError when it is none, was changed after it was written, or is of a later format.
    """
    first, _, body = _unzipped(data, name).partition(b"\n")
    header = _parsed(first, name)
    if header.get("format") != FORMAT:
        raise StoreError(f"{name} is no exported run; make one with `bilevel export RUN FILE`")
    if header.get("version") != VERSION:
        raise StoreError(
            f"{name} has version {header.get('version')} of the format, written by bilevel "
            f"{header.get('bilevel')}, but this bilevel, {bilevel.__version__}, reads version "
            f"{VERSION}; update bilevel"
        )
    found = hashlib.sha256(body).hexdigest()
    if found != header.get("sha256"):
        raise StoreError(
            f"{name} was changed or damaged after it was written: its content has the sha256 "
            f"{found[:12]}, but its header says {str(header.get('sha256'))[:12]}; get it anew from "
            "whoever exported it"
        )
    return _archive([_parsed(line, name) for line in body.splitlines()], header, name)


def read_archive(path: Path) -> Archive:
    """The archive in a file. Raises ConfigError without one, and StoreError as `unpack` does."""
    return unpack(_bytes(path), path.name)


def is_file(name: str | None) -> bool:
    """Whether the name of a run names a file that `read_log` takes."""
    return name is not None and name.endswith((".json", ".json.gz", SUFFIX, SMALL))


def read_log(path: Path) -> tuple[Run, list[Record]]:
    """The run and log of an exported file, or of one that `show --json` printed, packed or not.

    Raises ConfigError where there is no such file, StoreError when it holds something else.
    """
    if path.name.endswith((SUFFIX, SMALL)):
        archive = read_archive(path)
        return archive.run, list(archive.records)
    data = _bytes(path)
    text = _unzipped(data, path.name) if path.name.endswith(".gz") else data
    return codec.load_log(text.decode())


def _archive(lines: Sequence[Mapping[str, Any]], header: Mapping[str, Any], name: str) -> Archive:
    runs = [line["run"] for line in lines if "run" in line]
    logged = [line for line in lines if "record" in line]
    unknown = [line["kind"] for line in logged if line["kind"] not in codec.KINDS]
    if len(runs) != 1 or unknown:
        what = f"a record of kind {unknown[0]!r}" if unknown else f"{len(runs)} runs"
        raise StoreError(f"{name} holds {what}, written by bilevel {header['bilevel']}; update")
    records = [codec.load(codec.KINDS[x["kind"]], json.dumps(x["record"])) for x in logged]
    files = {line["file"]: line["text"] for line in lines if "file" in line}
    run = replace(codec.load(Run, json.dumps(runs[0])), allow_weak=False)  # nobody's leave here
    return Archive(run, records, [x["at"] for x in logged], files, header["bilevel"])


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise ConfigError(f"there is no file {path}; give a run's name or an exported run")
    return path.read_bytes()


def _unzipped(data: bytes, name: str) -> bytes:
    opened = lzma.open if data.startswith(XZ) else gzip.open
    try:
        with opened(io.BytesIO(data)) as file:
            text = file.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise StoreError(
            f"{name} is not packed by gzip or xz, or damaged ({error}); get it anew"
        ) from error
    if len(text) > LARGEST:
        raise StoreError(f"{name} holds more than {LARGEST:,} bytes, more than any run; refused")
    return text


def _parsed(line: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise StoreError(f"{name} is no exported run ({error}); see `bilevel export`") from error
    if not isinstance(value, dict):
        raise StoreError(f"{name} is no exported run; make one with `bilevel export RUN FILE`")
    return value


def _line(document: Mapping[str, Any]) -> bytes:
    text = json.dumps(document, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.encode() + b"\n"
