"""`bilevel demo`, `run` and `resume`: what starts runs, and what of the outer loop can be set."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bilevel.cli.options import (
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
from bilevel.cli.run_options import (
    Candidates,
    Cycles,
    Domains,
    Every,
    Hypotheses,
    Layers,
    Levels,
    Library,
    Llm,
    LlmOuter,
    Mixed,
    NoScreening,
    Repairs,
    Replay,
    Sessions,
    Sham,
    Stack,
    Task,
    Writes,
    stack_of,
)
from bilevel.cli.sandbox import Wall, prepare
from bilevel.cli.terms import EVALS, Budget, Price, Slots, expect, split, terms_of
from bilevel.errors import ConfigError

if TYPE_CHECKING:
    from bilevel.budget.terms import Terms
    from bilevel.model import Run
    from bilevel.planning import Settings
    from bilevel.protocols import LLM
    from bilevel.workspace import Workspace

INTERRUPTED = 130
PAUSED = 3
DEFAULT_LLM = "embedded"
EMBEDDED = "no other LLM was chosen with --llm: the embedded one answers, on this machine's CPU"


def demo(
    context: typer.Context,
    evals: Annotated[int, typer.Option(help="Proposals to evaluate.")] = 12,
    llm: Llm = DEFAULT_LLM,
    seed: int = 0,
    levels: Levels = None,
    sandbox: Wall = "auto",
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
    from bilevel.planning import Settings, with_sessions, with_writes

    plan = with_writes(with_sessions(chosen(levels, llm), "auto", llm, ""), "auto", llm, "")
    outer = replace(plan, every=3, cycles=2, candidates=2, repairs=1)
    settings = Settings(
        evals, seed, llm, outer=outer, allow_weak=allow_weak_sandbox, sandbox=sandbox
    )
    _start("gpt", settings, home, False, _typed(context))


def run(
    context: typer.Context,
    task: Task,
    evals: Annotated[int, typer.Option(help="Proposals to evaluate.")] = EVALS,
    llm: Llm = DEFAULT_LLM,
    seed: Annotated[int, typer.Option(help="Every random choice derives from it.")] = 0,
    wall: Annotated[
        str | None, typer.Option(help="Time after which no further step begins, as 8h or 1h30m.")
    ] = None,
    slots: Slots = 1,
    baselines: Annotated[
        int | None, typer.Option(help="Measurements of the baseline, at least 2.")
    ] = None,
    confirms: Annotated[
        int | None, typer.Option(help="Fresh measurements of the winner at the end.")
    ] = None,
    stack: Stack = "",
    library: Library = None,
    levels: Levels = None,
    llm_outer: LlmOuter = None,
    hypotheses: Hypotheses = True,
    sham: Sham = False,
    sessions: Sessions = "auto",
    writes: Writes = "auto",
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
    sandbox: Wall = "auto",
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
    from bilevel.planning import Settings, with_sessions, with_writes

    evals, time, terms = split(terms_of(budget, price), evals, wall)
    recorded, tape = _tape(replay, mixed, llm, llm_outer or "", home)
    if recorded is not None:
        llm, llm_outer = recorded.llm, recorded.llm_outer
        hypotheses = hypotheses and recorded.hypotheses
    plan = with_sessions(chosen(levels, llm, sham), sessions, llm, llm_outer or "")
    plan = with_writes(plan, writes, llm, llm_outer or "")
    if recorded is not None and sessions == "auto":
        plan = replace(plan, beside=recorded.outer.beside)
    if recorded is not None and writes == "auto":
        plan = replace(plan, writes=recorded.outer.writes)
    outer = replace(
        plan,
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
        sandbox=sandbox,
        llm_outer=llm_outer or "",
        tape=tape,
        mixed=mixed,
        hypotheses=hypotheses,
        library=library or "",
        terms=terms,
    )
    _start(task, settings, home, as_json, _typed(context))


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
    prepare(found.sandbox, _screen(as_json))
    with _llm(found, as_json) as llm:
        _conduct(workspace, found, llm, as_json, terms)


def _typed(context: typer.Context) -> bool:
    """Whether the user gave --llm, be it the model that answers anyway."""
    source = context.get_parameter_source("llm")
    return source is not None and source.name != "DEFAULT"


def _start(task: str, settings: Settings, home: Path, as_json: bool, typed: bool) -> None:
    """Check all that can be checked without an LLM, then open it and run."""
    from bilevel.levels import NO_LLM
    from bilevel.planning import checked, enter
    from bilevel.sandbox.errors import SandboxRefused

    prepare(settings.sandbox, _screen(as_json))
    workspace = workspace_at(home)
    try:
        plan = checked(workspace, task, settings)
    except SandboxRefused as error:
        if settings.sandbox != "auto":
            raise
        raise ConfigError(
            f"{error}: --allow-weak-sandbox; or do without generated code: --levels 1,1.5"
        ) from error
    if settings.llm == NO_LLM:
        _check_silent(workspace, plan)
    if not typed and not settings.tape:
        _screen(as_json).print(EMBEDDED, style="dim", soft_wrap=True)
    with _llm(settings, as_json) as llm:
        begun = enter(workspace, plan, settings.terms)
        expect(workspace, begun, _screen(as_json))
        _conduct(workspace, begun, llm, as_json)


def _check_silent(workspace: Workspace, plan: Run) -> None:
    """Raises ConfigError where a run without an LLM would ask one, as its rehearsal shows."""
    from bilevel.budget.estimate import estimate

    calls = sum(share.calls[0] for share in estimate(workspace, plan, {}).levels)
    if calls:
        names = ", ".join(entry.partition("@")[0] for entry in plan.stack)
        raise ConfigError(
            f"the stack {names} asks an LLM, about {calls} times, and --llm none gives none; "
            "name an LLM, or give --stack a mechanism that proposes, such as tpe or random_search"
        )


def _tape(
    name: str | None, mixed: bool, llm: str, outer: str, home: Path
) -> tuple[Run | None, str]:
    """The run whose tape answers, and its name; None and "" for none. Raises ConfigError."""
    if name is None:
        if mixed:
            raise ConfigError("--mixed says what --replay may do; give --replay RUN too")
        return None, ""
    from bilevel.archive import is_file
    from bilevel.tape.taped import check_models

    recorded, _ = workspace_at(home).recording(name)
    if llm != DEFAULT_LLM or outer:
        check_models(llm, outer, recorded)
    return recorded, str(Path(name).resolve()) if is_file(name) else name


def _llm(asking: Run | Settings, as_json: bool) -> closing[LLM]:
    """What is to answer; where a tape alone does, nothing is opened."""
    from bilevel.cli.running import open_llm
    from bilevel.levels import NO_LLM

    alone = asking.tape and not asking.mixed
    spec, outer = (NO_LLM, "") if alone else (asking.llm, asking.llm_outer)
    return closing(open_llm(spec, _screen(as_json), outer))


def _screen(as_json: bool) -> Console:
    """Where people read: stderr when stdout is for a machine."""
    return Console(stderr=True, markup=False) if as_json else console


def _conduct(
    workspace: Workspace, found: Run, llm: LLM, as_json: bool, terms: Terms | None = None
) -> None:
    """Run to the end or to a stop, write what the run leaves, and say what came of it."""
    from bilevel.cli.running import conduct_and_report

    stop = conduct_and_report(workspace, found, llm, _screen(as_json), terms)
    if as_json:
        from bilevel.summary import summarise

        print_json(asdict(summarise(found, workspace.records(found.id))))
    if stop.reason == "interrupted":
        raise typer.Exit(INTERRUPTED)
    if stop.reason == "failed":
        raise typer.Exit(PAUSED)
