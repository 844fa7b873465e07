"""Checks of machine, libraries, weights, keys and a task: what is wrong, and the remedy.

Nothing heavy is imported and nothing is fetched. Of a key only its name is ever looked at.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from ctypes.util import find_library
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil

from bilevel.errors import BilevelError
from bilevel.llm.keys import from_keyring
from bilevel.llm.providers import PROVIDERS
from bilevel.model import Outcome
from bilevel.sandbox import policy, wasm
from bilevel.sandbox.errors import SandboxRefused
from bilevel.sandbox.sandboxed import Sandbox

GIB = 2**30
PYTHON = (3, 11)
BUSY_PERCENT = 50.0
SAMPLE_SECONDS = 0.5
MEMORY_LEAST, MEMORY_GOOD = 1.5 * GIB, 3 * GIB  # 1.1 GB of weights, their context, and a job
DISK_LEAST, DISK_GOOD = 0.2 * GIB, GIB
EXTRAS = {"xllamacpp": "local", "torch": "gpt", "numpy": "gpt", "matplotlib": "plots"}
KEYS = ("BILEVEL_API_KEY", *(name for p in PROVIDERS.values() for name in p.keys))
NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "fuse.sshfs", "afs", "lustre")

GPU_QUERY = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
GPU_SECONDS = 15.0

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One thing looked at: what was found, and what to do about it unless it is ok."""

    name: str
    status: Level
    found: str
    remedy: str = ""


