"""The command line. Heavy libraries are imported by the commands that need them."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from bilevel import __version__
from bilevel.cli.compare import compare
from bilevel.cli.costs import costs, estimate
from bilevel.cli.library import library
from bilevel.cli.mcp import mcp
from bilevel.cli.mechanisms import mechanisms
from bilevel.cli.models import models
from bilevel.cli.options import (
    HERE,
    AllowWeak,
    AsJson,
    Home,
    LogId,
    RunId,
    console,
    find,
    log,
    print_json,
    runnable,
    workspace_at,
)
from bilevel.cli.records import export, import_run, replay
from bilevel.cli.run import demo, resume, run
from bilevel.cli.study import study
from bilevel.errors import BilevelError, ConfigError

if TYPE_CHECKING:
    from bilevel.model import Record, Run

app = typer.Typer(
    name="bilevel",
    help="Autoresearch that researches itself: an LLM proposes, an experiment runs, the metric "
    "decides; and outer levels steer the search and write its mechanisms anew.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(mechanisms, name="mechanisms")
app.add_typer(models, name="models")
app.add_typer(library, name="library")
app.add_typer(study, name="study")
for command in (demo, run, resume, estimate, costs, compare, replay, export, mcp):
    app.command()(command)
app.command("import")(import_run)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print it.")] = False) -> None:
    if version:
        console.print(__version__)
        raise typer.Exit


@app.command()
def init(
    script: Annotated[Path, typer.Argument(help="A training script with upper-case constants.")],
    force: Annotated[bool, typer.Option(help="Overwrite an existing task.toml.")] = False,
) -> None:
    """Write a commented task.toml beside a script: its parameters, bounds, metric."""
    from bilevel.tasks.init import write

    path = write(script, force=force)
    console.print(f"wrote {path}; read it, then: bilevel run {path}", soft_wrap=True)


@app.command("list")
def list_runs(home: Home = HERE, as_json: AsJson = False) -> None:
    """All runs, oldest first."""
    from bilevel.render.render import runs_table
    from bilevel.summary import summarise

    workspace = workspace_at(home)
    rows = [(r, summarise(r, workspace.records(r.id))) for r in workspace.store.runs()]
    if as_json:
        print_json([asdict(summary) for _, summary in rows])
    elif rows:
        console.print(runs_table(rows))
    else:
        console.print(f"no run yet in {home}; start one with `bilevel run TASK` or `bilevel demo`")


@app.command()
def show(
    name: LogId = None,
    last: Annotated[int | None, typer.Option(help="Only the last trials.")] = None,
    mechanisms: Annotated[
        bool,
        typer.Option(
            "--mechanisms",
            help="Each mechanism of the run: why it was written, its source, the decisions that it "
            "changed and the trials that came of them. Decides the run again without each.",
        ),
    ] = False,
    ledger: Annotated[
        bool, typer.Option("--ledger", help="Each decision that a mechanism changed, in order.")
    ] = False,
    as_it_went: Annotated[
        bool,
        typer.Option(
            "--log",
            help="What the terminal showed while the run went: trials, refusals, what Level 1.5 "
            "changed and why, what the sessions of Level 2 said and the gate's answers.",
        ),
    ] = False,
    allow_weak_sandbox: AllowWeak = False,
    home: Home = HERE,
    as_json: AsJson = False,
) -> None:
    """A run's trials, best configuration, and gain against noise; or what its mechanisms did."""
    from bilevel import codec
    from bilevel.render.render import summary_panel, trials_table
    from bilevel.summary import summarise

    if mechanisms or ledger:
        found, records = runnable(name, home, allow_weak_sandbox)
        _show_mechanisms(found, records, mechanisms, ledger, as_json)
        return
    found, records = log(name, home)
    summary = summarise(found, records)
    if as_json:
        print_json({**json.loads(codec.dump_log(found, records)), "summary": asdict(summary)})
        return
    if as_it_went:
        _show_log(found, records)
    else:
        console.print(trials_table(found, records, last))
    console.print(summary_panel(summary))


def _show_log(found: Run, records: list[Record]) -> None:
    from bilevel.render.live import Terminal

    with Terminal(found, [], Path(), console, alive=False) as terminal:
        for record in records:
            terminal.record(record)


def _show_mechanisms(
    found: Run, records: list[Record], accounts: bool, entries: bool, as_json: bool
) -> None:
    from rich.text import Text

    from bilevel import accounts as whole
    from bilevel.ensemble import models_text
    from bilevel.ledger import ledger
    from bilevel.render import levels as render_levels

    document: dict[str, Any] = {"run": found.id, "llm": found.llm, "llm_outer": found.llm_outer}
    if not as_json:
        said = models_text(found.llm, found.llm_outer)
        console.print(Text(f"{found.id}: LLM {said}"), soft_wrap=True)
    if accounts:
        made = whole.accounts(found, records, whole.credited(found, records))
        document["mechanisms"] = [asdict(account) for account in made]
        if not as_json:
            console.print(render_levels.accounts_view(found, made))
    if entries:
        changed = ledger(found, records)
        document["ledger"] = [asdict(entry) for entry in changed]
        if not as_json:
            console.print(render_levels.ledger_table(found, changed))
    if as_json:
        print_json(document)


@app.command()
def best(
    name: RunId = None,
    patch: Annotated[bool, typer.Option("--patch", help="A diff against your script.")] = False,
    home: Home = HERE,
    as_json: AsJson = False,
) -> None:
    """The best configuration; with --patch, as a diff that `git apply` or `patch -p1` takes."""
    from bilevel.history import History
    from bilevel.task_jobs import find_task

    workspace, found = find(name, home)
    trial = History(found.space, workspace.records(found.id)).best
    if trial is None or trial.score is None:
        raise ConfigError(f"{found.id} has no successful trial yet; see `bilevel show {found.id}`")
    if patch:
        task, _ = find_task(found.source)
        if not hasattr(task, "patch"):
            raise ConfigError(f"{found.task} is no script, so there is nothing to patch")
        sys.stdout.write(task.patch(trial.values))
    elif as_json:
        print_json(
            {"trial": trial.id, "values": dict(trial.values), "metrics": dict(trial.metrics)}
        )
    else:
        value = found.objective.value(trial.score)
        console.print(f"{found.objective.metric} {value:.6g} in trial #{trial.id}")
        for param in found.space:
            here = trial.values[param.name]
            mark = " *" if here != param.default else ""
            what = (
                f"{mark}\n{str(here).rstrip()}" if param.multiline else f" {param.show(here)}{mark}"
            )
            console.print(Text(f"{param.name} ={what}"), soft_wrap=True)


@app.command()
def doctor(
    task: Annotated[
        str | None, typer.Argument(help="A task to load, and to evaluate once.")
    ] = None,
    home: Home = HERE,
    as_json: AsJson = False,
) -> None:
    """Check machine, libraries, weights, keys and a task; each problem with its remedy."""
    from bilevel.doctor import checks
    from bilevel.render.checks import checks_table
    from bilevel.task_jobs import try_baseline

    found = checks(home, task, baseline=try_baseline)
    if as_json:
        print_json([asdict(check) for check in found])
    else:
        console.print(checks_table(found))
    if any(check.status == "fail" for check in found):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; a BilevelError becomes one message and exit status 1."""
    try:
        app()
    except BilevelError as error:
        Console(stderr=True).print(f"bilevel: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
