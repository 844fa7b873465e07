"""`bilevel study report`, `export`, `replay` and `import`: what is made of a study's records."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from bilevel.cli.options import HERE, AllowWeak, Home, workspace_at
from bilevel.cli.options import console as out_console
from bilevel.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bilevel.model import Record, Run
    from bilevel.study.data import StudyData
    from bilevel.study.file import StudyFile
    from bilevel.study.harness import Study
    from bilevel.study.provenance import Provenance
    from bilevel.study.replaying import Again
    from bilevel.study.results import Logs

File = Annotated[Path, typer.Argument(help="The study's file, as examples/study.toml.")]
Place = Annotated[
    Path, typer.Argument(help="The study's file, or a folder that `study export` wrote.")
]
Credits = Annotated[
    bool,
    typer.Option(
        "--credit",
        help="Decide every run again without each of its mechanisms, for their credit: some "
        "seconds a run, and generated code runs in the sandbox. An export keeps it.",
    ),
]
Out = Annotated[Path, typer.Option(help="Folder to write into.")]


def report(
    place: Place,
    out: Out,
    credits: Credits = False,
    png: Annotated[
        bool, typer.Option(help="Each figure as a PNG too, beside the SVG, for a paper.")
    ] = True,
    allow_weak_sandbox: AllowWeak = False,
    home: Home = HERE,
) -> None:
    """Write the report of a study as far as it went, from its records alone.

    report.html, with all figures in it; report.md; statistics.json, unrounded;
    and each figure as a file.
    """
    from bilevel.study.report import write_report
    from bilevel.study.report_sections import Extra

    words = ["bilevel", "study", "report", str(place), "--out", str(out)]
    words += [*(["--credit"] if credits else []), *([] if png else ["--no-png"])]
    replays = ["bilevel", "study", "replay", str(place)]
    with Console(stderr=True).status(Text(f"working out the report of {place}")):
        found = results(place, home, credits, allow_weak_sandbox)
        command = "\n".join(map(shlex.join, (words, replays)))
        written = write_report(found, out, Extra(command=command), png)
    out_console.print(f"{len(written)} files in {out}")


def export(file: File, out: Out, credits: Credits = False, home: Home = HERE) -> None:
    """Write the study's file and every run, packed small, for others to check and replay.

    Secrets are blotted out as by `bilevel export`; look it through all the same.
    From the folder alone anybody can then make the report again, with all its
    figures, and decide every run again:

    bilevel study report FOLDER --out report

    bilevel study replay FOLDER
    """
    from bilevel.study.export import export as write
    from bilevel.study.file import load
    from bilevel.study.provenance import provenance
    from bilevel.study.results import stored, worked_out

    described = load(file)
    made = _begun(described, file, home)
    logs, _ = stored(made)
    known = provenance(home, described.study.name, (run for run, _ in logs.values()))
    if credits:
        known = worked_out(logs, known)
    with Console(stderr=True).status("packing") as status:

        def packed(count: int) -> None:
            status.update(f"{count} of {len(logs)} runs packed")

        written = write(made.workspace, described, logs, known, out, os.environ, packed)
    runs = len(written.sizes)
    each = f", {sum(written.sizes) // runs:,} a run" if runs else ""
    out_console.print(
        f"{out}: {runs} runs, {written.size:,} bytes in {len(written.paths)} files{each}; "
        f"check them with: bilevel study replay {out}",
        soft_wrap=True,
    )
    if written.replaced:
        places = ", ".join(f"{what} ({count})" for what, count in sorted(written.replaced.items()))
        out_console.print(f"blotted out: {places}", soft_wrap=True)


def replay(
    place: Place,
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="Runs as gpt-C-0 (task, arm, repeat), * for any; all if left out."),
    ] = None,
    allow_weak_sandbox: AllowWeak = False,
    home: Home = HERE,
) -> None:
    """Decide runs of a study again, with neither LLM nor evaluations; the first difference of each.

    A replay asks the record for the very prompts that were sent, so it needs
    the build that made the run. Exit status 1 where a run differs, or cannot be
    decided again.

    bilevel study replay results/mine

    bilevel study replay results/mine gpt-C-0
    """
    from bilevel.study.replaying import again, chosen

    described, logs, known = _records(place, home, allow_weak_sandbox)
    wanted = chosen(described, logs, runs or ())
    same = 0
    for one in again(logs, wanted):
        _say(one, logs[one.place][1])
        same += one.same
    out_console.print(f"{same} of {len(wanted)} runs came out as recorded")
    if same < len(wanted):
        _other_builds([logs[p][0] for p in wanted.values()], known)
        raise typer.Exit(1)


def import_runs(
    file: Annotated[
        Path, typer.Argument(help="JSON of others' runs; its form: bilevel/study/importing.py.")
    ],
    out: Out,
) -> None:
    """Write the same report of other people's runs, beside what they had published."""
    from bilevel.study.importing import read_study
    from bilevel.study.report import write_report

    command = shlex.join(["bilevel", "study", "import", str(file), "--out", str(out)])
    found = read_study(file, command)
    written = write_report(found.data, out, found.extra)
    out_console.print(f"{len(written)} files in {out}")