def checks(
    home: Path,
    task: str | None = None,
    *,
    baseline: Callable[[str], Outcome] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> list[Check]:
    """All checks, in the order in which a newcomer needs them.

    home: the folder of the store. task: a task to load as well. baseline: runs the task's own
    values once; without it the task is only read.
    """
    found = [
        python(sys.version_info[:3]),
        cores(_usable_cores(), psutil.cpu_percent(SAMPLE_SECONDS)),
        memory(psutil.virtual_memory().available),
        folder("runs folder", home, DISK_GOOD, "give another with --home"),
        sqlite(home),
        *(library(name, extra) for name, extra in EXTRAS.items()),
        openmp(find_library("gomp")),
        gpu(),
        sandbox(),
        keys(environ),
        *weights(),
    ]
    return found if task is None else [*found, *task_checks(task, baseline)]


def python(version: tuple[int, ...]) -> Check:
    """Whether the interpreter is recent enough."""
    found, least = ".".join(map(str, version)), ".".join(map(str, PYTHON))
    if version >= PYTHON:
        return Check("Python", "ok", found)
    return Check("Python", "fail", found, f"install Python {least} or later")


def cores(count: int, busy: float) -> Check:
    """Cores that this process may use, and how busy all are just now, in per cent."""
    found = f"{count} usable, {busy:.0f} % busy"
    if busy >= BUSY_PERCENT:
        remedy = "stop other work first: the embedded LLM slows down several times beside it"
        return Check("cores", "warn", found, remedy)
    return Check("cores", "ok", found)


def memory(available: float) -> Check:
    """Bytes of memory that are free for the LLM and a job."""
    found = f"{available / GIB:.1f} GiB available"
    if available >= MEMORY_GOOD:
        return Check("memory", "ok", found)
    status: Level = "warn" if available >= MEMORY_LEAST else "fail"
    remedy = f"free some ({MEMORY_GOOD / GIB:g} GiB is comfortable) or use an LLM over the network"
    return Check("memory", status, found, remedy)


def folder(name: str, path: Path, need: float, other: str) -> Check:
    """Whether a folder can be written, or made, and has `need` bytes of space.

    other: how to give another folder.
    """
    at = _existing(path)
    try:
        with tempfile.TemporaryDirectory(prefix=".bilevel-doctor-", dir=at):
            pass
    except OSError as error:
        return Check(name, "fail", f"{path}: {error}", f"allow writing there, or {other}")
    free = shutil.disk_usage(at).free
    found = f"{path} is writable, {free / GIB:.1f} GiB free"
    if free >= need:
        return Check(name, "ok", found)
    remedy = f"make room for {need / GIB:.1f} GiB, or {other}"
    return Check(name, "warn" if free >= DISK_LEAST else "fail", found, remedy)


def sqlite(home: Path) -> Check:
    """Whether SQLite can keep a store on the file system of `home`, in WAL mode."""
    at, found = _existing(home), f"SQLite {sqlite3.sqlite_version}"
    remedy = "give a folder on a local disk with --home"
    try:
        with tempfile.TemporaryDirectory(prefix=".bilevel-doctor-", dir=at) as name:
            mode = _journal_mode(Path(name) / "probe.sqlite")
    except (OSError, sqlite3.Error) as error:
        return Check("store", "fail", f"{found} cannot write at {at}: {error}", remedy)
    if mode != "wal":
        return Check("store", "fail", f"{found} has no WAL at {at}, only {mode}", remedy)
    kind = _file_system(at)
    if kind.startswith(NETWORK_FILE_SYSTEMS):
        return Check("store", "warn", f"{found} on {kind}, whose locks are not reliable", remedy)
    return Check("store", "ok", f"{found}, WAL works")


def _journal_mode(path: Path) -> str:
    connection = sqlite3.connect(path)
    try:
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        connection.execute("CREATE TABLE probe (x)")
    finally:
        connection.close()
    return str(mode)


def _file_system(path: Path) -> str:
    """Type of the file system that holds `path`, "" if unknown."""
    at = path.resolve()
    mounts = [m for m in psutil.disk_partitions(all=True) if at.is_relative_to(m.mountpoint)]
    return max(mounts, key=lambda m: len(m.mountpoint)).fstype if mounts else ""


def library(name: str, extra: str) -> Check:
    """Whether a library of an extra is installed, without importing it."""
    try:
        return Check(name, "ok", metadata.version(name))
    except metadata.PackageNotFoundError:
        return Check(name, "warn", "not installed", f"pip install 'bilevel[{extra}]'")


def openmp(found: str | None) -> Check:
    """Whether the system has the OpenMP library that xllamacpp needs; slim images lack it."""
    if found is None:
        remedy = "if the embedded LLM does not start: apt-get install libgomp1"
        return Check("OpenMP", "warn", "libgomp is not found", remedy)
    return Check("OpenMP", "ok", found)


def gpu(program: str = "nvidia-smi", seconds: float = GPU_SECONDS) -> Check:
    """The NVIDIA GPUs that the driver reports; none is fine."""
    path = shutil.which(program)
    if path is None:
        return Check("GPU", "ok", "none; everything runs on the CPU")
    remedy = f"see that `{program}` works, or go on with the CPU"
    try:
        done = subprocess.run(
            [path, *GPU_QUERY], capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return Check("GPU", "warn", f"{program} gave no answer in {seconds:g} s", remedy)
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if done.returncode or not lines:
        return Check("GPU", "warn", f"{program} ended with status {done.returncode}", remedy)
    return Check("GPU", "ok", "; ".join(lines))


def sandbox() -> Check:
    """How well generated code is held here; starts a worker, which tries to break out."""
    with Sandbox() as held:
        try:
            level = held.level()
        except SandboxRefused as error:
            remedy = "mend what is named there; until then no generated mechanism can run"
            return Check("sandbox", "fail", str(error), remedy)
    found = f"{level}: {policy.describe(level)}"
    if held.no_ring:
        found += f". No outer ring: {held.no_ring[:200]}"
    if wasm.installed():
        found += ". With --sandbox wasm: in a WebAssembly guest instead"
    remedy = "use Linux (x86_64 or aarch64), if need be in a container" if level == "weak" else ""
    return Check("sandbox", "warn" if remedy else "ok", found, remedy)


def keys(environ: Mapping[str, str]) -> Check:
    """Names of the API keys that are set, and where; what to is nobody's business here."""
    there = [name for name in KEYS if name in environ]
    bad = [name for name in there if not environ[name] or environ[name] != environ[name].strip()]
    if bad:
        names, verb = ", ".join(bad), "is" if len(bad) == 1 else "are"
        found = f"{names} {verb} empty or begins or ends with a space or newline"
        return Check("API keys", "warn", found, f"set {names} again, or unset it")
    held = [name for name in KEYS if name not in there and from_keyring(name)]
    if not there and not held:
        return Check("API keys", "ok", "none; the embedded LLM needs none")
    named = [f"{n} (environment)" for n in there] + [f"{n} (keyring)" for n in held]
    return Check("API keys", "ok", ", ".join(named))


def weights() -> list[Check]:
    """The models whose weights are on this machine and, if the default's are not, room for them."""
    from bilevel.llm import weights as stored

    models = stored.available()
    here = [model.name for model in models if stored.locate(model) is not None]
    found = [weights_found(models[0].name, here)]
    if models[0].name not in here:
        need = models[0].bytes + DISK_LEAST
        found.append(
            folder("weights folder", stored.folder(), need, "set BILEVEL_CACHE to another")
        )
    return found


def weights_found(default: str, here: list[str]) -> Check:
    """What it means that the weights of the models in `here` have been fetched."""
    if default in here:
        return Check("weights", "ok", ", ".join(here))
    found = f"{default}, the default, is not here yet"
    if here:
        found += f"; here are {', '.join(here)}"
    return Check("weights", "warn", found, f"bilevel models pull {default}")


def task_checks(task: str, baseline: Callable[[str], Outcome] | None = None) -> list[Check]:
    """Whether a task can be read and, given a way to run it, whether its own values succeed."""
    from bilevel.task_jobs import find_task

    try:
        loaded, source = find_task(task)
    except BilevelError as error:
        return [
            Check("task", "fail", str(error), "mend it; `bilevel init SCRIPT` writes a new one")
        ]
    goal = f"{loaded.objective.metric} ({loaded.objective.direction})"
    read = Check("task", "ok", f"{loaded.name}: {len(loaded.space)} parameters, {goal}, {source}")
    return [read] if baseline is None else [read, baseline_check(task, baseline)]


def baseline_check(task: str, baseline: Callable[[str], Outcome]) -> Check:
    """Whether the task succeeds with its own values; runs it."""
    remedy = "run the task by hand and mend it; no search can start from a failing baseline"
    try:
        outcome = baseline(task)
    except BilevelError as error:
        return Check("baseline", "fail", str(error), remedy)
    if outcome.value is None:
        return Check("baseline", "fail", f"{outcome.status}: {outcome.error}", remedy)
    return Check("baseline", "ok", f"it runs and gives {outcome.value:g}")


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux; a container may be bound to a few of all cores
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _existing(path: Path) -> Path:
    """The path, or the nearest above it that exists."""
    at = path.absolute()
    while not at.exists():
        at = at.parent
    return at
