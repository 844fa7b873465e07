"""Search mechanisms by name: one file each here, and those that other packages add.

A package adds one by an entry point of the group `bilevel.mechanisms`, its name the mechanism's,
its value `module:Class`. One with the name of a file here stands back behind that file.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import inspect
from importlib import import_module, metadata
from pathlib import Path

from bilevel.errors import ConfigError, MissingExtra
from bilevel.mechanism import Mechanism
from bilevel.mechanisms._packages import GROUP, package, text_of
from bilevel.model import MechanismSource

__all__ = ["code_lines", "hidden", "load", "names", "source"]

HERE = Path(__file__).parent


def names() -> tuple[str, ...]:
    """All mechanisms that `load` knows, those of other packages last."""
    own = _own()
    others = {e.name for e in metadata.entry_points(group=GROUP)}
    return (*own, *sorted(others.difference(own)))


def _other(name: str) -> metadata.EntryPoint | None:
    """What another package gives by this name, None where the name is ours or unknown."""
    found = () if name in _own() else tuple(metadata.entry_points(group=GROUP, name=name))
    return found[0] if found else None


def hidden(name: str) -> tuple[str, ...]:
    """Packages that give a mechanism of this name as well, which is ours and stands for it."""
    points = metadata.entry_points(group=GROUP, name=name) if name in _own() else ()
    return tuple(package(point) for point in points)


def load(name: str) -> Mechanism:
    """A fresh mechanism.

    Raises ConfigError for an unknown name, BrokenPackage, and MissingExtra for its library.
    """
    point = _other(name)
    if point is not None:
        text_of(point)
        made: Mechanism = point.load()()
        return made
    _path(name)
    try:
        module = import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"mechanism {name} needs {error.name}, which is not installed; "
            "get it: pip install 'bilevel[search]'"
        ) from error
    (kind,) = [
        k
        for k in vars(module).values()
        if inspect.isclass(k) and issubclass(k, Mechanism) and k.__module__ == module.__name__
    ]
    return kind()


def source(name: str) -> MechanismSource:
    """A mechanism's text and identity, without importing it here.

    Raises ConfigError for an unknown name, and BrokenPackage.
    """
    point = _other(name)
    text = text_of(point) if point is not None else _path(name).read_text(encoding="utf-8")
    summary = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    return MechanismSource(hashlib.sha256(text.encode()).hexdigest(), name, text, summary)


def code_lines(text: str) -> int:
    """Lines of a source that are neither blank, nor comment, nor docstring."""
    docs: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            docs.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(n not in docs and line.strip()[:1] not in ("", "#") for n, line in lines)


def _own() -> list[str]:
    return sorted(p.stem for p in HERE.glob("[!_]*.py"))


def _path(name: str) -> Path:
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names())}"
        raise ConfigError(f"there is no mechanism {name!r}; {hint}")
    return HERE / f"{name}.py"
