"""Every hostile source of the shared corpus, as this user and as another, on every level."""

from __future__ import annotations

import importlib.util
import json
import os
import site
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from attacks import (
    BENIGN,
    CORPUS,
    QUICK,
    TOOLS,
    Canaries,
    armed,
    canaries,
    patience,
    read_case,
    run_case,
)

from bilevel.model import Fault, Proposal, Trial
from bilevel.sandbox.errors import MechanismError
from bilevel.sandbox.sandboxed import Sandbox
from bilevel.stack import Layer
from worlds import Log, build

NAMES = sorted(p.stem for p in CORPUS.glob("*.py"))
FAULTS = {"MechanismRaised", "MechanismTimeout", "WorkerDied", "WrongFrame"}
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


def skip_unless_whole(name: str) -> None:
    """Skip a case whose libraries are not here."""
    for library in heavy(name):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{name} needs {library}, which is not installed")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(QUICK, ring=False) as made:
        assert made.level().startswith("strict")
        yield made


@pytest.fixture(scope="module")
def patient() -> Iterator[Sandbox]:
    """For the layer beside an attack, whose limits are not the attack's."""
    with Sandbox(QUICK, ring=False) as made:
        yield made


@pytest.fixture(scope="module")
def canary() -> Iterator[Canaries]:
    with canaries() as made:
        yield made


@each_attack
def test_attack(name: str, sandbox: Sandbox, canary: Canaries) -> None:
    skip_unless_whole(name)
    _, problems = run_case(read_case(CORPUS / f"{name}.py"), sandbox, canary)
    assert not problems


@each_attack
def test_the_loop_ends_as_it_should_with_the_attack_as_a_layer(
    name: str, sandbox: Sandbox, patient: Sandbox, canary: Canaries
) -> None:
    """Every evaluation made, each call answered or a fault on record, the layer above at work."""
    skip_unless_whole(name)
    case, log = read_case(CORPUS / f"{name}.py"), Log()
    good = patient.load(BENIGN)
    layers = [Layer("good", "counts", good, good.close)]
    sandbox.limits = patience(case)
    with suppress(MechanismError):  # What does not load never joins.
        hostile = sandbox.load(armed(case, canary), modules=TOOLS)
        layers.insert(0, Layer("hostile", name, hostile, hostile.close))
    stop = build(log, evals=2, layers=layers).go()
    sandbox.limits = QUICK
    made = [t for t in log if isinstance(t, Trial) and t.role == "search"]
    plans = sum(isinstance(r, Proposal) for r in log)
    faults = [r for r in log if isinstance(r, Fault)]
    assert (stop.reason, len(made)) == ("done", 2)
    assert good.state == {"n": plans}
    assert {f.layer for f in faults} <= {"hostile"}
    assert {f.kind for f in faults} <= FAULTS
    assert not canary.touched()
    for layer in layers:
        layer.close()


# Who attacks, and what the worker is given beside its filter of system calls. The test above is
# this user with what the machine has, without bwrap.
SETTINGS = (
    ("this user",),
    ("this user", "landlock", "bwrap"),
    ("another user",),
    ("another user", "landlock"),
    ("another user", "bwrap"),
)


@cache
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


def attack(user: str, words: tuple[str, ...], names: list[str]) -> list[list[Any]]:
    """What attacks.py prints, run by a user."""
    python, other = sys.executable, {}
    if user == "another user":
        if os.getuid() != 0:
            pytest.skip("only root can become another user; this user has no rights already")
        found = python_of_others()
        if found is None:
            pytest.skip(f"user {OTHER} can start no Python of 3.11 or later on this machine")
        python, other = found, {"user": OTHER, "group": OTHER, "extra_groups": []}
    paths = (Path(__file__).parents[2] / "src", *map(Path, site.getsitepackages()))
    done = subprocess.run(
        [python, str(Path(__file__).with_name("attacks.py")), str(CORPUS), *words, *names],
        env={"PYTHONPATH": os.pathsep.join(map(str, paths)), "PATH": os.environ["PATH"]},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        **other,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("setting", SETTINGS, ids=" ".join)
def test_all_attacks_on_every_level(setting: tuple[str, ...], sandbox: Sandbox) -> None:
    user, *words = setting
    if "landlock" in words and "landlock" not in sandbox.level():
        pytest.skip("this kernel has no Landlock")
    names = [n for n in NAMES if not heavy(n)]  # the libraries are the same on every level
    if not names:
        pytest.skip(WHY_NO_CORPUS)
    (level, no_ring), *rows = attack(user, tuple(words), names)
    if "bwrap" in words and no_ring:
        pytest.skip(f"no bubblewrap for {user}: {no_ring}")
    assert level == "+".join(["strict", *words])
    assert sorted(name for name, _, _ in rows) == names
    assert {name: problems for name, _, problems in rows if problems} == {}
