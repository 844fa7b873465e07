"""What comes into the library from files: a person's mechanism, or what another library exported.

No source gets in untried: the gate judges it on a run of its task where there is one, else the
suite that every mechanism passes does.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from bilevel import codec
from bilevel.conformance.mechanism import check_mechanism
from bilevel.errors import ConfigError
from bilevel.gate.gate import Gate
from bilevel.gate.mending import is_mechanism
from bilevel.gate.normalise import normalise
from bilevel.gate.screening import screening
from bilevel.library.library import Entry, kinds
from bilevel.model import MechanismSource, Record, Run, Trial
from bilevel.protocols import Task
from bilevel.sandbox.policy import lint
from bilevel.sandbox.sandboxed import Sandbox
from bilevel.store.library import Library
from bilevel.task_jobs import find_task, fingerprint
from bilevel.workspace import Workspace

FORMAT = 1
SUITE = "the suite for mechanisms"


@dataclass(frozen=True)
class Imported:
    """What became of an import. refused: by sha, the name and what is wrong."""

    new: tuple[str, ...]
    known: tuple[str, ...]
    refused: Mapping[str, str]


def add(workspace: Workspace, path: Path, task_name: str, sandbox: Sandbox) -> Entry:
    """A person's mechanism, put into the library as one for this task.

    The latest run of the very task that got past its baseline is what the gate judges it on.
    Raises ConfigError with what the gate, or else the suite, says against it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; give a Python file") from error
    task, _ = find_task(task_name)
    source, words = normalise(text), ""
    sha = _sha(source)
    if sha in workspace.library.shas():
        raise ConfigError(f"{path} is there already; see `bilevel library show {sha[:8]}`")
    past = _latest(workspace, task)
    if past is None:
        passed, words = SUITE, "; ".join(nonconforming(source, sandbox))
    else:
        run, records = past
        screen = partial(screening, run, records) if find_spec("sklearn") else None
        verdict = Gate(run, records, tuple, sandbox, screen).judge(text)
        passed = f"the gate, on {run.id}"
        words = f"{verdict.rule}: {verdict.words}" if verdict.rule else ""
    if words:
        raise ConfigError(f"{path} did not pass {passed}: {words}")
    entry = Entry(
        source=_described(source, f"file {path.name}"),
        task=task.name,
        parameters=kinds(task.space),
        passed=passed,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    workspace.library.add(entry)
    return entry


def nonconforming(source: str, sandbox: Sandbox) -> list[str]:
    """What the rules for sources and the suite for mechanisms say against one.

    Raises SandboxRefused where no code that is not ours may run.
    """
    problems = lint(source)
    return problems or [str(p) for p in check_mechanism(lambda: sandbox.load(source))]


def exported(entries: Sequence[Entry]) -> str:
    """Mechanisms with all that is known of them, as one JSON text that `take` reads."""
    listed = [json.loads(codec.dump(entry)) for entry in entries]
    return json.dumps({"library": FORMAT, "mechanisms": listed}, indent=1) + "\n"


def take(library: Library, text: str, check: Callable[[str], Sequence[str]]) -> Imported:
    """Put in what `exported` made the text of, its records joined with what is there.

    check: what speaks against a source; such a one stays out. Raises ConfigError, and StoreError
    for a text that is no such one, before anything is put in.
    """
    entries = _read(text)
    wrong = {e.sha: (e.source.name, check(e.source.source)) for e in entries}
    refused = {sha: f"{name}: {'; '.join(words)}" for sha, (name, words) in wrong.items() if words}
    taken = {e.sha: library.add(e) for e in entries if e.sha not in refused}
    return Imported(
        tuple(sha for sha, new in taken.items() if new),
        tuple(sha for sha, new in taken.items() if not new),
        refused,
    )


def _read(text: str) -> list[Entry]:
    try:
        document = json.loads(text)
        found, listed = document["library"], document["mechanisms"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"this is no exported library ({error!r}); make one with `bilevel library export`"
        ) from error
    if found != FORMAT:
        raise ConfigError(f"the library has format {found!r}, and this bilevel reads {FORMAT}")
    entries = [codec.load(Entry, json.dumps(one)) for one in listed]
    for entry in entries:
        real = _sha(entry.source.source)
        if real != entry.sha:
            raise ConfigError(
                f"the source of {entry.source.name} has sha {real[:12]}, but the file says "
                f"{entry.sha[:12]}: it is not the text that was exported; get the file anew"
            )
        if not entry.source.name.isidentifier():
            raise ConfigError(f"a mechanism's name is {entry.source.name!r} but must be a class's")
    return entries


def _latest(workspace: Workspace, task: Task) -> tuple[Run, list[Record]] | None:
    """The latest run of this task, unchanged since, that evaluated a proposal, with its log."""
    mark = fingerprint(task)
    for run in reversed(workspace.store.runs()):
        if run.task == task.name and run.fingerprint == mark:
            records = workspace.records(run.id)
            if any(isinstance(r, Trial) and r.role == "search" for r in records):
                return run, records
    return None


def _sha(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


def _described(source: str, origin: str) -> MechanismSource:
    """The source with the name and the first line of its class."""
    classes = [n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and is_mechanism(n)]
    summary = (ast.get_docstring(classes[0]) or "").partition("\n")[0]
    return MechanismSource(_sha(source), classes[0].name, source, summary, origin=origin)
