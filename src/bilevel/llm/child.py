"""A program that is given a text and leaves one, and of which nothing stays when it is over."""

from __future__ import annotations

import json
import math
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bilevel import supervisor

OUTPUT_BYTES = 16 * 2**20
POLL = 0.1  # seconds


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

    All that it starts is killed with it when its time is up, when it ends, and when this call is
    interrupted; see supervisor.py for what is covered, which elsewhere than on Linux is its process
    group alone. Raises OSError when it cannot be started.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bilevel-ask-") as name:
        folder = Path(name)
        (folder / "in").write_text(text, encoding="utf-8")
        for label, content in (beside or {}).items():
            (folder / label).write_text(content, encoding="utf-8")
        (folder / "empty").mkdir()
        status = _supervised(list(command), folder, timeout)
        out_text, err_text = _read(folder / "out"), _read(folder / "err")
    if status == 127 and out_text.startswith(supervisor.CANNOT):
        raise OSError(out_text.strip())
    return Finished(status, out_text, err_text, time.monotonic() - start)


def _supervised(command: list[str], folder: Path, timeout: float | None) -> int | None:
    """The program's exit status, None if its time was up; when this returns nothing of it runs."""
    # Files, not pipes: a grandchild that holds a pipe would make a program that ended look hung,
    # and one that never reads would block the writer.
    order = {
        "command": command,
        "cwd": str(folder / "empty"),
        "env": dict(os.environ),
        "log": str(folder / "out"),
        "timeout": math.inf if timeout is None else timeout,
        "max_output": sys.maxsize,
        "given": str(folder / "in"),
        "errors": str(folder / "err"),
    }
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", supervisor.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
        # By and by, for Ctrl-C reaches a thread only between two looks.
        while not select.select([process.stdout], [], [], POLL)[0]:
            pass
        said = process.stdout.read()
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()  # at which all that still runs is killed
        process.wait()
        process.stdout.close()
    if not said:
        return process.returncode or 1
    report = json.loads(said)
    return None if report["killed"] == "timeout" else int(report["exit"])


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(OUTPUT_BYTES).decode("utf-8", "replace")
