"""The command line. Heavy libraries are imported by the commands that need them."""

from __future__ import annotations

import gzip
import json
import re
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from bilevel import __version__
from bilevel.cli_compare import compare
from bilevel.cli_mechanisms import mechanisms
from bilevel.cli_models import models
from bilevel.errors import BilevelError, ConfigError

if TYPE_CHECKING:
    from bilevel.assemble import Settings, Workspace
    from bilevel.model import Record, Run
    from bilevel.protocols import LLM

INTERRUPTED = 130
PAUSED = 3

app = typer.Typer(
    name="bilevel",
    help="Autoresearch: an LLM proposes, an experiment runs, the metric decides.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(mechanisms, name="mechanisms")
app.add_typer(models, name="models")
app.command()(compare)
console = Console()

Home = Annotated[
    Path, typer.Option("--home", envvar="BILEVEL_HOME", help="Folder of the store and of all runs.")
]
RunId = Annotated[
    str | None, typer.Argument(help="A run's name, as `list` shows it; latest if left out.")
]
LogId = Annotated[
    str | None,
    typer.Argument(
        help="A run's name, or a file that `show --json` printed, perhaps packed by gzip; "
        "latest if left out."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Llm = Annotated[
    str,
    typer.Option(
        help="embedded, embedded:NAME, provider/model (openai, deepseek, openrouter, ollama, "
        "vllm), or model@URL of any OpenAI-compatible server. Keys come from the environment."
    ),
]
HERE = Path(".bilevel")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print it.")] = False) -> None:
    if version:
        console.print(__version__)
        raise typer.Exit


@app.command()
def demo(
    evals: Annotated[int, typer.Option(help="Proposals to evaluate.")] = 10,
    llm: Llm = "embedded",
    seed: int = 0,
    home: Home = HERE,
) -> None:
    """Improve a small GPT's pretraining with a local LLM: no key, no GPU, a few minutes.

    The first time, the model's weights (1.1 GB) are fetched and verified.
    """
    from bilevel.assemble import Settings

    _start("gpt", Settings(evals=evals, llm=llm, seed=seed), home, as_json=False)


@app.command()
def init(
    script: Annotated[Path, typer.Argument(help="A training script with upper-case constants.")],
    force: Annotated[bool, typer.Option(help="Overwrite an existing task.toml.")] = False,
) -> None:
    """Write a commented task.toml beside a script: its parameters, bounds, metric."""
    from bilevel.tasks.init import write

    path = write(script, force=force)
    console.print(f"wrote {path}; read it, then: bilevel run {path}")


@app.command()
def run(
    task: Annotated[
        str, typer.Argument(help="A task.toml, its folder, a script, `gpt` or `gpt-cuda`.")
    ],
    evals: Annotated[int, typer.Option(help="Proposals to evaluate.")] = 30,
    llm: Llm = "embedded",
    seed: Annotated[int, typer.Option(help="Every random choice derives from it.")] = 0,
    wall: Annotated[
        str | None, typer.Option(help="Time after which no further step begins, as 8h or 1h30m.")
    ] = None,
    slots: Annotated[int, typer.Option(help="Evaluations that may run at a time.")] = 1,
    baselines: Annotated[
        int | None, typer.Option(help="Measurements of the baseline, at least 2.")
    ] = None,
    confirms: Annotated[
        int | None, typer.Option(help="Fresh measurements of the winner at the end.")
    ] = None,
    stack: Annotated[
        str, typer.Option(help="Search mechanisms over the loop, lowest first, as tabu,ucb1.")
    ] = "",
    home: Home = HERE,
    as_json: AsJson = False,
) -> None:
    """Optimise a task. Ctrl-C pauses; `bilevel resume` goes on."""
    from bilevel.assemble import Settings

    seconds = None if wall is None else _seconds(wall)
    names = tuple(name.strip() for name in stack.split(",") if name.strip())
    settings = Settings(evals, seed, llm, seconds, slots, baselines, confirms, names)
    _start(task, settings, home, as_json)


@app.command()
def resume(name: RunId = None, home: Home = HERE, as_json: AsJson = False) -> None:
    """Go on with a run that was paused, interrupted or killed, to the same decisions."""
    workspace, found = _find(name, home)
    with _llm(found.llm, as_json) as llm:
        _conduct(workspace, found, llm, as_json)


@app.command("list")
def list_runs(home: Home = HERE, as_json: AsJson = False) -> None:
    """All runs, oldest first."""
    from bilevel.render import runs_table
    from bilevel.summary import summarise

    workspace = _workspace(home)
    rows = [(r, summarise(r, workspace.records(r.id))) for r in workspace.store.runs()]
    if as_json:
        _print_json([asdict(summary) for _, summary in rows])
    elif rows:
        console.print(runs_table(rows))
    else:
        console.print(f"no run yet in {home}; start one with `bilevel run TASK` or `bilevel demo`")


@app.command()
def show(
    name: LogId = None,
    last: Annotated[int | None, typer.Option(help="Only the last trials.")] = None,
    home: Home = HERE,
    as_json: AsJson = False,
) -> None:
    """A run's trials, best configuration, and gain against noise."""
    from bilevel import codec
    from bilevel.render import summary_panel, trials_table
    from bilevel.summary import summarise

    found, records = _log(name, home)
    summary = summarise(found, records)
    if as_json:
        _print_json({**json.loads(codec.dump_log(found, records)), "summary": asdict(summary)})
        return
    console.print(trials_table(found, records, last))
    console.print(summary_panel(summary))


@app.command()
def best(
    name: RunId = None,
    patch: Annotated[bool, typer.Option("--patch", help="A diff against your script.")] = False,
    home: Home = HERE,
    as_json: AsJson = False,
) -> None:
    """The best configuration; with --patch, as a diff that `git apply` or `patch -p1` takes."""
    from bilevel.assemble import find_task
    from bilevel.history import History

    workspace, found = _find(name, home)
    trial = History(found.space, workspace.records(found.id)).best
    if trial is None or trial.score is None:
        raise ConfigError(f"{found.id} has no successful trial yet; see `bilevel show {found.id}`")
    if patch:
        task, _ = find_task(found.source)
        if not hasattr(task, "patch"):
            raise ConfigError(f"{found.task} is no script, so there is nothing to patch")
        sys.stdout.write(task.patch(trial.values))
    elif as_json:
        _print_json(
            {"trial": trial.id, "values": dict(trial.values), "metrics": dict(trial.metrics)}
        )
    else:
        value = found.objective.value(trial.score)
        console.print(f"{found.objective.metric} {value:.6g} in trial #{trial.id}")
        for param in found.space:
            mark = " *" if trial.values[param.name] != param.default else ""
            console.print(f"{param.name} = {param.show(trial.values[param.name])}{mark}")


@app.command()
def replay(name: LogId = None, home: Home = HERE) -> None:
    """Decide a recorded run again, without LLM and without jobs; the first difference, if any."""
    from bilevel.assemble import replayed

    found, records = _log(name, home)
    result = replayed(found, records)
    if result.difference is None:
        console.print(
            f"{found.id}: all {result.decisions} proposals and trials came out as recorded"
        )
        return
    console.print(f"{found.id}: record {result.difference.number} differs: {result.difference.why}")
    console.print("recorded", result.difference.recorded)
    console.print("replayed", result.difference.replayed)
    raise typer.Exit(1)


@app.command()
def doctor(
    task: Annotated[
        str | None, typer.Argument(help="A task to load, and to evaluate once.")
    ] = None,
    home: Home = HERE,
    as_json: AsJson = False,
) -> None:
    """Check machine, libraries, weights, keys and a task; each problem with its remedy."""
    from bilevel.assemble import try_baseline
    from bilevel.doctor import checks, checks_table

    found = checks(home, task, baseline=try_baseline)
    if as_json:
        _print_json([asdict(check) for check in found])
    else:
        console.print(checks_table(found))
    if any(check.status == "fail" for check in found):
        raise typer.Exit(1)


def _start(task: str, settings: Settings, home: Path, as_json: bool) -> None:
    from bilevel.assemble import begin

    with _llm(settings.llm, as_json) as llm:
        workspace = _workspace(home)
        _conduct(workspace, begin(workspace, task, settings), llm, as_json)


def _llm(spec: str, as_json: bool) -> closing[LLM]:
    from bilevel.running import open_llm

    return closing(open_llm(spec, _screen(as_json)))


def _screen(as_json: bool) -> Console:
    """Where people read: stderr when stdout is for a machine."""
    return Console(stderr=True) if as_json else console


def _conduct(workspace: Workspace, found: Run, llm: LLM, as_json: bool) -> None:
    """Run to the end or to a stop, write what the run leaves, and say what came of it."""
    from bilevel.running import conduct_and_report

    stop = conduct_and_report(workspace, found, llm, _screen(as_json))
    if as_json:
        from bilevel.summary import summarise

        _print_json(asdict(summarise(found, workspace.records(found.id))))
    if stop.reason == "interrupted":
        raise typer.Exit(INTERRUPTED)
    if stop.reason == "failed":
        raise typer.Exit(PAUSED)


def _seconds(text: str) -> float:
    """Seconds of a duration such as 8h, 1h30m or 90s. Raises ConfigError."""
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    if not found or not any(found.groups()):
        raise ConfigError(f"--wall is {text!r} but must be a time such as 8h, 1h30m or 90s")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return 3600.0 * hours + 60 * minutes + seconds


def _workspace(home: Path) -> Workspace:
    from bilevel.assemble import Workspace

    return Workspace(home)


def _find(name: str | None, home: Path) -> tuple[Workspace, Run]:
    workspace = _workspace(home)
    return workspace, workspace.store.run(name) if name else workspace.latest()


def _log(name: str | None, home: Path) -> tuple[Run, list[Record]]:
    """A run and its records, from the store or from a file that `show --json` printed."""
    if name is not None and name.endswith((".json", ".json.gz")):
        from bilevel.codec import load_log

        if not Path(name).is_file():
            raise ConfigError(f"there is no file {name}; give a run's name or an exported run")
        data = Path(name).read_bytes()
        return load_log((gzip.decompress(data) if name.endswith(".gz") else data).decode())
    workspace, found = _find(name, home)
    return found, workspace.records(found.id)


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def main() -> None:
    """Run the command line; a BilevelError becomes one message and exit status 1."""
    try:
        app()
    except BilevelError as error:
        Console(stderr=True).print(f"bilevel: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
