"""`bilevel study`: arms x repeats from a file, with rules that were written beforehand."""

from __future__ import annotations

import shlex
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bilevel.cli_options import HERE, AllowWeak, AsJson, Home, print_json, workspace_at
from bilevel.cli_options import console as out_console
from bilevel.errors import ConfigError

if TYPE_CHECKING:
    from bilevel.study.data import StudyData
    from bilevel.study.file import StudyFile
    from bilevel.study.harness import Study

INTERRUPTED = 130

study = typer.Typer(
    help="Compare arms over repeats, on rules that were written beforehand; see "
    "examples/study.toml.",
    no_args_is_help=True,
)

File = Annotated[Path, typer.Argument(help="The study's file, as examples/study.toml.")]
Out = Annotated[Path, typer.Option(help="Folder to write into.")]


@study.command()
def run(
    file: File,
    parallel: Annotated[
        int,
        typer.Option(
            help="Runs at a time, of different repeats or tasks; an embedded LLM answers them in "
            "turn. 1 where the tasks measure time or the LLM needs the machine to itself."
        ),
    ] = 1,
    allow_weak_sandbox: AllowWeak = False,
    home: Home = HERE,
) -> None:
    """Make all runs of a study that are not there yet.

    Ctrl-C pauses, and the same command goes on. Raise `repeats`, or add arms
    and tasks, and it makes only what is new. Hypotheses, plan of analysis and
    what an arm is may not change after the first run.

    Each run is an ordinary one, for `bilevel show` and `bilevel replay`. The
    arms of a repeat go in random order; what several of them would ask or
    evaluate alike is asked and evaluated once, and counted for each.

    bilevel study run study.toml

    bilevel study report study.toml --out results/mine
    """
    from bilevel.compare_helpers import interruptible
    from bilevel.running import open_llm
    from bilevel.study.file import load
    from bilevel.study.harness import is_free, model_of
    from bilevel.study.registry import enter
    from bilevel.study.screen import StudyScreen
    from bilevel.study.workers import Assignment, Shared, workers

    if parallel < 1:
        raise ConfigError(f"parallel is {parallel} but must be at least 1")
    interruptible()
    console = Console(stderr=True)
    described = load(file)
    record = enter(workspace_at(home), described, allow_weak_sandbox)
    assignment = Assignment(home, described, record.began, record.lent(), allow_weak_sandbox)
    made = assignment.study()
    made.look()
    screen = StudyScreen(made, console, parallel)
    with closing(Shared(lambda spec: open_llm(spec, console))) as models:
        for name in dict.fromkeys(cell.strategy for _, cell in made.left()):
            if not is_free(arm := described.arms[name]):
                # A missing key is better found now than after the first hour.
                models(model_of(arm, described.study.llm)).open()
        number = min(parallel, len({(task, c.seed) for task, c in made.left()})) - 1
        try:
            with screen, workers(max(0, number), assignment, models):
                made.go(models, screen)
        except KeyboardInterrupt:
            console.print("paused; the same command goes on")
            raise typer.Exit(INTERRUPTED) from None
    _close(made, file, console)


def _close(made: Study, file: Path, console: Console) -> None:
    """Say how it ended; exit status 1 where runs are missing."""
    for (task, cell), why in made.problems().items():
        text = f"{cell.strategy} on {task}, seed {cell.seed}: {why}"
        console.print(Text(text, style="bold red"), soft_wrap=True)
    if made.problems():
        raise typer.Exit(1)
    console.print(f"whole; now: bilevel study report {file} --out FOLDER", soft_wrap=True)


@study.command()
def status(file: File, home: Home = HERE, as_json: AsJson = False) -> None:
    """How far a study is, and how long the rest takes; its results are for the report."""
    from bilevel.comparison_output import clock
    from bilevel.study.file import load
    from bilevel.study.progress import Pace, standing

    described = load(file)
    made = _found(described, home)
    if made is None:
        found, left = [], None
    else:
        pace = Pace(made)
        found, left = standing(made, pace), pace.left()
    done = sum(row.done for row in found)
    study = described.study
    wanted = len(study.tasks) * len(study.arms) * study.repeats
    if as_json:
        head = {"name": study.name, "hash": described.hash, "done": done, "wanted": wanted}
        print_json({**head, "seconds_left": left, "arms": [asdict(row) for row in found]})
        return
    out_console.print(f"{study.name}: {done} of {wanted} runs, file {described.hash[:12]}")
    if made is None:
        out_console.print(f"not begun in {home}; begin with: bilevel study run {file}")
        return
    table = Table("task", "arm", "what it is", "done", "open", "a run takes")
    for row in found:
        took = "-" if row.seconds is None else clock(row.seconds)
        table.add_row(row.task, row.arm, row.about, f"{row.done}/{row.wanted}", str(row.open), took)
    out_console.print(table)
    if left:
        out_console.print(f"about {clock(left)} left, one run at a time")


@study.command()
def report(
    place: Annotated[
        Path, typer.Argument(help="The study's file, or a folder that `study export` wrote.")
    ],
    out: Out,
    credits: Annotated[
        bool,
        typer.Option(
            "--credit",
            help="Decide every run again without each of its mechanisms, for their credit: some "
            "seconds a run, and generated code runs in the sandbox.",
        ),
    ] = False,
    home: Home = HERE,
) -> None:
    """Write the report of a study as far as it went: report.html, report.md, statistics.json."""
    from bilevel.study.report import write_report
    from bilevel.study.report_sections import Extra

    words = ["bilevel", "study", "report", str(place), "--out", str(out)]
    command = shlex.join([*words, *(["--credit"] if credits else [])])
    written = write_report(results(place, home, credits), out, Extra(command=command))
    out_console.print(f"{len(written)} files in {out}")


@study.command()
def export(file: File, out: Out, home: Home = HERE) -> None:
    """Write the study's file and the log of every run, for others to check and replay."""
    from bilevel.study.export import export as write
    from bilevel.study.file import load
    from bilevel.study.results import stored

    described = load(file)
    made = _begun(described, file, home)
    logs, _ = stored(made)
    written = write(described, logs, out)
    out_console.print(f"{len(written)} files in {out}")


@study.command("import")
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


def results(place: Path, home: Path, credits: bool = False) -> StudyData:
    """The results of a study, from its file and the store, or from a folder that `export` wrote."""
    from bilevel.study.export import exported
    from bilevel.study.file import load
    from bilevel.study.results import stored, study_data

    if place.is_dir():
        described, kept = exported(place)
        return study_data(described, kept, credits=credits)
    described = load(place)
    logs, problems = stored(_begun(described, place, home))
    return study_data(described, logs, problems, credits)


def _found(described: StudyFile, home: Path) -> Study | None:
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
    made = _found(described, home)
    if made is None:
        raise ConfigError(
            f"the study {described.study.name} was not begun in {home}; begin with: "
            f"bilevel study run {file}"
        )
    return made
