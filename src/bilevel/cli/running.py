"""One run from the terminal: shown while it goes, and what it leaves written at its end."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import ExitStack, closing
from types import FrameType
from typing import cast

from rich.console import Console
from rich.text import Text

from bilevel.assemble import conduct
from bilevel.budget.budget import limits_of, price_list
from bilevel.budget.openings import elapsed, more
from bilevel.budget.prices import prices_text
from bilevel.budget.terms import Terms, under
from bilevel.budget.words import limits_text
from bilevel.cli.models import fetching
from bilevel.ensemble import ENSEMBLE, Several, members, models, models_text
from bilevel.errors import ConfigError, LLMUnavailable, MissingExtra
from bilevel.history import History
from bilevel.levels import NO_LLM, names
from bilevel.library.proposer import STAND_IN
from bilevel.llm.connect import connect
from bilevel.model import Message, Opening, Record, Reply, Run, Stop
from bilevel.planning import can_screen
from bilevel.progress import plot_progress
from bilevel.protocols import LLM, Schema
from bilevel.render.levels import times
from bilevel.render.live import Terminal
from bilevel.render.render import summary_panel
from bilevel.results import write_results
from bilevel.sandbox.policy import Level, describe
from bilevel.stacks import held_now
from bilevel.summary import summarise
from bilevel.task_jobs import find_task
from bilevel.workspace import Workspace


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
            "LLM, or with a stack that gives all values itself, as tpe unless a parameter is a text"
        )

    def close(self) -> None:
        pass


def open_llm(spec: str, console: Console, outer: str = "") -> LLM:
    """The model or models that `spec` and `outer`, that of the outer levels, name.

    Weights are fetched under a bar where they are not here yet. `none` opens nothing: the run must
    do without. Raises ConfigError for an ensemble of fewer than two.
    """
    if spec.startswith(ENSEMBLE) and len(set(members(spec))) < 2:
        raise ConfigError(f"--llm {spec} must name two models or more, as in ensemble:A,B")
    wanted = dict.fromkeys([*members(spec), *((outer,) if outer else ())])
    if len(wanted) == 1:
        return _open(spec, console)
    with ExitStack() as opened:
        llms = {name: opened.enter_context(closing(_open(name, console))) for name in wanted}
        opened.pop_all()
    return Several(spec, llms)


def _open(spec: str, console: Console) -> LLM:
    if spec in (NO_LLM, STAND_IN):
        return NoLLM()
    with fetching(console) as show:
        return connect(spec, progress=show)


def conduct_and_report(
    workspace: Workspace, run: Run, llm: LLM, console: Console, on: Terms | None = None
) -> Stop:
    """Go on with a run to its end or a stop; write its results and print its summary.

    on: limits and prices that change from here on.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    records = workspace.records(run.id)
    run = under(run, records, on or Terms())
    folder = workspace.folder(run.id)
    _introduce(run, records, console)
    alive = "terminal" not in models(run)  # else what it draws would run into what a person types
    with Terminal(run, records, folder / "trials", console, alive) as terminal:
        stop = conduct(workspace, run, llm, terminal, on=on)
    leave(workspace, run, console)
    console.print(summary_panel(summarise(run, workspace.records(run.id))))
    begun = History(run.space, workspace.records(run.id)).best is not None
    if stop.reason == "interrupted" or (stop.reason == "failed" and begun and llm.name != NO_LLM):
        console.print(f"go on with: bilevel resume {run.id}")
    if stop.reason in ("budget", "wall"):
        gone = elapsed(workspace.store.events(run.id))
        limit = more(run, workspace.records(run.id), stop, gone)
        console.print(f"go on with more of it: bilevel resume {run.id} --budget {limit}")
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
        _say(console, f"no progress.png: {error}", "yellow")
    _say(console, f"results in {folder}", "dim")


def _introduce(run: Run, records: Sequence[Record], console: Console) -> None:
    goal = "lower" if run.objective.direction == "min" else "higher"
    begun = any(isinstance(r, Opening) for r in records) or History(run.space, records).trials
    verb = "going on with" if begun else "starting"
    console.print(
        Text.assemble(
            f"{verb} ",
            (run.id, "bold"),
            f": task {run.task}, {run.objective.metric} ({goal} is better)\n"
            f"{times(len(run.space), 'parameter')}, {times(run.evals, 'evaluation')}, LLM "
            f"{models_text(run.llm, run.llm_outer)}, seed {run.seed}",
        )
    )
    if run.tape:
        rest = "the LLM answers what it does not hold" if run.mixed else "no model is asked"
        _say(console, f"replies come from the tape of {run.tape}; {rest}")
    for name in models(run):
        if name.startswith("mailbox:"):
            _say(console, f"answers are awaited in {name[8:]}; its README.md says how")
    _say(console, levels_text(run))
    for text in budget_texts(run, records):
        _say(console, text)
    if joining := [f"{b.source.name} {b.source.sha[:8]}" for b in run.library if b.joins]:
        _say(console, f"of the library: {', '.join(joining)}")
    if run.outer.research != "off" and not run.outer.screening:
        _say(console, unscreened_text(), "yellow")
    if level := held_now(run):
        changed = f" (it began in {run.sandbox})" if level != run.sandbox else ""
        loud = level == "weak" or bool(changed)
        _say(console, sandbox_text(level) + changed, "bold yellow" if loud else "dim")


def _say(console: Console, text: str, style: str = "") -> None:
    """One line, whole, with names and paths as they are."""
    console.print(text, style=style, markup=False, soft_wrap=True)


def budget_texts(run: Run, records: Sequence[Record]) -> list[str]:
    """What the models cost and what the run may spend, a line each; nothing for local ones only."""
    costs = [p for p in price_list(run, records).values() if p.kind != "local"]
    texts = [prices_text(p) for p in costs]
    if run.limits or run.wall is not None:
        texts.append(f"budget: {limits_text(limits_of(run))}")
    if not costs and any(name.endswith("usd") for name in run.limits):
        texts.append("the models are local and cost nothing here: a limit on USD stops none")
    return texts


def unscreened_text() -> str:
    """What a run without screening does without; the remedy only where a library is missing."""
    text = "no screening: sources join without a trial on a surrogate"
    if can_screen():
        return text
    return f"{text}; scikit-learn, which it needs, is not here: pip install 'bilevel[search]'"


def levels_text(run: Run) -> str:
    """Which levels take part, and when the outer ones speak."""
    plan, said = run.outer, []
    if plan.steering:
        said.append(f"Level 1.5 steers after every {plan.every} evaluations")
    if plan.research != "off":
        sham = ", whose code is left out (sham)" if plan.research == "sham" else ""
        after = plan.every * plan.cycles
        where = ", beside the inner loop" if plan.beside else ""
        said.append(f"Level 2 holds a session after every {after}{where}{sham}")
    if not said:
        return "level 1: the inner loop alone"
    return f"levels {', '.join(names(plan))}: {'; '.join(said)}"


def sandbox_text(level: str) -> str:
    """How well code that is not ours is held, in plain words; loud where it is not."""
    title = "WEAK SANDBOX" if level == "weak" else f"sandbox {level}"
    return f"{title}: {describe(cast(Level, level))}"


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
