"""A study that was exported goes on elsewhere: its record and its runs are taken in first."""

from __future__ import annotations

from pathlib import Path

from bilevel.archive import read_archive
from bilevel.compare.compare import Cell
from bilevel.compare.taking import differences, moved, take
from bilevel.errors import ConfigError
from bilevel.results import replacing
from bilevel.study.export import Exported, exported
from bilevel.study.file import StudyFile
from bilevel.study.harness import Study
from bilevel.study.registry import Loan, Registry, dump, load, path_of, verify
from bilevel.workspace import Workspace

__all__ = ["take_record", "take_runs"]


def take_record(workspace: Workspace, file: StudyFile, folder: Path) -> Exported:
    """Hold this study to what the exported one said before its first run.

    Nothing is written where the study was begun here already, with the same beginning. Raises
    StoreError, and ConfigError, before anything is written, for another study, for other rules, for
    one that was begun here by itself, and for runs that this build would not make.
    """
    found = exported(folder)
    here, there = file.study.name, found.file.study.name
    if here != there:
        raise ConfigError(f"{folder} holds the study {there}, and {file.path} is {here}")
    if not found.known.began:
        raise ConfigError(f"{folder} does not say when its study began; export it anew")
    known, record = load(workspace.home, here), _record(found)
    if known is not None and known.began != record.began:
        raise ConfigError(
            f"the study {here} was begun in {workspace.home} on {known.began}, and the one in "
            f"{folder} on {record.began}; take that one up with another --home"
        )
    verify(workspace, record, file)
    _check_runs(Study(workspace, file, record.began, record.lent(), allow_weak=True), found)
    if known is None:
        with workspace.store.writing(f"study-{here}"):
            path = path_of(workspace.home, here)
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as fresh:
                fresh.write_bytes(dump(record))
    return found


def take_runs(made: Study, found: Exported) -> tuple[int, int]:
    """Enter the exported runs, with the builds that made them: how many came in, and were here."""
    entered = known = 0
    for task, comparison in made.comparisons.items():
        paths = [path for place, path in found.paths.items() if place.task == task]
        taken = take(comparison, map(read_archive, paths))
        for name, run in taken.entered.items():
            for sha in found.known.builds.made.get(name, ()):
                made.ledger.note(run.id, found.known.builds.builds[sha])
        entered, known = entered + len(taken.entered), known + taken.known
    return entered, known


def _check_runs(made: Study, found: Exported) -> None:
    """Raises ConfigError unless each exported run is one that this study would make."""
    for place, (run, _) in found.logs.items():
        comparison, cell = made.comparisons.get(place.task), Cell(place.arm, place.seed)
        if comparison is None or cell not in comparison.plan.cells():
            raise ConfigError(
                f"{run.id} of the export is arm {place.arm} on {place.task}, seed {place.seed}, "
                f"which {made.file.path} leaves out; a study may grow, but leave out nothing"
            )
        if moved(comparison, run) != cell:
            raise ConfigError(
                f"{run.id} of the export is no run that this build would make: other "
                f"{differences(comparison, cell, run)}; go on with the build that made it"
            )


def _record(found: Exported) -> Registry:
    """What the exported study was held to; its arms are held to their runs."""
    study = found.file.study
    lent = tuple(
        Loan(place.task, place.arm, place.seed, run.library)
        for place, (run, _) in found.logs.items()
        if run.library
    )
    return Registry(
        study.name,
        found.known.began,
        study.first_seed,
        study.repeats,
        found.file.hypotheses,
        found.file.plan,
        {},
        found.known.versions,
        lent,
    )