def results(place: Path, home: Path, credits: bool = False, allow_weak: bool = False) -> StudyData:
    """The results of a study, from its file and the store, or from a folder that `export` wrote."""
    from bilevel.study.results import study_data, worked_out

    described, logs, known = _records(place, home, allow_weak)
    return study_data(described, logs, known=worked_out(logs, known) if credits else known)


def _records(place: Path, home: Path, allow_weak: bool) -> tuple[StudyFile, Logs, Provenance]:
    """A study, its logs, and what else is known of it, from the store or an exported folder."""
    from dataclasses import replace

    from bilevel.study.export import exported
    from bilevel.study.file import load
    from bilevel.study.provenance import provenance
    from bilevel.study.results import stored

    if place.is_dir():
        found = exported(place, allow_weak)
        return found.file, found.logs, found.known
    described = load(place)
    logs, _ = stored(_begun(described, place, home))
    if allow_weak:
        logs = {at: (replace(run, allow_weak=True), log) for at, (run, log) in logs.items()}
    return described, logs, provenance(home, described.study.name, (r for r, _ in logs.values()))


def _say(one: Again, records: Sequence[Record]) -> None:
    """How one run came out."""
    from bilevel.levels import decided_text

    if one.replay is None:
        said = f"{one.name}: not decided again: {one.problem}"
    elif one.replay.difference is None:
        said = f"{one.name}: as recorded: {decided_text(records, one.replay.decisions)}"
    else:
        first = one.replay.difference
        said = f"{one.name}: record {first.number} differs: {first.why}"
    style = "" if one.same else "bold red"
    out_console.print(Text(said, style=style), soft_wrap=True)
    if one.replay is not None and one.replay.difference is not None:
        out_console.print("recorded", one.replay.difference.recorded)
        out_console.print("replayed", one.replay.difference.replayed)


def _other_builds(runs: Sequence[Run], known: Provenance) -> None:
    """Say which builds made these runs, where they are not this one."""
    from bilevel.study.builds import current

    made = {sha for run in runs for sha in known.builds.made.get(run.id, ())}
    if others := made - {current().sha}:
        listed = ", ".join(sorted(sha[:12] for sha in others))
        out_console.print(f"made by build {listed}; this is {current().sha[:12]}")


def found(described: StudyFile, home: Path) -> Study | None:
    """The study with the runs that are there, None where it was not begun.

    Raises ConfigError when the file changed what was said before the first run.
    """
    from bilevel.study.harness import Study
    from bilevel.study.registry import load, verify

    workspace = workspace_at(home)
    record = load(home, described.study.name)
    if record is None:
        return None
    verify(workspace, record, described)
    made = Study(workspace, described, record.began, record.lent(), allow_weak=True)
    made.look()
    return made


def _begun(described: StudyFile, file: Path, home: Path) -> Study:
    made = found(described, home)
    if made is None:
        raise ConfigError(
            f"the study {described.study.name} was not begun in {home}; begin with: "
            f"bilevel study run {file}"
        )
    return made
