"""Every strategy spends its budget on the tasks that are shipped and quick, with no fault."""

import importlib.util
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from bilevel.compare.compare import Comparison, Plan
from bilevel.compare.strategies import named
from bilevel.model import Fault, Message, Stop, Trial
from bilevel.space import Space
from bilevel.task_jobs import find_task
from bilevel.workspace import Workspace
from screens import Shown
from worlds import Scripted, says

TASKS = ("bbob-f8-d5", "heilbronn-square", "paper-mock")
EVALS = 8


def some_change(space: Space, number: int) -> str:
    """A reply that sets one number or choice to another place of its range."""
    draw = random.Random(number)
    param = draw.choice([p for p in space if p.kind != "text"])
    low, high = param.bounds
    value = draw.choice(param.choices) if param.choices else draw.uniform(low, high)
    return says(**{param.name: param.snap(value) if not param.choices else value})


@pytest.mark.parametrize("task", TASKS)
def test_every_strategy_on_a_shipped_task(task: str, tmp_path: Path) -> None:
    if task.startswith("bbob") and importlib.util.find_spec("ioh") is None:
        pytest.skip("ioh is not installed")
    space = find_task(task)[0].space
    without = {"smac"} if importlib.util.find_spec("smac") is None else set()
    strategies = tuple(s for s in named("all") if s not in without)
    plan = Plan(task, strategies, evals=EVALS, seeds=1, llm="scripted")

    def reply(messages: Sequence[Message], number: int) -> str:
        return some_change(space, number)

    comparison = Comparison(Workspace(tmp_path), plan)
    comparison.go(plan.cells(), Scripted(reply), Shown())
    assert comparison.problems == {}
    for strategy, ((_, log),) in comparison.logs().items():
        made = [r for r in log if isinstance(r, Trial) and r.role == "search"]
        (stop,) = [r for r in log if isinstance(r, Stop)]
        assert [r for r in log if isinstance(r, Fault)] == [], strategy
        assert (stop.reason, len(made)) == ("done", EVALS), strategy
