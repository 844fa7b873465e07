"""Every hostile source of the shared corpus, as this user and as another, on two levels."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacks import CORPUS, QUICK, Canaries, canaries, read_case, run_case

from bilevel.sandbox.sandboxed import Sandbox

NAMES = sorted(p.stem for p in CORPUS.glob("*.py"))
OTHER = 64001  # a user without a name, as in many containers
WHY_NO_CORPUS = f"the corpus of attacks is not at {CORPUS.name}/ beside the repository"
each_attack = pytest.mark.parametrize(
    "name", NAMES or [pytest.param("", marks=pytest.mark.skip(reason=WHY_NO_CORPUS))]
)


def heavy(name: str) -> list[str]:
    """Libraries that a case needs."""
    text = (CORPUS / f"{name}.py").read_bytes()
    return [lib for lib in ("numpy", "scipy", "sklearn") if f"import {lib}".encode() in text or
            f"from {lib}".encode() in text]  # fmt: skip


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(QUICK) as made:
        assert made.level().startswith("strict")
        yield made


@pytest.fixture(scope="module")
def canary() -> Iterator[Canaries]:
    with canaries() as made:
        yield made


@each_attack
def test_attack(name: str, sandbox: Sandbox, canary: Canaries) -> None:
    for library in heavy(name):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{name} needs {library}, which is not installed")
    _, problems = run_case(read_case(CORPUS / f"{name}.py"), sandbox, canary)
    assert not problems


def python_of_others() -> str | None:
    """An interpreter that the other user can start; ours may lie in a folder closed to them."""
    for path in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        check = [path, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        try:
            done = subprocess.run(check, user=OTHER, group=OTHER, extra_groups=[], check=False)
        except (PermissionError, FileNotFoundError):
            continue
        if done.returncode == 0:
            return path
    return None


@pytest.fixture(scope="module")
def as_other() -> dict[str, list[str]]:
    """Problems of each case, run as a user without rights and without Landlock."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user; this user has no rights already")
    python = python_of_others()
    if python is None:
        pytest.skip(f"user {OTHER} can start no Python of 3.11 or later on this machine")
    names = [n for n in NAMES if not heavy(n)]
    done = subprocess.run(
        [python, str(Path(__file__).with_name("attacks.py")), str(CORPUS), *names],
        user=OTHER,
        group=OTHER,
        extra_groups=[],
        env={"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "LANG": "C.UTF-8"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (_, level, uid), *rows = map(json.loads, done.stdout.splitlines())
    assert (level, uid) == ("strict", OTHER)
    return {name: problems for name, _, problems in rows}


@each_attack
def test_attack_on_another_user(name: str, as_other: dict[str, list[str]]) -> None:
    if heavy(name):
        pytest.skip(f"{name} needs {heavy(name)[0]}, which that user may not have")
    assert as_other[name] == []
