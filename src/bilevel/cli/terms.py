"""Limits and prices on the command line, and what a run is expected to take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bilevel.budget.words import parse as limits_in
from bilevel.budget.words import seconds
from bilevel.errors import ConfigError

if TYPE_CHECKING:
    from bilevel.budget.terms import Terms
    from bilevel.model import Run
    from bilevel.workspace import Workspace

EVALS = 30
Slots = Annotated[
    int,
    typer.Option(
        help="Evaluations that may run at a time. A task that is called in this process, as bbob, "
        "is evaluated one by one."
    ),
]
BUDGETS = "Budget"
Budget = Annotated[
    str | None,
    typer.Option(
        help="Hard limits, as usd=5,tokens=2M,calls=500,wall=8h,evals=100; of one level with its "
        "number before a colon, as 2:tokens=200k,1.5:usd=0.5. Tokens count read and written ones. "
        "No call and no evaluation starts that could cross a limit; what is under way counts as "
        "spent. At a limit of the run it stops, and `resume --budget` with a larger one goes on; "
        "Levels 1.5 and 2 fall silent at theirs, or when the run's rest is too little for them. "
        "wall goes by the longest call and evaluation so far.",
        rich_help_panel=BUDGETS,
    ),
]
Price = Annotated[
    list[str] | None,
    typer.Option(
        help="What the LLM costs in US dollars per million tokens, where the offline table does "
        "not know it or knows better: in=0.5,out=1.5 (cached=0.1 too, if it differs). For one of "
        "several models: MODEL:in=0.5,out=1.5, once each.",
        rich_help_panel=BUDGETS,
    ),
]


def terms_of(budget: str | None, price: list[str] | None) -> Terms:
    """The limits and prices that the options give. Raises ConfigError."""
    from bilevel.budget.prices import parse
    from bilevel.budget.terms import Terms

    return Terms({} if budget is None else limits_in(budget), parse(price or ()))


def split(terms: Terms, evals: int, wall: str | None) -> tuple[int, float | None, Terms]:
    """Evaluations, time and the other terms. Raises ConfigError where two options disagree."""
    from bilevel.budget.terms import Terms

    limits = dict(terms.limits)
    most, time = limits.pop("evals", None), limits.pop("wall", None)
    if most is not None and evals not in (EVALS, most):
        raise ConfigError(f"--evals is {evals} and --budget evals is {most:.0f}; give one of them")
    if wall is not None and time not in (None, seconds(wall)):
        raise ConfigError(f"--wall is {wall} and --budget gives wall too; give one of them")
    return (
        evals if most is None else int(most),
        time if wall is None else seconds(wall),
        Terms(limits, terms.prices),
    )


def expect(workspace: Workspace, begun: Run, screen: Console) -> None:
    """Say what the run will take, and keep it in its log, for what it took to be held against."""
    from bilevel.budget.budget import price_list
    from bilevel.budget.estimate import estimate
    from bilevel.render.costs import estimate_line

    found = estimate(workspace, begun, price_list(begun, workspace.records(begun.id)))
    workspace.store.append(begun.id, found)
    screen.print(estimate_line(found), soft_wrap=True, highlight=False)
