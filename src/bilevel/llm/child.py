"""A program that is given a text and leaves one, and of which nothing stays when it is over."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

OUTPUT_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Finished:
    """How a program ended. exit: its status, negative for a signal; None if its time was up."""

    exit: int | None
    out: str
    err: str
    seconds: float


def run(
    command: Sequence[str],
    text: str,
    timeout: float | None,
    beside: Mapping[str, str] | None = None,
) -> Finished:
    """Run a program on a text, in an empty folder, with this process's environment.

    beside: texts of files that lie beside that folder, by name; the program finds them as ../NAME.

    Its whole process group and all its children are killed when its time is up, when it ends, and
    when this call is interrupted. Raises OSError when it cannot be started.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bilevel-ask-") as name:
        folder = Path(name)
        (folder / "in").write_text(text, encoding="utf-8")
        for label, content in (beside or {}).items():
            (folder / label).write_text(content, encoding="utf-8")
        (folder / "empty").mkdir()
        # Files, not pipes: a grandchild that holds a pipe would make a program that ended look
        # hung, and one that never reads would block the writer.
        with (
            (folder / "in").open("rb") as given,
            (folder / "out").open("wb") as out,
            (folder / "err").open("wb") as err,
        ):
            process = subprocess.Popen(
                list(command),
                stdin=given,
                stdout=out,
                stderr=err,
                cwd=folder / "empty",
                start_new_session=True,
            )
            try:
                status = process.wait(timeout)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                _kill(process)
        out_text, err_text = _read(folder / "out"), _read(folder / "err")
    return Finished(status, out_text, err_text, time.monotonic() - start)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the program, its children, and its group, where they still live."""
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(OUTPUT_BYTES).decode("utf-8", "replace")
