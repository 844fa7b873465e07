"""`bilevel estimate` and `costs`: what a run will take, and what it took."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated

import typer
from rich.console import Console

from bilevel.cli.options import (
    HERE,
    AllowWeak,
    AsJson,
    Home,
    LogId,
    console,
    find,
    log,
    print_json,
    workspace_at,
)
from bilevel.cli.run import DEFAULT_LLM
from bilevel.cli.run_options import (
    Candidates,
    Cycles,
    Every,
    Hypotheses,
    Levels,
    Llm,
    LlmOuter,
    Repairs,
    stack_of,
)
from bilevel.cli.sandbox import Wall, prepare
from bilevel.cli.terms import EVALS, Price, Slots

Measure = Annotated[
    bool,
    typer.Option("--measure", help="Evaluate the task's own values once, to time it."),
]


def costs(name: LogId = None, home: Home = HERE, as_json: AsJson = False) -> None:
    """What a run cost: calls, tokens, seconds and money by level and purpose, and its limits.

    Beside it stands what was expected when the run began.
    """
    from bilevel.archive import is_file
    from bilevel.budget.costs import costs as cost_of
    from bilevel.budget.openings import elapsed
    from bilevel.render.costs import costs_view

    found, records = log(name, home)
    wall = None
    if name is None or not is_file(name):
        workspace, _ = find(name, home)
        wall = elapsed(workspace.store.events(found.id))
    took = cost_of(found, records, wall)
    if as_json:
        print_json({"run": found.id, "seconds": wall, **asdict(took)})
    else:
        console.print(costs_view(found, took))


def estimate(
    task: Annotated[str, typer.Argument(help="A task, as `run` takes it.")],
    evals: Annotated[int, typer.Option(help="Proposals to evaluate.")] = EVALS,
    llm: Llm = DEFAULT_LLM,
    slots: Slots = 1,
    baselines: Annotated[int | None, typer.Option(help="Measurements of the baseline.")] = None,
    confirms: Annotated[int | None, typer.Option(help="Measurements of the winner.")] = None,
    stack: Annotated[str, typer.Option(help="Search mechanisms, as `run` takes them.")] = "",
    levels: Levels = None,
    llm_outer: LlmOuter = None,
    hypotheses: Hypotheses = True,
    every: Every = 5,
    cycles: Cycles = 2,
    candidates: Candidates = 4,
    repairs: Repairs = 3,
    price: Price = None,
    measure: Measure = False,
    sandbox: Wall = "auto",
    allow_weak_sandbox: AllowWeak = False,
    home: Home = HERE,
    as_json: AsJson = False,
) -> None:
    """What a run will take: calls, tokens, money and hours, by level. Asks no LLM.

    Prompts are the run's own, rendered on a made-up history. How long an evaluation takes, and how
    fast the model is, earlier runs in the store tell; what nothing tells is said to be not known.

    bilevel estimate task.toml --evals 100 --llm deepseek --measure
    """
    from bilevel.budget.estimate import estimate as expected
    from bilevel.budget.prices import of_models, parse, today
    from bilevel.levels import chosen
    from bilevel.planning import Settings, planned, with_writes
    from bilevel.render.costs import estimate_view
    from bilevel.task_jobs import timed_baseline

    prepare(sandbox, Console(stderr=True, markup=False))
    plan = with_writes(chosen(levels, llm), "auto", llm, llm_outer or "")
    outer = replace(plan, every=every, cycles=cycles, candidates=candidates, repairs=repairs)
    settings = Settings(
        evals,
        llm=llm,
        slots=slots,
        baselines=baselines,
        confirms=confirms,
        stack=stack_of(stack, llm),
        outer=outer,
        allow_weak=allow_weak_sandbox,
        sandbox=sandbox,
        llm_outer=llm_outer or "",
        hypotheses=hypotheses,
    )
    workspace = workspace_at(home)
    run = planned(workspace, task, settings)
    prices = {p.model: p for p in of_models(run, parse(price or ()), today())}
    found = expected(workspace, run, prices, timed_baseline(task) if measure else None)
    if as_json:
        print_json(asdict(found))
    else:
        console.print(estimate_view(run, found))
