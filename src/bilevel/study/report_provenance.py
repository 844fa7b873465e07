"""What a study's report says of how its runs were made: file, builds, machines, and what mixes."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import metadata
from itertools import pairwise
from typing import Any

from bilevel.describe import one_line
from bilevel.llm.registry import MODELS
from bilevel.machine import COMMIT
from bilevel.sandbox.policy import Level, describe
from bilevel.study.data import Build, StudyData, StudyRun, Version
from bilevel.study.provenance import Mixture, by_build, by_machine, mixtures
from bilevel.study.report_document import Block, Code, Heading, Paragraph, Points, Table
from bilevel.study.report_words import NOTHING

__all__ = ["looks", "provenance", "warnings"]

LIBRARIES = ("matplotlib", "numpy", "scipy")
SHOWN = 3  # blocks, and files, that a sentence names
SHA_DIGITS = 12
WEAK: Level = "weak"


def warnings(data: StudyData) -> Iterator[str]:
    """What may make arms of one block differ beside what they are, one sentence each.

    data: of one task.
    """
    if found := [*mixtures(data, by_build)]:
        yield (
            f"Beware: in {_blocks(found, data)} arms were made by different code, which may be why "
            f"they differ: {_listed(found)}.{_differing(data)}"
        )
    if found := [*mixtures(data, by_machine)]:
        yield (
            f"Beware: in {_blocks(found, data)} arms were made on different machines, on which "
            f"seconds depend, and scores where a task measures time: {_listed(found)}."
        )
    twice = [r for r in data.runs if len(r.builds) > 1]
    if twice:
        names = ", ".join(one_line(r.run_id) for r in twice[:SHOWN])
        more = f" and {len(twice) - SHOWN} more" if len(twice) > SHOWN else ""
        yield f"Beware: begun by one build and gone on with by another: {names}{more}."


def looks(data: StudyData) -> Iterator[str]:
    """That the study grew after results could be seen, where it did, and what that means."""
    repeats = list(dict.fromkeys(_study(v)["repeats"] for v in data.versions))
    if len(repeats) > 1:
        steps = " to ".join(str(n) for n in repeats)
        yield (
            f"The study grew from {steps} repeats after its first results could be seen. p and "
            "intervals take no account of such looks; a p near its level should count for less."
        )
    for at, new in _added(data.versions):
        yield (
            f"Added on {at}, when results could be seen: {', '.join(new)}. In repeats that were "
            "there before, the runs of an added arm were made after those of the others, outside "
            "the shuffle of their block: whatever else changed since then is in its differences."
        )


def _added(versions: Sequence[Version]) -> Iterator[tuple[str, list[str]]]:
    """When the study's file got arms and tasks that it had not before, and which."""
    for before, after in pairwise(versions):
        old, now = _study(before), _study(after)
        new = [f"arm {one_line(a)}" for a in now["arms"] if a not in old["arms"]]
        new += [f"task {one_line(t)}" for t in now["tasks"] if t not in old["tasks"]]
        if new:
            yield after.at, new


def provenance(data: StudyData, command: str) -> Iterator[Block]:
    """The section on how it was made."""
    yield Heading(2, "How it was made")
    if command:
        yield Code(command)
    yield Points([*_facts(data), *_sandboxes(data)])
    if len(data.versions) > 1:
        yield Heading(3, "The study file over time")
        yield _version_table(data.versions)
    if any(r.run_id for r in data.runs) and (data.builds or data.versions):
        yield Heading(3, "Which code made the runs")
        yield _build_table(data)
        yield Paragraph(_replayable(data))
    about = [f"{one_line(a)}: {one_line(text)}" for a, text in data.about.items() if text]
    if about:
        yield Heading(3, "Arms")
        yield Points(about)
    if data.file:
        yield Code(data.file, "The study file")


def _facts(data: StudyData) -> Iterator[str]:
    yield f"study file, sha256: {data.file_hash}"
    if data.began:
        later = ", but for those that were added later" if [*_added(data.versions)] else ""
        yield f"rules entered: {data.began}, before the first run; arms and tasks as well{later}"
    if data.llm:
        yield f"LLM: {one_line(data.llm)}"
    weights = {model.name: f", weights with sha256 {model.sha256}" for model in MODELS}
    replies = sum((Counter(r.replies) for r in data.runs), Counter[str]())
    for model, count in sorted(replies.items()):
        yield f"{count:,} replies by {one_line(model)}{weights.get(model, '')}"
    for task, sha in sorted(data.fingerprints.items()):
        yield f"task {one_line(task)}, sha256: {sha}"
    for version in sorted({r.version for r in data.runs if r.version}):
        yield f"made with bilevel {version}"
    for machine in sorted({by_machine(r) for r in data.runs if r.machine}):
        yield f"machine: {one_line(machine)}"
    dates = sorted(r.created for r in data.runs if r.created)
    if dates:
        yield f"runs begun: {dates[0]} to {dates[-1]}"
    libraries = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    yield f"statistics and figures: {libraries}"


