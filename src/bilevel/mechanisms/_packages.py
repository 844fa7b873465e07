"""Mechanisms of other packages, first imported in a process of their own, whatever that does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from importlib import metadata

from bilevel.errors import BrokenPackage

GROUP = "bilevel.mechanisms"
IMPORT = 60.0  # seconds that another package may take to be imported
READ = f"""
import inspect, json, sys
from importlib import metadata
(point, *_) = metadata.entry_points(group={GROUP!r}, name=sys.argv[1])
made = point.load()
made()
text = inspect.getsource(inspect.getmodule(made) or made)
print("\\n" + json.dumps(text), flush=True)
"""


def package(point: metadata.EntryPoint) -> str:
    """The name of the package that gives it."""
    return point.dist.name if point.dist else point.value


def text_of(point: metadata.EntryPoint) -> str:
    """The text of the module that a package gives, which can be imported and makes a mechanism.

    Raises BrokenPackage with the exit status and the last words of the process that tried.
    """
    text, why = _tried(point.name, tuple(sys.path))
    if why:
        raise BrokenPackage(
            f"the package {package(point)} fails to give {point.name} ({point.value}): {why}; "
            "mend or uninstall it"
        )
    return text


@cache
def _tried(name: str, path: tuple[str, ...]) -> tuple[str, str]:
    """What READ prints last, or why it prints nothing; once in a process."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", READ, name],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=IMPORT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "", f"it takes over {IMPORT:g} s to import"
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["without a word"]
        return "", f"exit status {done.returncode}, {words[-1]}"
    text: str = json.loads(done.stdout.splitlines()[-1])
    return text, ""
