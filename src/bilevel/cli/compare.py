"""`bilevel compare`: many strategies on one task, in one table."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from bilevel.cli.options import HERE, AsJson, Home
from bilevel.cli.run_options import Hypotheses
from bilevel.cli.sandbox import Wall, prepare

if TYPE_CHECKING:
    from bilevel.compare.compare import Comparison, Plan
    from bilevel.compare.comparison import Standing
    from bilevel.compare.helpers import OnDemand
    from bilevel.compare.output import Heading
    from bilevel.compare.screen import CompareScreen

INTERRUPTED = 130
WIDE = 200  # columns of a table that goes into a file or a pipe


def compare(
    task: Annotated[str, typer.Argument(help="As `bilevel run` takes it: a task.toml, `gpt`, ...")],
    strategies: Annotated[
        str,
        typer.Option(
            help="all; free (no LLM calls); llm (the others); or a list as plain,gp,tabu+ucb1: "
            "plain is the LLM alone, + stacks mechanisms or your own .py files, the lowest first."
        ),
    ] = "all",
    evals: Annotated[int, typer.Option(help="Proposals that each run evaluates.")] = 30,
    seeds: Annotated[int, typer.Option(help="Runs of each strategy, on seeds 0, 1, ...")] = 3,
    llm: Annotated[str, typer.Option(help="As `bilevel run` takes it.")] = "embedded",
    hypotheses: Hypotheses = True,
    target: Annotated[
        float | None,
        typer.Option(help="Value to reach; left out, half of the largest mean gain of a strategy."),
    ] = None,
    confirms: Annotated[
        int, typer.Option(help="Fresh measurements of each run's winner at its end.")
    ] = 0,
    parallel: Annotated[
        int,
        typer.Option(help="Runs at a time of strategies without LLM calls; these then go first."),
    ] = 1,
    share: Annotated[
        bool,
        typer.Option(help="Take over equal LLM calls, and in deterministic tasks evaluations."),
    ] = True,
    records: Annotated[
        Path | None,
        typer.Option(help="A folder that --out wrote: its runs are taken in, not made again."),
    ] = None,
    sandbox: Wall = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for table.md, table.json, curves.png and the runs' logs."),
    ] = None,
    home: Home = HERE,
    as_json: AsJson = False,
) -> None:
    """Run many strategies on the same budget and seeds, and print one table.

    Ctrl-C pauses, and the same command goes on: what is in the store is not
    made again, so that more seeds or strategies cost only what is new. Runs go
    seed by seed, all strategies on the first one before the second.

    Each is an ordinary run, for `bilevel show` and `bilevel replay`, and starts
    without memories of others. Where strategies ask the LLM the very same, one
    call serves all; each run's figures still say what it would have cost alone.

    A strategy that fails, or lacks a library, gets a row that says so, and the
    exit status is 1.

    bilevel compare gpt --strategies free --seeds 10 --parallel 4

    bilevel compare task.toml --strategies plain,gp,tabu+ucb1 --out results/mine
    """
    from bilevel.cli.running import open_llm
    from bilevel.compare.compare import Comparison, Plan
    from bilevel.compare.helpers import OnDemand, interruptible
    from bilevel.compare.output import Heading
    from bilevel.compare.screen import CompareScreen
    from bilevel.compare.strategies import named
    from bilevel.errors import BilevelError, ConfigError
    from bilevel.workspace import Workspace

    if parallel < 1:
        raise ConfigError(f"parallel is {parallel} but must be at least 1")
    interruptible()
    console = Console(stderr=True, markup=False)
    prepare(sandbox, console)
    plan = Plan(
        task,
        named(strategies),
        evals,
        seeds,
        llm,
        confirms=confirms,
        sandbox=sandbox,
        hypotheses=hypotheses,
    )
    comparison = Comparison(Workspace(home), plan, share)
    command = _command(plan, strategies, target, share)
    heading = Heading(command, comparison.prototype.task, evals, seeds, llm, share)
    if records is not None:
        _take(comparison, records, console)
    interrupted = False
    with closing(OnDemand(llm, lambda spec: open_llm(spec, console))) as model:
        try:
            _make(comparison, model, CompareScreen(comparison, console, parallel), home, parallel)
        except KeyboardInterrupt:
            interrupted = True
        except BilevelError:
            if comparison.runs:
                _report(comparison, heading, target, out, as_json, console)
            raise
    found = _report(comparison, heading, target, out, as_json, console)
    if interrupted:
        console.print("paused; the same command goes on")
        raise typer.Exit(INTERRUPTED)
    if any(row.problems for row in found.rows):
        raise typer.Exit(1)


def _take(comparison: Comparison, folder: Path, console: Console) -> None:
    """Take in the runs of a folder, and say what became of them."""
    from bilevel.compare.taking import archives, take

    taken = take(comparison, archives(folder))
    console.print(f"{folder}: {len(taken.entered)} runs taken in, {taken.known} were here")
    if taken.foreign:
        console.print(
            f"{len(taken.foreign)} left out, which this command would not make (another task, "
            "strategy, seed, budget, LLM or version)",
            style="yellow",
        )


def _make(
    comparison: Comparison, llm: OnDemand, screen: CompareScreen, home: Path, parallel: int
) -> None:
    """Make what is not there yet; what needs no LLM first, where several runs go at a time."""
    from bilevel.compare.helpers import helpers

    comparison.look()
    left = comparison.left()
    if any(not cell.free for cell in left):
        llm.open()  # a missing key is better found now than after the first hour
    free = [cell for cell in left if cell.free] if parallel > 1 else []
    with screen:
        if free:
            number = min(parallel, len(free)) - 1
            with helpers(number, home, comparison.plan, free, comparison.shares):
                comparison.go(free, llm, screen)
        comparison.go(comparison.left(), llm, screen)


def _report(
    comparison: Comparison,
    heading: Heading,
    target: float | None,
    out: Path | None,
    as_json: bool,
    console: Console,
) -> Standing:
    """Print the table of the runs that are there, and write what `out` asks for."""
    from bilevel.compare import output
    from bilevel.compare.comparison import standing
    from bilevel.compare.strategies import code_lines
    from bilevel.errors import MissingExtra

    logs = comparison.logs()
    found = standing(
        comparison.prototype.objective,
        logs,
        comparison.words(),
        {s: code_lines(s) for s in logs},
        len(comparison.plan.cells()),
        target,
        comparison.shares,
    )
    if as_json:
        sys.stdout.write(json.dumps(output.document(heading, found, logs), indent=2) + "\n")
    else:
        _print(heading, found)
    if out is not None:
        output.write_tables(heading, found, logs, out)
        output.write_logs(logs, out / "runs")
        try:
            output.curves(heading, found, out / "curves.png")
        except MissingExtra as error:
            console.print(f"no curves.png: {error}", style="yellow")
        console.print(f"written to {out}", style="dim")
    for row in found.rows:
        for problem in row.problems:
            console.print(Text(f"{row.strategy}: {problem}", style="bold red"), soft_wrap=True)
    return found


def _print(heading: Heading, found: Standing) -> None:
    from bilevel.compare import output

    console = Console(markup=False)
    if not console.is_terminal:
        console = Console(width=WIDE, markup=False)
    for table in output.tables(heading, found, console.width):
        console.print(table)
    for line in output.legend(heading, found):
        console.print(Text(line, style="dim"))


def _command(plan: Plan, strategies: str, target: float | None, share: bool) -> str:
    """The command line that makes this comparison."""
    words = ["bilevel", "compare", plan.task, "--strategies", strategies]
    words += ["--evals", str(plan.evals), "--seeds", str(plan.seeds), "--llm", plan.llm]
    words += [] if target is None else ["--target", f"{target:g}"]
    words += ["--confirms", str(plan.confirms)] if plan.confirms else []
    words += [] if plan.sandbox == "auto" else ["--sandbox", plan.sandbox]
    words += [] if plan.hypotheses else ["--no-hypotheses"]
    words += [] if share else ["--no-share"]
    return shlex.join(words)
