"""Runs go out as one file, without secrets, and come in from one, so that anybody can check them.

What a replay needs is in the log, but for code that ships with bilevel. The texts of the task are
added for `replay --rerun-jobs`: task.toml and the file that it names; no other file of its folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import bilevel
from bilevel import codec
from bilevel.archive import SMALL, SUFFIX, Archive, pack, read_archive
from bilevel.ensemble import models
from bilevel.errors import BilevelError, ConfigError, StoreError
from bilevel.llm import keys
from bilevel.llm.connect import CUSTOM_KEY
from bilevel.llm.providers import PROVIDERS
from bilevel.model import Call, Message, Run
from bilevel.scrubbing import Scrubber, secrets_in
from bilevel.tape.tape import request_key
from bilevel.task_jobs import find_task, fingerprint
from bilevel.tasks import builtin
from bilevel.tasks.loading import MANIFEST
from bilevel.tasks.manifest import TaskManifest, load
from bilevel.workspace import Workspace

__all__ = ["Exported", "Imported", "export", "import_run", "secrets_of"]


@dataclass(frozen=True)
class Exported:
    """What became of a run that was written to a file.

    replaced: how many places were blotted out, by what was there. without_task: why the file does
    not hold the task, "" where it does or where the task comes with bilevel.
    """

    path: Path
    records: int
    size: int
    replaced: Mapping[str, int]
    without_task: str


@dataclass(frozen=True)
class Imported:
    """A run that came in. version: of the bilevel that wrote it. known: it was here before."""

    run: Run
    records: int
    version: str
    known: bool


def secrets_of(run: Run, environ: Mapping[str, str]) -> dict[str, str]:
    """By name, what is to be kept secret: what `environ` holds, and keys of the run's models."""
    services = [PROVIDERS.get(model.partition("/")[0]) for model in models(run)]
    names = {CUSTOM_KEY, *(name for found in services if found for name in found.keys)}
    ring = {name: keys.from_keyring(name) for name in sorted(names)}
    return secrets_in(environ) | {name: key for name, key in ring.items() if key}


def export(workspace: Workspace, run: Run, path: Path, scrubber: Scrubber) -> Exported:
    """Write a run to a file, which is replaced whole. Raises ConfigError, OSError, RunNotFound."""
    if not path.name.endswith((SUFFIX, SMALL)):
        raise ConfigError(
            f"the file is {path.name}; give it a name that ends in {SUFFIX}, or {SMALL} for a "
            "smaller one"
        )
    logged = list(workspace.store.events(run.id))
    files, why = _task(run)
    bare = replace(run, source=_source(run, files), tape=PurePath(run.tape).name)
    times = [None if at is None else at.isoformat() for _, _, at, _ in logged]
    archive = Archive(bare, [record for *_, record in logged], times, files, bilevel.__version__)
    documents = _scrubbed(archive.documents(), scrubber)
    data = pack(run.id, documents, archive.version, small=path.name.endswith(SMALL))
    fresh = path.with_name(f".{path.name}.part")
    fresh.write_bytes(data)
    fresh.replace(path)
    return Exported(path, len(logged), len(data), dict(scrubber.found), why)


def import_run(workspace: Workspace, path: Path, name: str = "") -> Imported:
    """Enter the run of an exported file into a workspace, under its own name or another.

    Nothing of it is run. Raises StoreError when the file is not what it was, or when a run of that
    name is here with other content.
    """
    archive = read_archive(path)
    run = replace(archive.run, id=name or archive.run.id)
    if any(here.id == run.id for here in workspace.store.runs()):
        _same(workspace, run, archive, path)
        return Imported(workspace.store.run(run.id), len(archive.records), archive.version, True)
    if archive.files:
        folder = workspace.folder(run.id) / "task"
        _write(folder, archive.files, path)
        run = replace(run, source=str((folder / run.source).resolve()))
    workspace.store.restore(run, list(zip(archive.times, archive.records, strict=True)))
    return Imported(run, len(archive.records), archive.version, False)


def _same(workspace: Workspace, run: Run, archive: Archive, path: Path) -> None:
    """Raises StoreError unless the run of that name is the file's own."""
    here = replace(workspace.store.run(run.id), source=run.source, allow_weak=False)
    logged = workspace.records(run.id)
    if here != run or list(map(codec.dump, logged)) != list(map(codec.dump, archive.records)):
        raise StoreError(
            f"{workspace.home} has another run {run.id} already, with other content than "
            f"{path.name}; bring it in under another name, with --as NAME"
        )


def _write(folder: Path, files: Mapping[str, str], path: Path) -> None:
    for name in files:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or not pure.parts:
            raise StoreError(f"{path.name} has a file {name!r}, outside of its task; refused")
    for name, text in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8", newline="")


def _task(run: Run) -> tuple[dict[str, str], str]:
    """The texts of a user's own task by path, and why they are left out, "" where they are not."""
    if builtin.find(run.source) is not None:
        return {}, ""
    try:
        task, _ = find_task(run.source)
        if fingerprint(task) != run.fingerprint:
            return {}, f"{PurePath(run.source).name} has changed since the run began"
        return _texts(Path(run.source)), ""
    except (BilevelError, OSError, UnicodeDecodeError) as error:
        return {}, str(error)


def _texts(source: Path) -> dict[str, str]:
    """By name, the texts of a task's manifest and of the file that it names."""
    folder = source if source.is_dir() else source.parent
    manifest = folder / MANIFEST
    paths = [manifest, *_named(load(manifest), folder)] if manifest.is_file() else []
    if source.is_file() and source not in paths:
        paths.append(source)
    return {str(p.relative_to(folder)): p.read_bytes().decode() for p in paths}


def _named(manifest: TaskManifest, folder: Path) -> list[Path]:
    if manifest.function is None:
        return [folder / (manifest.script.file if manifest.script else "train.py")]
    place = manifest.function.target.rpartition(":")[0]
    path = place if place.endswith(".py") else place.replace(".", "/") + ".py"
    return [folder / path] if (folder / path).is_file() else []


def _source(run: Run, files: Mapping[str, str]) -> str:
    """Where the task is found beside the file's texts; its name alone says nothing of this disk."""
    name = PurePath(run.source).name
    return name if not files or name in files else MANIFEST


def _scrubbed(documents: list[dict[str, Any]], scrubber: Scrubber) -> list[dict[str, Any]]:
    """The documents without secrets; a call whose prompt held one gets the key of its new one."""
    for document in documents:
        scrubber.learn(document)
    clean: list[dict[str, Any]] = scrubber.scrub(documents)
    models = documents[0]["run"]["llm"], clean[0]["run"]["llm"]
    rekeyed = {
        old["record"]["key"]: _key(new["record"], models[1])
        for old, new in zip(documents, clean, strict=True)
        if old.get("kind") == Call.__name__ and old != new
        if _key(old["record"], models[0]) == old["record"]["key"]
    }
    for record in (document.get("record", {}) for document in clean):
        if record.get("key") in rekeyed:
            record["key"] = rekeyed[record["key"]]
    return clean


def _key(call: Mapping[str, Any], model: str) -> str:
    """The key of a recorded call. model: the run's, for calls that do not name theirs."""
    return request_key(
        call["model"] or model,
        [Message(m["role"], m["content"]) for m in call["messages"]],
        json.loads(call["schema"]),
        call["seed"],
        call["max_tokens"],
    )
