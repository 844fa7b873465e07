"""One run from the terminal: shown while it goes, and what it leaves written at its end."""

from __future__ import annotations

import signal
from types import FrameType

from rich.console import Console

from bilevel.assemble import Workspace, conduct, find_task
from bilevel.cli_models import fetching
from bilevel.errors import MissingExtra
from bilevel.history import History
from bilevel.live import Terminal
from bilevel.llm.connect import connect
from bilevel.model import Run, Stop
from bilevel.progress import plot_progress
from bilevel.protocols import LLM
from bilevel.render import summary_panel
from bilevel.results import write_results
from bilevel.summary import summarise


def open_llm(spec: str, console: Console) -> LLM:
    """The model that `spec` names, its weights fetched under a bar where they are not here yet."""
    with fetching(console) as show:
        return connect(spec, progress=show)


def conduct_and_report(workspace: Workspace, run: Run, llm: LLM, console: Console) -> Stop:
    """Go on with a run to its end or a stop; write its results and print its summary."""
    signal.signal(signal.SIGTERM, _interrupt)
    records = workspace.records(run.id)
    folder = workspace.folder(run.id)
    _introduce(run, len(records), console)
    with Terminal(run, records, folder / "trials", console) as terminal:
        stop = conduct(workspace, run, llm, terminal)
    leave(workspace, run, console)
    console.print(summary_panel(summarise(run, workspace.records(run.id))))
    begun = History(run.space, workspace.records(run.id)).best is not None
    if stop.reason == "interrupted" or (stop.reason == "failed" and begun):
        console.print(f"go on with: bilevel resume {run.id}")
    return stop


def leave(workspace: Workspace, run: Run, console: Console) -> None:
    """Write results.tsv, best.json, the best script and progress.png into the run's folder."""
    records, folder = workspace.records(run.id), workspace.folder(run.id)
    folder.mkdir(parents=True, exist_ok=True)
    write_results(run, records, folder)
    best = History(run.space, records).best
    task, _ = find_task(run.source)
    if best is not None:
        for path, text in task.job(best.values, best.seed).files.items():
            target = folder / "best" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8", newline="")
    try:
        plot_progress(run, records, folder / "progress.png")
    except MissingExtra as error:
        console.print(f"no progress.png: {error}", style="yellow")
    console.print(f"results in {folder}", style="dim")


def _introduce(run: Run, records: int, console: Console) -> None:
    goal = "lower" if run.objective.direction == "min" else "higher"
    verb = "going on with" if records else "starting"
    console.print(
        f"{verb} [bold]{run.id}[/bold]: task {run.task}, {run.objective.metric} ({goal} is better)"
        f"\n{len(run.space)} parameters, {run.evals} evaluations, LLM {run.llm}, seed {run.seed}"
    )


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
