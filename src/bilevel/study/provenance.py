"""What is known of a study beside its runs' logs: its file over time, builds, texts, credits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bilevel.machine import COMMIT
from bilevel.model import MechanismSource, Run
from bilevel.study.builds import Builds, Ledger, path_of
from bilevel.study.data import StudyData, StudyRun, Version
from bilevel.study.inventory import shipped
from bilevel.study.registry import load

__all__ = ["Mixture", "Provenance", "by_build", "by_machine", "mixtures", "provenance"]


@dataclass(frozen=True)
class Provenance:
    """began, versions: as the study's record has them. sources: of mechanisms that come with
    bilevel, by sha. credits: by run and sha, where they were worked out."""

    began: str = ""
    versions: tuple[Version, ...] = ()
    builds: Builds = field(default_factory=Builds)
    sources: Mapping[str, MechanismSource] = field(default_factory=dict)
    credits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Mixture:
    """A block whose arms were not all made alike. made: by what made them, the arms."""

    task: str
    repeat: int
    made: Mapping[str, tuple[str, ...]]


def provenance(home: Path, name: str, runs: Iterable[Run]) -> Provenance:
    """What a workspace knows of a study. Raises StoreError for a damaged record."""
    record = load(home, name)
    return Provenance(
        began=record.began if record else "",
        versions=record.versions if record else (),
        builds=Ledger(path_of(home, name)).read(),
        sources=shipped(runs),
    )


def mixtures(data: StudyData, by: Callable[[StudyRun], str]) -> Iterator[Mixture]:
    """The blocks in which `by` says different things of different arms, by task and repeat."""
    for task in data.tasks:
        part = [r for r in data.runs if r.task == task and r.run_id]
        for repeat in sorted({r.repeat for r in part}):
            made: dict[str, tuple[str, ...]] = {}
            for run in part:
                if run.repeat == repeat:
                    made[by(run)] = (*made.get(by(run), ()), run.arm)
            if len(made) > 1:
                yield Mixture(task, repeat, made)


def by_build(run: StudyRun) -> str:
    """The builds that made a run, by the beginnings of their sha; in words where none was noted."""
    shas = " then ".join(sha[:12] for sha in run.builds)
    return shas or f"a build of bilevel {run.version} that was not noted"


def by_machine(run: StudyRun) -> str:
    """The machine that began a run, in words."""
    return ", ".join(f"{name} {value}" for name, value in run.machine.items() if name != COMMIT)
