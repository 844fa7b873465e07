"""`bilevel demo`, `run` and `resume`: what starts runs, and what of the outer loop can be set."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from bilevel.budget_words import seconds as seconds
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
from bilevel.cli_terms import EVALS, Budget, Price, expect, split, terms_of
from bilevel.errors import ConfigError

if TYPE_CHECKING:
    from bilevel.model import Run
    from bilevel.planning import Settings
    from bilevel.protocols import LLM
    from bilevel.terms import Terms
    from bilevel.workspace import Workspace

INTERRUPTED = 130
PAUSED = 3
DEFAULT_LLM = "embedded"
EMBEDDED = "no other LLM was chosen with --llm: the embedded one answers, on this machine's CPU"
OUTER = "Outer loop"
TAPE = "Tape"

Llm = Annotated[
    str,
    typer.Option(
        help="embedded, embedded:NAME, provider/model (openai, anthropic, deepseek, gemini, "
        "openrouter, ollama, lmstudio, vllm, llamacpp), or model@URL of any OpenAI-compatible "
        "server; with options, as ?rpm=60&timeout=300. Keys come from the environment or the "
        "keyring. "
        "none: for a stack that gives all values itself, as tpe. Or an agent or a person: "
        'claude-code, codex (both also with /MODEL), command:"PROGRAM ARGS" (prompt on stdin, '
        "answer on stdout), terminal, or mailbox:FOLDER: each request is a file "
        "NNNN.request.md and .json there; write the answer beside it, then rename it to "
        "NNNN.answer.txt, and NNNN.reply.json says whether it fits. Or ensemble:A,B: of these "
        "models the one is asked for a proposal whose gain per cost is best."
    ),
]
LlmOuter = Annotated[
    str | None,
    typer.Option(
        help="Another model for Levels 1.5 and 2, named as for --llm.", rich_help_panel=OUTER
    ),
]
Library = Annotated[
    str | None,
    typer.Option(
        help="Begin with a mechanism that earlier runs admitted: best (for this task or the most "
        "like one), alma (sampled, the often used less), random; best:2 for two. Level 2 sees the "
        "library's record of this task. See `bilevel library`.",
        rich_help_panel=OUTER,
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

Replay = Annotated[
    str | None,
    typer.Option(
        help="A recorded run, or its file, from whose tape the LLM's replies come; no model is "
        "asked, and a request that it does not hold ends the run and says how it differs. "
        "Experiments are run. Give the task and the settings of that run; the LLM is its own.",
        rich_help_panel=TAPE,
    ),
]
Mixed = Annotated[
    bool,
    typer.Option(
        "--mixed",
        help="With --replay: ask the LLM for what the tape does not hold.",
        rich_help_panel=TAPE,
    ),
]


def demo(
    evals: Annotated[int, typer.Option(help="Proposals to evaluate.")] = 12,
    llm: Llm = DEFAULT_LLM,
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
    from bilevel.levels import chosen
    from bilevel.planning import Settings

    outer = replace(chosen(levels, llm), every=3, cycles=2, candidates=2, repairs=1)
    settings = Settings(evals, seed, llm, outer=outer, allow_weak=allow_weak_sandbox)
    _start("gpt", settings, home, as_json=False)


def run(
    task: Annotated[
        str, typer.Argument(help="A task.toml, its folder, a script, `gpt` or `gpt-cuda`.")
    ],
    evals: Annotated[int, typer.Option(help="Proposals to evaluate.")] = EVALS,
    llm: Llm = DEFAULT_LLM,
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
    library: Library = None,
    levels: Levels = None,
    llm_outer: LlmOuter = None,
    sham: Sham = False,
    every: Every = 5,
    cycles: Cycles = 2,
    layers: Layers = 3,
    candidates: Candidates = 4,
    repairs: Repairs = 3,
    domains: Domains = "none",
    no_screening: NoScreening = False,
    budget: Budget = None,
    price: Price = None,
    replay: Replay = None,
    mixed: Mixed = False,
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

    bilevel run task.toml --llm deepseek --budget usd=2,wall=8h,2:tokens=300k
    """
    from bilevel.levels import chosen
    from bilevel.planning import Settings

    evals, time, terms = split(terms_of(budget, price), evals, wall)
    llm, llm_outer, tape = _tape(replay, mixed, llm, llm_outer or "", home)
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
        time,
        slots,
        baselines,
        confirms,
        stack_of(stack, llm),
        outer=outer,
        allow_weak=allow_weak_sandbox,
        llm_outer=llm_outer,
        tape=tape,
        mixed=mixed,
        library=library or "",
        terms=terms,
    )
    _start(task, settings, home, as_json)


