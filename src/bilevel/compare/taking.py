"""Runs of a comparison that were made elsewhere, taken into the store: it goes on from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from bilevel.archive import SMALL, SUFFIX, Archive, is_file, read_archive, read_log
from bilevel.compare.compare import APART, ENDED, Cell, Comparison
from bilevel.errors import ConfigError
from bilevel.model import Run, Stop, Trial

__all__ = ["Taken", "archives", "differences", "moved", "take"]


@dataclass(frozen=True)
class Taken:
    """What became of the runs that were offered.

    entered: by the name in their file, those that are in the store now. known: how many were there
    before, or a run in their place. foreign: those that the plan would not make.
    """

    entered: dict[str, Run]
    known: int
    foreign: tuple[Run, ...]


def archives(folder: Path) -> list[Archive]:
    """The runs of a folder that `compare --out` wrote, or of its `runs`.

    Raises ConfigError without any, StoreError for a damaged one.
    """
    inner = folder / "runs"
    paths = sorted(p for p in (inner if inner.is_dir() else folder).glob("*") if is_file(p.name))
    if not paths:
        raise ConfigError(f"{folder} has no runs; give a folder that `bilevel compare --out` wrote")
    return [_archive(path) for path in paths]


def take(comparison: Comparison, offered: Iterable[Archive]) -> Taken:
    """Enter those runs that the comparison would make and has not, each with its whole log.

    Whoever offers them says that they are of this task, wherever it lay when they were made.
    """
    entered: dict[str, Run] = {}
    known, foreign = 0, []
    comparison.look()
    for archive in offered:
        cell = moved(comparison, archive.run)
        if cell is None:
            foreign.append(archive.run)
        elif _stands(comparison, cell, archive):
            known += 1
        else:
            entered[archive.run.id] = _enter(comparison, cell, archive)
            comparison.look()
    return Taken(entered, known, tuple(foreign))


def moved(comparison: Comparison, run: Run) -> Cell | None:
    """The cell whose run this is but for the place of its task, None if there is none."""
    return comparison.cell_of(replace(run, source=comparison.prototype.source))


def differences(comparison: Comparison, cell: Cell, run: Run) -> str:
    """In what a run is not the cell's, by the names of what differs."""
    planned = comparison.planned(cell)
    names = [f.name for f in fields(Run) if f.name not in (*APART, "source")]
    return ", ".join(n for n in names if getattr(planned, n) != getattr(run, n))


def _enter(comparison: Comparison, cell: Cell, archive: Archive) -> Run:
    """The run as it was entered."""
    store, planned = comparison.workspace.store, comparison.planned(cell)
    taken = {run.id for run in store.runs()}
    name = archive.run.id if archive.run.id not in taken else store.next_id(planned.task)
    run = replace(archive.run, id=name, source=planned.source)
    store.restore(run, list(zip(archive.times, archive.records, strict=True)))
    return run


def _stands(comparison: Comparison, cell: Cell, archive: Archive) -> bool:
    """Whether the store has what the archive has; a run that did not end yields to one that did.

    One whose baseline failed yields to any other.
    """
    if cell in comparison.runs:
        return True
    if comparison.find(cell.strategy, cell.seed) is not None:
        return not _ended(archive)
    return _failed(archive) and comparison.failed(cell.strategy, cell.seed) is not None


def _ended(archive: Archive) -> bool:
    stops = [record for record in archive.records if isinstance(record, Stop)]
    return bool(stops) and stops[-1].reason in ENDED


def _failed(archive: Archive) -> bool:
    first = next((record for record in archive.records if isinstance(record, Trial)), None)
    return first is not None and first.status != "ok"


def _archive(path: Path) -> Archive:
    if path.name.endswith((SUFFIX, SMALL)):
        return read_archive(path)
    run, records = read_log(path)
    return Archive(run, records, [None] * len(records))
