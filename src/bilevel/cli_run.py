"""`bilevel demo`, `run` and `resume`: what starts runs, and what of the outer loop can be set."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from bilevel.cli_options import (
    HERE,
    AllowWeak,
    AsJson,
    Home,
    RunId,
    console,
    find,
    print_json,
    workspace_at,
)
from bilevel.errors import ConfigError

if TYPE_CHECKING:
    from bilevel.assemble import Settings, Workspace
    from bilevel.model import Run
    from bilevel.protocols import LLM

INTERRUPTED = 130
PAUSED = 3
OUTER = "Outer loop"

Llm = Annotated[
    str,
    typer.Option(
        help="embedded, embedded:NAME, provider/model (openai, deepseek, openrouter, ollama, "
        "vllm), or model@URL of any OpenAI-compatible server. Keys come from the environment. "
        "none: for a stack that gives all values itself, as tpe."
    ),
]
Levels = Annotated[
    str | None,
    typer.Option(
        help="Who takes part: 1 proposes and evaluates; 1.5 steers: freezes parameters, sets a "
        "strategy, advises; 2 writes new search mechanisms as code, while the run goes. "
        "1 | 1,1.5 | 1,2 | 1,1.5,2; all three if left out, with --llm none 1.",
        rich_help_panel=OUTER,
    ),
]
Sham = Annotated[
    bool,
    typer.Option(
        "--sham",
        help="A control: Level 2 talks and is paid for, and its code is left out.",
        rich_help_panel=OUTER,
    ),
]
Every = Annotated[
    int,
    typer.Option(help="Evaluations between two steerings (a cycle).", rich_help_panel=OUTER),
]
Cycles = Annotated[
    int, typer.Option(help="Cycles from one session of Level 2 to the next.", rich_help_panel=OUTER)
]
Layers = Annotated[
    int,
    typer.Option(
        help="Mechanisms of Level 2 that may be at work at a time; the one with least credit "
        "makes room.",
        rich_help_panel=OUTER,
    ),
]
Candidates = Annotated[
    int,
    typer.Option(
        help="Sources that a session asks for until one is admitted.", rich_help_panel=OUTER
    ),
]
Repairs = Annotated[
    int,
    typer.Option(
        help="Times that a refused source goes back to its author with the reason.",
        rich_help_panel=OUTER,
    ),
]
Domains = Annotated[
    Literal["hint", "none"],
    typer.Option(
        help="Whether Level 2 is told of fields to borrow from, or must think of them itself.",
        rich_help_panel=OUTER,
    ),
]
NoScreening = Annotated[
    bool,
    typer.Option(
        "--no-screening",
        help="Leave out the gate's last part: whether a source does harm on a surrogate.",
        rich_help_panel=OUTER,
    ),
]


def demo(
    evals: Annotated[int, typer.Option(help="Proposals to evaluate.")] = 12,
    llm: Llm = "embedded",
    seed: int = 0,
    levels: Levels = None,
    allow_weak_sandbox: AllowWeak = False,
    home: Home = HERE,
) -> None:
    """Improve a small GPT's pretraining with a local LLM: no key, no GPU, a few minutes.

    All three levels are at work: the LLM proposes and the metric decides;
    after every 3 evaluations it steers, and after 6 it writes a search
    mechanism as code, which runs in a sandbox.

    The first time, the model's weights (1.1 GB) are fetched and verified.
    """
    from bilevel.assemble import Settings
    from bilevel.levels import chosen

    outer = replace(chosen(levels, llm), every=3, cycles=2, candidates=2, repairs=1)
    settings = Settings(evals, seed, llm, outer=outer, allow_weak=allow_weak_sandbox)
    _start("gpt", settings, home, as_json=False)


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
        str,
        typer.Option(
            help="Search mechanisms over the loop from the start, lowest first: names that "
            "`mechanisms list` shows, or your own .py files, which run in the sandbox. "
            "As tabu,mine.py."
        ),
    ] = "",
    levels: Levels = None,
    sham: Sham = False,
    every: Every = 5,
    cycles: Cycles = 2,
    layers: Layers = 3,
    candidates: Candidates = 4,
    repairs: Repairs = 3,
    domains: Domains = "none",
    no_screening: NoScreening = False,
    allow_weak_sandbox: AllowWeak = False,
    home: Home = HERE,
    as_json: AsJson = False,
) -> None:
    """Optimise a task, on all three levels. Ctrl-C pauses; `bilevel resume` goes on.

    Level 1 proposes a change, runs the experiment, and keeps what is better.
    Level 1.5 steers it. Level 2 writes mechanisms that change how the search
    is done; each must pass a gate, and runs in a sandbox.

    bilevel run task.toml --evals 50

    bilevel run gpt --levels 1 --stack tpe --llm none
    """
    from bilevel.assemble import Settings
    from bilevel.levels import chosen

    outer = replace(
        chosen(levels, llm, sham),
        every=every,
        cycles=cycles,
        layers=layers,
        candidates=candidates,
        repairs=repairs,
        domains=domains,
        screening=not no_screening,
    )
    settings = Settings(
        evals,
        seed,
        llm,
        None if wall is None else seconds(wall),
        slots,
        baselines,
        confirms,
        _stack(stack, llm),
        outer=outer,
        allow_weak=allow_weak_sandbox,
    )
    _start(task, settings, home, as_json)


def resume(name: RunId = None, home: Home = HERE, as_json: AsJson = False) -> None:
    """Go on with a run that was paused, interrupted or killed, to the same decisions."""
    workspace, found = find(name, home)
    with _llm(found.llm, as_json) as llm:
        _conduct(workspace, found, llm, as_json)


def _stack(text: str, llm: str) -> tuple[str, ...]:
    """The names of a comma list. Raises ConfigError where neither they nor an LLM can propose."""
    from bilevel.levels import NO_LLM

    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if llm == NO_LLM and not names:
        raise ConfigError(
            "--llm none leaves nobody to propose; give --stack a mechanism that does, such as tpe "
            "or random_search"
        )
    return names


def _start(task: str, settings: Settings, home: Path, as_json: bool) -> None:
    from bilevel.assemble import begin
    from bilevel.sandbox.errors import SandboxRefused

    with _llm(settings.llm, as_json) as llm:
        workspace = workspace_at(home)
        try:
            begun = begin(workspace, task, settings)
        except SandboxRefused as error:
            raise ConfigError(
                f"{error}: --allow-weak-sandbox; or do without generated code: --levels 1,1.5"
            ) from error
        _conduct(workspace, begun, llm, as_json)


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

        print_json(asdict(summarise(found, workspace.records(found.id))))
    if stop.reason == "interrupted":
        raise typer.Exit(INTERRUPTED)
    if stop.reason == "failed":
        raise typer.Exit(PAUSED)


def seconds(text: str) -> float:
    """Seconds of a duration such as 8h, 1h30m or 90s. Raises ConfigError."""
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    if not found or not any(found.groups()):
        raise ConfigError(f"--wall is {text!r} but must be a time such as 8h, 1h30m or 90s")
    hours, minutes, rest = (int(part or 0) for part in found.groups())
    return 3600.0 * hours + 60 * minutes + rest
