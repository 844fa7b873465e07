"""Commands run as a user types them, in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import psutil

from patience import PATIENCE


def bilevel(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bilevel", *words]
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")} | env
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def start(*words: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bilevel", *words]
    return subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def jobs_of(folder: Path) -> list[int]:
    """Processes whose working folder lies in `folder`."""
    found = []
    for process in psutil.process_iter(["cwd"]):
        if str(process.info["cwd"] or "").startswith(str(folder / ".bilevel")):
            found.append(process.pid)
    return found
