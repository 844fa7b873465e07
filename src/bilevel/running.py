"""One run from the terminal: shown while it goes, and what it leaves written at its end."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from types import FrameType
from typing import cast

from rich.console import Console

from bilevel.assemble import Workspace, conduct, find_task
from bilevel.cli_models import fetching
from bilevel.errors import LLMUnavailable, MissingExtra
from bilevel.history import History
from bilevel.levels import NO_LLM, names
from bilevel.live import Terminal
from bilevel.llm.connect import connect
from bilevel.model import Message, Reply, Run, Stop
from bilevel.progress import plot_progress
from bilevel.protocols import LLM, Schema
from bilevel.render import summary_panel
from bilevel.results import write_results
from bilevel.sandbox.policy import Level, describe
from bilevel.summary import summarise


class NoLLM:
    """In place of a model for runs whose mechanisms give every value themselves."""

    name = NO_LLM

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        """Raises LLMUnavailable, always."""
        raise LLMUnavailable(
            "the run asks an LLM for a proposal, and was begun with --llm none; begin one with an "
            "LLM, or with a stack that gives all values itself, such as --stack tpe"
        )

    def close(self) -> None:
        pass


def open_llm(spec: str, console: Console) -> LLM:
    """The model that `spec` names, its weights fetched under a bar where they are not here yet.

    `none` opens nothing: the run must do without.
    """
    if spec == NO_LLM:
        return NoLLM()
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
    if stop.reason == "interrupted" or (stop.reason == "failed" and begun and llm.name != NO_LLM):
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
    console.print(levels_text(run), soft_wrap=True)
    if run.outer.research != "off" and not run.outer.screening:
        console.print(
            "no screening: sources join without a trial on a surrogate (it needs scikit-learn: "
            "pip install 'bilevel[search]')",
            style="yellow",
            soft_wrap=True,
        )
    if run.sandbox:
        weak = run.sandbox == "weak"
        console.print(sandbox_text(run), style="bold yellow" if weak else "dim", soft_wrap=True)


def levels_text(run: Run) -> str:
    """Which levels take part, and when the outer ones speak."""
    plan, said = run.outer, []
    if plan.steering:
        said.append(f"Level 1.5 steers after every {plan.every} evaluations")
    if plan.research != "off":
        sham = ", whose code is left out (sham)" if plan.research == "sham" else ""
        after = plan.every * plan.cycles
        said.append(f"Level 2 holds a session after every {after}{sham}")
    if not said:
        return "level 1: the inner loop alone"
    return f"levels {', '.join(names(plan))}: {'; '.join(said)}"


def sandbox_text(run: Run) -> str:
    """How well code that is not ours is held, in plain words; loud where it is not."""
    title = "WEAK SANDBOX" if run.sandbox == "weak" else f"sandbox {run.sandbox}"
    return f"{title}: {describe(cast(Level, run.sandbox))}"


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