def _sandboxes(data: StudyData) -> Iterator[str]:
    """What held generated code and users' files, by how many runs; said aloud where nothing did."""
    levels = Counter(" then ".join(map(one_line, r.sandboxes)) for r in data.runs if r.sandboxes)
    for level, count in sorted(levels.items()):
        yield f"sandbox of generated code and of users' files: {level} (runs: {count})"
    weak = sum(WEAK in r.sandboxes for r in data.runs)
    if weak:
        yield f"Beware: in {weak} of {len(data.runs)} runs the sandbox was weak: {describe(WEAK)}."


def _version_table(versions: Sequence[Version]) -> Table:
    rows = []
    for version in versions:
        study = _study(version)
        rows.append(
            (
                version.at,
                version.hash[:SHA_DIGITS],
                str(study["repeats"]),
                one_line(", ".join(study["arms"]), 300),
                one_line(", ".join(study["tasks"]), 300),
            )
        )
    return Table(("since", "sha256", "repeats", "arms", "tasks"), rows, words=(1, 3, 4))


def _study(version: Version) -> dict[str, Any]:
    """The [study] of a file that was accepted."""
    found: dict[str, Any] = tomllib.loads(version.text)["study"]
    return found


def _build_table(data: StudyData) -> Table:
    """A row a build, and one for runs of which none was noted."""
    runs = [r for r in data.runs if r.run_id]
    begun = {sha: [r for r in runs if r.builds[:1] == (sha,)] for sha in data.builds}
    many = Counter(sha for r in runs for sha in r.builds)
    first = next(iter(data.builds.values()), None)
    rows = []
    for sha, build in data.builds.items():
        dates = sorted(r.created for r in runs if sha in r.builds)
        between = f"{dates[0]} to {dates[-1]}" if dates else NOTHING
        files = NOTHING if build is first else _names(_changed(first, build))
        rows.append((sha, build.version, str(many[sha]), between, files, _commits(begun[sha])))
    if rest := [r for r in runs if not r.builds]:
        versions = ", ".join(sorted({r.version for r in rest}))
        dates = sorted(r.created for r in rest)
        between = f"{dates[0]} to {dates[-1]}"
        rows.append(("not noted", versions, str(len(rest)), between, NOTHING, _commits(rest)))
    columns = ("sources, sha256", "bilevel", "runs", "begun", "differs from the first in", "commit")
    return Table(columns, rows, words=(1, 3, 4, 5))


def _commits(runs: Sequence[StudyRun]) -> str:
    """Of which commits of the sources the runs were begun."""
    found = sorted({r.machine[COMMIT] for r in runs if COMMIT in r.machine})
    return one_line(", ".join(found)) or NOTHING


def _replayable(data: StudyData) -> str:
    """With which code a replay comes out, and for how many runs that is not known by commit."""
    runs = [r for r in data.runs if r.run_id]
    unknown = sum(COMMIT not in r.machine for r in runs)
    said = "A replay needs the build that made the run; another may decide otherwise."
    if not unknown:
        return said
    return (
        f"{said} Of {unknown} of {len(runs)} runs the commit is not known: whether a build is "
        "theirs only the sha256 of its sources tells, where it was noted."
    )


def _blocks(found: Sequence[Mixture], data: StudyData) -> str:
    return f"{len(found)} of {len({r.repeat for r in data.runs})} repeats"


def _listed(found: Sequence[Mixture]) -> str:
    """`repeat 0 (A, B: one; C: another); and 4 more`."""
    said = []
    for mixture in found[:SHOWN]:
        made = "; ".join(
            f"{', '.join(map(one_line, arms))}: {one_line(by)}" for by, arms in mixture.made.items()
        )
        said.append(f"repeat {mixture.repeat} ({made})")
    more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return "; ".join([*said, *more])


def _differing(data: StudyData) -> str:
    """In which files the builds that were noted differ, as a sentence; "" for fewer than two."""
    shas = {sha for r in data.runs for sha in r.builds}
    builds = [b for sha, b in data.builds.items() if sha in shas]
    files = sorted({name for b in builds[1:] for name in _changed(builds[0], b)})
    return f" These builds differ in {_names(files)}." if files else ""


def _changed(one: Build | None, other: Build) -> list[str]:
    """Files that are not the same in both."""
    before = one.files if one else {}
    names = sorted({*before, *other.files})
    return [name for name in names if before.get(name) != other.files.get(name)]


def _names(files: Sequence[str]) -> str:
    shown = 3 * SHOWN
    more = f" and {len(files) - shown} more files" if len(files) > shown else ""
    return ", ".join(map(one_line, files[:shown])) + more
