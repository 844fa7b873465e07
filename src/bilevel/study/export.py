"""A study as files that others can read: its own file, every run, and all that is known of it.

`study.toml` is the study's file. `runs/` has a file a run, as `bilevel export` writes it: without
secrets, with the task's own texts, the times and a checksum. `study.json` says which is which, and
holds what no log has: when the study began, how its file changed, which builds made which run, the
texts of mechanisms that come with bilevel, and credits where they were worked out. A report needs
nothing else, and a replay only the build that made the run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import bilevel
from bilevel import codec
from bilevel.archive import SMALL, read_log
from bilevel.errors import ConfigError, StoreError
from bilevel.exporting import export as export_run
from bilevel.exporting import secrets_of
from bilevel.model import Record, Run
from bilevel.results import replacing
from bilevel.scrubbing import Scrubber
from bilevel.study.file import StudyFile, parse
from bilevel.study.inventory import shipped
from bilevel.study.provenance import Provenance
from bilevel.study.results import Logs, Place, places, run_names
from bilevel.workspace import Workspace

__all__ = ["FILE", "INDEX", "RUNS", "Exported", "Written", "export", "exported"]

FILE, INDEX, RUNS = "study.toml", "study.json", "runs"
FORMAT, VERSION = "bilevel study", 1


@dataclass(frozen=True)
class Exported:
    """A study as `export` wrote it. paths: the files of its runs."""

    file: StudyFile
    logs: dict[Place, tuple[Run, list[Record]]]
    known: Provenance
    paths: Mapping[Place, Path]


@dataclass(frozen=True)
class Written:
    """What `export` wrote. sizes: in bytes, of each run's file. replaced: places blotted out, by
    what was there. size: in bytes, of all files."""

    paths: tuple[Path, ...]
    sizes: tuple[int, ...]
    replaced: Mapping[str, int]

    @property
    def size(self) -> int:
        return sum(path.stat().st_size for path in self.paths)


def export(
    workspace: Workspace,
    file: StudyFile,
    logs: Logs,
    known: Provenance,
    folder: Path,
    environ: Mapping[str, str],
    packed: Callable[[int], None] = lambda count: None,
) -> Written:
    """Write a study into a folder, from which `exported` reads it.

    environ: whose secrets are blotted out of the runs. packed: told how many runs are, one after
    another. Raises OSError when it cannot be written.
    """
    (folder / RUNS).mkdir(parents=True, exist_ok=True)
    names, before = run_names(file), _listed(folder)
    scrubber = Scrubber(_secrets(logs, environ), Path.home())
    index, done = [], []
    for place, (run, _) in logs.items():
        name = f"{names[place]}{SMALL}"
        done.append(export_run(workspace, run, folder / RUNS / name, scrubber))
        index.append({"task": place.task, "arm": place.arm, "seed": place.seed, "file": name})
        packed(len(done))
    document = {
        "format": FORMAT,
        "version": VERSION,
        "bilevel": bilevel.__version__,
        "name": file.study.name,
        "file": PurePath(file.path).name,
        "hash": file.hash,
        "runs": index,
        "known": json.loads(codec.dump(known)),
    }
    with replacing(folder / FILE) as fresh:
        fresh.write_text(file.text, encoding="utf-8", newline="")
    with replacing(folder / INDEX) as fresh:
        fresh.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for name in before - {entry["file"] for entry in index}:
        (folder / RUNS / name).unlink(missing_ok=True)
    paths = (folder / FILE, folder / INDEX, *(one.path for one in done))
    return Written(paths, tuple(one.size for one in done), dict(scrubber.found))


def exported(folder: Path, allow_weak: bool = False) -> Exported:
    """The study that `export` wrote, also an earlier one's. Raises StoreError or ConfigError.

    allow_weak: whether its generated code may run where this machine cannot lock it in; the files'
    own word that it was allowed is nobody's leave to do it here.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        text = (folder / FILE).read_bytes().decode()
        file = parse(text, folder / index["file"])
        at = {(p.task, p.arm, p.seed): p for p in places(file)}
        paths = {
            at[e["task"], e["arm"], e["seed"]]: folder / RUNS / e["file"] for e in index["runs"]
        }
        logs = {place: _log(path, allow_weak) for place, path in paths.items()}
        known = codec.load(Provenance, json.dumps(index["known"])) if "known" in index else None
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(
            f"{folder} holds no whole exported study ({error!r}); make one with "
            "`bilevel study export FILE --out FOLDER`"
        ) from error
    if index.get("version", VERSION) != VERSION:
        raise StoreError(
            f"{folder} has version {index['version']} of the format, and this bilevel, "
            f"{bilevel.__version__}, reads version {VERSION}; update bilevel"
        )
    if file.hash != index["hash"]:
        raise StoreError(
            f"{folder / FILE} was changed after it was exported: its sha256 begins {file.hash[:12]}"
            f" and {INDEX} says {index['hash'][:12]}; get it anew from whoever exported it"
        )
    for place, (run, _) in logs.items():
        if run.seed != place.seed:
            raise StoreError(
                f"{folder / INDEX} says that {run.id} is on seed {place.seed}, but its file says "
                f"{run.seed}; get the folder anew from whoever exported it"
            )
    known = known or Provenance(sources=shipped(r for r, _ in logs.values()))
    return Exported(file, logs, known, paths)


def _log(path: Path, allow_weak: bool) -> tuple[Run, list[Record]]:
    try:
        run, records = read_log(path)
    except ConfigError as error:
        raise StoreError(f"{path.parent.parent} is not whole: {error}") from error
    return replace(run, allow_weak=allow_weak), records


def _secrets(logs: Logs, environ: Mapping[str, str]) -> dict[str, str]:
    """What is to be kept secret, by name; asked once for each model."""
    kinds = {(run.llm, run.llm_outer): run for run, _ in logs.values()}
    return {name: key for run in kinds.values() for name, key in secrets_of(run, environ).items()}


def _listed(folder: Path) -> set[str]:
    """The files of runs that an earlier export into the folder wrote."""
    path = folder / INDEX
    index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {PurePath(entry["file"]).name for entry in index.get("runs", [])}
