"""The layers that a run begins with: shipped or third-party ones by name, a user's own by file."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from pathlib import Path

from bilevel import mechanisms
from bilevel.errors import ConfigError
from bilevel.model import Decision, MechanismSource, Run
from bilevel.protocols import Store
from bilevel.sandbox import policy
from bilevel.sandbox.sandboxed import Sandbox, held, wall_of
from bilevel.stack import Layer


def source(name: str) -> MechanismSource:
    """What a name or a path ending in .py names. Raises ConfigError."""
    if not name.endswith(".py"):
        return mechanisms.source(name)
    try:
        text = Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"mechanism {name} cannot be read: {error}") from error
    if problems := policy.lint(text):
        raise ConfigError(
            f"mechanism {name}: {'; '.join(problems)} (see `bilevel mechanisms check {name}`)"
        )
    return MechanismSource(hashlib.sha256(text.encode()).hexdigest(), Path(name).stem, text)


def entries(names: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """A stack as a run keeps it: NAME@SHA, lowest first, and by sha the texts of files.

    Raises ConfigError, also where two names stand for the same text, as what a layer does is
    known by its text.
    """
    found = [source(name) for name in names]
    first: dict[str, str] = {}
    for name, sha in zip(names, (s.sha for s in found), strict=True):
        if sha in first:
            other = "" if first[sha] == name else f", whose text is that of {first[sha]}"
            raise ConfigError(
                f"a stack holds each mechanism once, and this one has {name} twice{other}; "
                "leave one of them out"
            )
        first[sha] = name
    own = {s.sha: s.source for name, s in zip(names, found, strict=True) if name.endswith(".py")}
    return tuple(f"{s.name}@{s.sha}" for s in found), own


def needs_sandbox(run: Run) -> bool:
    """Whether the run holds code that is not ours: generated, or a user's file."""
    return run.outer.research != "off" or bool(run.sources or run.library)


def held_now(run: Run) -> str:
    """How well this machine holds the run's code, "" where it has none that is not ours.

    Where nothing holds it that is `weak`, whether or not the run may go on so.
    """
    return held(True, wall_of(run.sandbox)) if needs_sandbox(run) else ""


def layers(run: Run, sandbox: Sandbox | None = None) -> list[Layer]:
    """Fresh layers of the run's stack; a user's own file runs in the sandbox.

    Raises ConfigError when a shipped one has changed, MissingExtra, MechanismError.
    """
    made = []
    for entry in run.stack:
        name, _, sha = entry.rpartition("@")
        if sha in run.sources:
            assert sandbox is not None, "needs_sandbox() says so"
            mechanism = sandbox.load(run.sources[sha])
            layer = Layer(sha, name, mechanism, mechanism.close)
        else:
            layer = _shipped(run, name, sha)
        if sha in run.states:
            layer.mechanism._restore(run.states[sha])
        made.append(layer)
    return made


def _shipped(run: Run, name: str, sha: str) -> Layer:
    if sha != mechanisms.source(name).sha:
        raise ConfigError(
            f"mechanism {name} has changed since {run.id} began; restore it, or start a new run"
        )
    return Layer(sha, name, mechanisms.load(name))


def _remembers(name: str) -> bool:
    """Whether a mechanism says that it does; a file is read for it, and not run here."""
    if not name.endswith(".py"):
        return mechanisms.load(name).remembers
    tree = ast.parse(source(name).source)
    body = [line for made in tree.body if isinstance(made, ast.ClassDef) for line in made.body]
    said = {
        ast.unparse(target): line.value
        for line in body
        if isinstance(line, ast.Assign | ast.AnnAssign)
        for target in (line.targets if isinstance(line, ast.Assign) else [line.target])
    }
    value = said.get("remembers")
    return isinstance(value, ast.Constant) and value.value is True


def remembered(store: Store, task: str, stack: Sequence[str]) -> dict[str, str]:
    """By sha, the last state in this task's earlier runs of each mechanism that remembers.

    A user's own file is the same mechanism as long as its text is. Raises ConfigError.
    """
    wanted = {source(name).sha for name in stack if _remembers(name)}
    states: dict[str, str] = {}
    for run in store.runs() if wanted else []:
        if run.task == task:
            decisions = [d for _, d in store.read(run.id, Decision)]
            states |= {d.layer: d.state for d in decisions if d.layer in wanted}
    return states