def resume(
    name: RunId = None,
    budget: Budget = None,
    price: Price = None,
    home: Home = HERE,
    as_json: AsJson = False,
) -> None:
    """Go on with a run that was paused, interrupted or killed, to the same decisions.

    --budget changes the limits that it names; what the run has spent before counts.
    """
    terms = terms_of(budget, price)
    workspace, found = find(name, home)
    with _llm(found, as_json) as llm:
        _conduct(workspace, found, llm, as_json, terms)


def stack_of(text: str, llm: str) -> tuple[str, ...]:
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
    from bilevel.planning import begin
    from bilevel.sandbox.errors import SandboxRefused

    if settings.llm == DEFAULT_LLM and not settings.tape:
        _screen(as_json).print(EMBEDDED, style="dim", markup=False, soft_wrap=True)
    with _llm(settings, as_json) as llm:
        workspace = workspace_at(home)
        try:
            begun = begin(workspace, task, settings)
        except SandboxRefused as error:
            raise ConfigError(
                f"{error}: --allow-weak-sandbox; or do without generated code: --levels 1,1.5"
            ) from error
        expect(workspace, begun, _screen(as_json))
        _conduct(workspace, begun, llm, as_json)


def _tape(name: str | None, mixed: bool, llm: str, outer: str, home: Path) -> tuple[str, str, str]:
    """The LLM, that of the outer levels, and the tape that answers for them, "" for none.

    Raises ConfigError where the tape is of other LLMs than those that were asked for.
    """
    if name is None:
        if mixed:
            raise ConfigError("--mixed says what --replay may do; give --replay RUN too")
        return llm, outer, ""
    from bilevel.archive import is_file
    from bilevel.taped import check_models

    recorded, _ = workspace_at(home).recording(name)
    if llm != DEFAULT_LLM or outer:
        check_models(llm, outer, recorded)
    return recorded.llm, recorded.llm_outer, str(Path(name).resolve()) if is_file(name) else name


def _llm(asking: Run | Settings, as_json: bool) -> closing[LLM]:
    """What is to answer; where a tape alone does, nothing is opened."""
    from bilevel.levels import NO_LLM
    from bilevel.running import open_llm

    alone = asking.tape and not asking.mixed
    spec, outer = (NO_LLM, "") if alone else (asking.llm, asking.llm_outer)
    return closing(open_llm(spec, _screen(as_json), outer))


def _screen(as_json: bool) -> Console:
    """Where people read: stderr when stdout is for a machine."""
    return Console(stderr=True) if as_json else console


def _conduct(
    workspace: Workspace, found: Run, llm: LLM, as_json: bool, terms: Terms | None = None
) -> None:
    """Run to the end or to a stop, write what the run leaves, and say what came of it."""
    from bilevel.running import conduct_and_report

    stop = conduct_and_report(workspace, found, llm, _screen(as_json), terms)
    if as_json:
        from bilevel.summary import summarise

        print_json(asdict(summarise(found, workspace.records(found.id))))
    if stop.reason == "interrupted":
        raise typer.Exit(INTERRUPTED)
    if stop.reason == "failed":
        raise typer.Exit(PAUSED)
