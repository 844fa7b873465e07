"""`bilevel library`: mechanisms over runs, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from bilevel.cli.options import HERE, AllowWeak, AsJson, Home, console, print_json, workspace_at
from bilevel.cli.sandbox import Wall, prepare
from bilevel.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from bilevel.library.library import Entry

library = typer.Typer(
    help="Mechanisms that earlier runs admitted, with what became of them; `run --library` begins "
    "with some.",
    no_args_is_help=True,
)
INTERRUPTED = 130
Shas = Annotated[
    list[str] | None, typer.Argument(help="Mechanisms by sha or its beginning; all if left out.")
]


@library.command("list")
def list_entries(home: Home = HERE, as_json: AsJson = False) -> None:
    """All mechanisms, the oldest first: where from, credit over runs, what other tasks say."""
    from bilevel.library import output

    entries = workspace_at(home).library.entries()
    if as_json:
        print_json([output.document(e) for e in entries])
    elif entries:
        console.print(output.table(entries))
        console.print(output.CREDIT, style="dim")
    else:
        console.print(
            "the library is empty; runs with Level 2 fill it, or `bilevel library collect`, `add` "
            "and `import`"
        )


@library.command()
def show(
    sha: Annotated[str, typer.Argument(help="A mechanism's sha, or its beginning.")],
    home: Home = HERE,
    as_json: AsJson = False,
) -> None:
    """All that is known of a mechanism: source, hypotheses, parents, each run, each trial of it."""
    from bilevel.library import output

    entry = workspace_at(home).library.find(sha)
    if as_json:
        print_json(output.document(entry))
        return
    for name, words in output.facts(entry):
        console.print(Text.assemble((f"{name}: ", "bold"), words), soft_wrap=True)
    console.print(Text(f"\n{output.code(entry)}"), soft_wrap=True)


@library.command()
def add(
    file: Annotated[Path, typer.Argument(help="A Python file with one mechanism.")],
    task: Annotated[str, typer.Option(help="The task it is for, as `bilevel run` takes it.")],
    sandbox: Wall = "auto",
    allow_weak_sandbox: AllowWeak = False,
    home: Home = HERE,
) -> None:
    """Put a mechanism of yours into the library, if it passes the gate.

    The gate judges it on the latest run of that task. Where there is none, it
    passes or fails the suite that every mechanism must pass.
    """
    from bilevel.library import admission
    from bilevel.sandbox.sandboxed import Sandbox

    prepare(sandbox, Console(stderr=True))
    with Sandbox(allow_weak=allow_weak_sandbox, wall=sandbox) as held:
        entry = admission.add(workspace_at(home), file, task, held)
    console.print(f"added {entry.source.name} {entry.sha[:8]}; it passed {entry.passed}")


@library.command()
def collect(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Names of runs in the store; all if left out.")
    ] = None,
    sandbox: Wall = "auto",
    allow_weak_sandbox: AllowWeak = False,
    home: Home = HERE,
) -> None:
    """Fill the library from runs that are in the store; a run's end does the same by itself.

    Decides the runs again without each mechanism, for its credit. What is there
    stays. Exit status 1 where a run could not be decided again.
    """
    from bilevel.library import records as library_records
    from bilevel.sandbox.sandboxed import Sandbox
    from bilevel.stacks import needs_sandbox

    prepare(sandbox, Console(stderr=True))
    workspace = workspace_at(home)
    store, before = workspace.store, workspace.library.shas()
    wanted = [store.run(name) for name in runs] if runs else store.runs()
    problems = []
    for run in filter(needs_sandbox, wanted):
        records = workspace.records(run.id)
        try:
            with Sandbox(allow_weak=allow_weak_sandbox, wall=sandbox) as held:
                library_records.collect(workspace.library, run, records, held)
        except (ConfigError, MissingExtra) as error:
            problems.append(f"{run.id}: {error}")
    new = len(workspace.library.shas() - before)
    console.print(f"looked through {len(wanted)} runs: {new} new mechanisms")
    _fail(problems)


@library.command()
def export(
    file: Annotated[Path, typer.Argument(help="A JSON file to write.")],
    shas: Shas = None,
    home: Home = HERE,
) -> None:
    """Write mechanisms, with all that is known of them, into a file for another library."""
    from bilevel.library.admission import exported
    from bilevel.results import replacing

    entries = _named(shas, home)
    with replacing(file) as new:
        new.write_text(exported(entries), encoding="utf-8")
    console.print(f"{len(entries)} mechanisms written to {file}")


@library.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="What `library export` wrote.")],
    sandbox: Wall = "auto",
    allow_weak_sandbox: AllowWeak = False,
    home: Home = HERE,
) -> None:
    """Take in mechanisms that another library exported.

    Each source must be the text whose sha the file gives, and pass the suite
    for mechanisms here, in the sandbox. Exit status 1 if one did not.
    """
    from bilevel.library.admission import nonconforming, take
    from bilevel.sandbox.sandboxed import Sandbox

    prepare(sandbox, Console(stderr=True))
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    with Sandbox(allow_weak=allow_weak_sandbox, wall=sandbox) as held:
        found = take(workspace_at(home).library, text, lambda source: nonconforming(source, held))
    console.print(f"{len(found.new)} new, {len(found.known)} known, {len(found.refused)} refused")
    _fail([f"{sha[:8]} {words}" for sha, words in found.refused.items()])


@library.command()
def prune(
    shas: Annotated[
        list[str] | None,
        typer.Argument(help="Mechanisms to take out whatever they did; left out: the useless."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    home: Home = HERE,
) -> None:
    """Take mechanisms out: those whose code failed in each run, that never changed the outcome of
    a decision in two runs or more, or that harm every task they were tried on.

    Runs that began with one keep it in their own record.
    """
    from bilevel.library.library import prunable
    from bilevel.library.output import named

    entries = _named(shas, home)
    reasons = {e.sha: "you named it" if shas else prunable(e) for e in entries}
    out = [e for e in entries if reasons[e.sha]]
    for entry in out:
        console.print(Text(f"{named(entry)}: {reasons[entry.sha]}"), soft_wrap=True)
    if not out:
        console.print("nothing to take out")
    elif yes or typer.confirm(f"Take out {len(out)} of {len(entries)}?"):
        workspace_at(home).library.remove([e.sha for e in out])
        console.print(f"took out {len(out)}")


@library.command()
def evaluate(
    tasks: Annotated[
        str, typer.Option(help="Tasks as `bilevel run` takes them, as gpt,mine/task.toml.")
    ],
    shas: Shas = None,
    seeds: Annotated[int, typer.Option(help="Pairs of searches, on seeds 0, 1, ...")] = 5,
    evals: Annotated[int, typer.Option(help="Proposals that each search evaluates.")] = 30,
    llm: Annotated[
        str | None,
        typer.Option(
            help="As `bilevel run` takes it. Left out, no LLM: proposals are drawn by the habits "
            "of a small one, which cannot read a mechanism's advice."
        ),
    ] = None,
    sandbox: Wall = "auto",
    home: Home = HERE,
    as_json: AsJson = False,
) -> None:
    """Whether mechanisms help on tasks, above all on those they never saw.

    Each search is made with the mechanism and without it, on the same seeds
    and budget. What comes out is noted in the library, and `run --library`
    passes over what harms its task. Ctrl-C pauses; the same command goes on.
    """
    from bilevel.cli.running import open_llm
    from bilevel.compare.helpers import OnDemand, Silent
    from bilevel.library import output
    from bilevel.library.evaluation import Trying, evaluated
    from bilevel.library.proposer import STAND_IN

    screen = Console(stderr=True, markup=False)
    prepare(sandbox, screen)
    entries, proposer = _named(shas, home), llm or STAND_IN
    names = [task.strip() for task in tasks.split(",") if task.strip()]
    tryings = [Trying(task, evals, seeds, proposer, sandbox) for task in names]
    with closing(OnDemand(proposer, lambda spec: open_llm(spec, screen))) as model:
        try:
            with screen.status(Text(f"{len(entries)} mechanisms on {tasks}, {seeds} seeds")):
                found, problems = evaluated(workspace_at(home), entries, tryings, model, Silent())
        except KeyboardInterrupt:
            screen.print("paused; the same command goes on")
            raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json({"trials": [output.trial(e, t) for e, t in found], "problems": problems})
    else:
        console.print(output.trials(found))
        for note in output.notes(found, drawn=llm is None):
            console.print(note, style="dim")
    _fail(problems)


def _fail(problems: Sequence[str]) -> None:
    """Say on stderr what went wrong; exit status 1 if anything did."""
    for problem in problems:
        Console(stderr=True).print(Text(problem, style="bold red"), soft_wrap=True)
    if problems:
        raise typer.Exit(1)


def _named(shas: Sequence[str] | None, home: Path) -> list[Entry]:
    """Those that the user named, or all. Raises ConfigError where there is none."""
    shelf = workspace_at(home).library
    entries = [shelf.find(sha) for sha in shas] if shas else shelf.entries()
    if not entries:
        raise ConfigError("the library is empty; fill it with `bilevel library collect` or `add`")
    return entries
