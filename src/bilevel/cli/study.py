"""`bilevel study`: arms x repeats from a file, with rules that were written beforehand."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bilevel.cli import study_records as records
from bilevel.cli.options import HERE, AllowWeak, AsJson, Home, print_json, workspace_at
from bilevel.cli.options import console as out_console
from bilevel.cli.sandbox import Wall, prepare
from bilevel.errors import ConfigError

if TYPE_CHECKING:
    from bilevel.study.harness import Study

INTERRUPTED = 130

study = typer.Typer(
    help="Compare arms over repeats, on rules that were written beforehand; see "
    "examples/study.toml.",
    no_args_is_help=True,
)


@study.command()
def run(
    file: records.File,
    parallel: Annotated[
        int,
        typer.Option(
            help="Runs at a time, of different repeats or tasks; an embedded LLM answers them in "
            "turn. 1 where the tasks measure time or the LLM needs the machine to itself."
        ),
    ] = 1,
    records_of: Annotated[
        Path | None,
        typer.Option(
            "--records",
            help="A folder that `study export` wrote of this study: what is in it and not here is "
            "taken in first, and not made again.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="TASK",
            help="Make the runs of this task only, for now; may be given several times.",
        ),
    ] = None,
    sandbox: Wall = "auto",
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

    bilevel study run study.toml --records results/mine/records

    bilevel study report study.toml --out results/mine
    """
    from bilevel.cli.running import open_llm
    from bilevel.compare.helpers import interruptible
    from bilevel.study.builds import words
    from bilevel.study.file import load
    from bilevel.study.harness import begun, chosen_tasks, is_free, model_of
    from bilevel.study.registry import enter
    from bilevel.study.screen import StudyScreen
    from bilevel.study.taking import take_record, take_runs
    from bilevel.study.workers import Assignment, Shared, workers

    if parallel < 1:
        raise ConfigError(f"parallel is {parallel} but must be at least 1")
    interruptible()
    console = Console(stderr=True, markup=False)
    described = load(file)
    tasks = chosen_tasks(described, only or ())
    prepare(sandbox, console)
    taken = None if records_of is None else take_record(workspace_at(home), described, records_of)
    record = enter(workspace_at(home), described, allow_weak_sandbox, sandbox)
    wall = (allow_weak_sandbox, sandbox)
    assignment = Assignment(home, described, record.began, record.lent(), *wall, tasks)
    made = assignment.study()
    made.look()
    if taken is not None:
        entered, known = take_runs(made, taken)
        console.print(f"{records_of}: {entered} runs taken in, {known} were here", soft_wrap=True)
    screen = StudyScreen(made, console, parallel)
    if said := words(made.ledger.read(), begun(made)):
        console.print(f"{said}; the report says where arms of one repeat are of several")
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
    later = [task for task in made.file.study.tasks if task not in made.comparisons]
    whole = f"these are whole, not looked at: {', '.join(later)}" if later else "whole"
    console.print(f"{whole}; now: bilevel study report {file} --out FOLDER", soft_wrap=True)


@study.command()
def status(file: records.File, home: Home = HERE, as_json: AsJson = False) -> None:
    """How far a study is, and how long the rest takes; its results are for the report."""
    from bilevel.compare.output import clock
    from bilevel.study.builds import words
    from bilevel.study.file import load
    from bilevel.study.harness import begun
    from bilevel.study.progress import Pace, standing

    described = load(file)
    made = records.found(described, home)
    if made is None:
        found, left, said = [], None, ""
    else:
        pace = Pace(made)
        found, left = standing(made, pace), pace.left()
        said = words(made.ledger.read(), begun(made))
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
    for row in found:
        for problem in row.problems:
            out_console.print(f"{row.task}, {row.arm}: {problem}", markup=False, soft_wrap=True)
    if said:
        out_console.print(said, soft_wrap=True)
    if left:
        out_console.print(f"about {clock(left)} left, one run at a time")
    elif done < wanted:
        out_console.print("how long the rest takes is known once a run has ended")


for command in (records.report, records.export, records.replay):
    study.command()(command)
study.command("import")(records.import_runs)
