"""From a path to a task."""

from __future__ import annotations

from pathlib import Path

from bilevel.errors import ConfigError
from bilevel.protocols import Task
from bilevel.tasks import function, init, manifest, script

__all__ = ["load_task"]

MANIFEST = "task.toml"


def load_task(path: Path) -> Task:
    """The task of a task.toml, of a folder that holds one, or of a bare script.

    A script whose own task.toml lies beside it is that task; another one is read as
    `bilevel init` would describe it. Raises ConfigError with the file, the rule and the remedy.
    """
    if path.is_dir():
        return _from_file(path / MANIFEST)
    if path.suffix == ".toml":
        return _from_file(path)
    if path.suffix != ".py":
        raise ConfigError(f"{path} is no task; give a task.toml, a folder with one, or a .py file")
    beside = path.with_name(MANIFEST)
    if beside.exists():
        described = manifest.load(beside)
        if described.script is not None and described.script.file == path.name:
            return _build(described, beside)
    text = init.draft(script.read_source(path))
    return _build(manifest.parse(text, str(path)), path)


def _from_file(path: Path) -> Task:
    return _build(manifest.load(path), path)


def _build(described: manifest.TaskManifest, path: Path) -> Task:
    if described.task.kind == "function":
        return function.from_manifest(described, path.parent, str(path))
    return script.from_manifest(described, path.parent, str(path))
