"""What a strategy of Level 1.5 does to a search whose proposer is chance, on BBOB functions.

    python benchmarks/strategies.py > results/strategies.txt

Each run says one strategy from the fifth evaluation to the last. A proposal changes one or two of
the parameters in focus, half of the time anywhere, half of the time nearby; what is better is kept.
The plain search has the same seeds. No LLM: this shows what the restriction does, not who says it.
"""

import math
import random
import statistics

from bilevel import steering
from bilevel.history import History
from bilevel.mechanism import View
from bilevel.model import Draft, Move, Proposal, Space, Steering, Trial, Values
from bilevel.task_jobs import find_task
from bilevel.tasks.bbob.functions import gap

TASKS = ("bbob-f1-d5", "bbob-f8-d5", "bbob-f8-d10", "bbob-f15-d5", "bbob-f21-d5")
SEEDS, EVALS, EVERY = 100, 30, 5
NEVER = EVALS + 1


def main() -> None:
    """A line a task and strategy: what is left of the gap, and by how much that is more."""
    print(f"{SEEDS} seeds, {EVALS} evaluations; mean gap, and its mean excess over plain (95 %)")
    for name in TASKS:
        task, _ = find_task(name)
        plain = [search(task.space, task.locked, "", seed) for seed in range(SEEDS)]
        print(f"\n{name}: plain {statistics.mean(plain):.4g}")
        for strategy in steering.STRATEGIES:
            for rest in (NEVER, steering.REST):
                print(line(task, strategy, rest, plain), flush=True)


def line(task, strategy: str, rest: int, plain: list[float]) -> str:
    """One strategy's figures. rest: evaluations not kept after which it yields."""
    shipped, steering.REST = steering.REST, rest
    try:
        gaps = [search(task.space, task.locked, strategy, seed) for seed in range(SEEDS)]
    finally:
        steering.REST = shipped
    more = [a - b for a, b in zip(gaps, plain, strict=True)]
    half = 1.96 * statistics.stdev(more) / SEEDS**0.5
    when = "all the time" if rest == NEVER else f"until {rest} fail"
    return (
        f"  {strategy:8} {when:12}: {statistics.mean(gaps):9.4g}, "
        f"{statistics.mean(more):+10.4g} +- {half:.4g}"
    )


def search(space: Space, locked: dict[str, int], strategy: str, seed: int) -> float:
    """The gap that one search leaves."""
    history, rng = History(space), random.Random(seed)
    history.add(trial(0, None, space.defaults(), locked, -math.inf))
    for step in range(EVALS):
        if strategy and step == EVERY:
            history.add(Steering(strategy=strategy, at=step, cycle=1))
        view = history.view(step=step, slots=1, left=EVALS - step, rng=rng)
        values = proposal(view, history)
        draft = Draft(step, step, Move(parents=(view.incumbent.id,)), values)
        history.add(Proposal(step, (draft.move,), (draft,), (), (step,)))
        history.add(trial(step + 1, draft, values, locked, view.incumbent.score))
    assert history.best is not None
    assert history.best.score is not None
    return -history.best.score


def proposal(view: View, history: History) -> Values:
    """One or two parameters in focus changed, to what was not tried."""
    names = steering.focus(view) or view.open()
    while True:
        values = dict(view.incumbent.values)
        for name in view.rng.sample(names, 1 if view.rng.random() < 0.6 or len(names) < 2 else 2):
            near = view.unit(name, values[name]) + view.rng.gauss(0, 0.08)
            place = view.rng.random() if view.rng.random() < 0.5 else near
            values[name] = view.from_unit(name, place)
        if history.find(values) is None:
            return values


def trial(
    number: int, draft: Draft | None, values: Values, locked: dict[str, int], before: float | None
) -> Trial:
    """A measurement, kept if it is better than the incumbent's score before."""
    score = -gap({**values, **locked}, 0)
    role = "search" if draft else "baseline"
    kept = before is not None and score > before
    return Trial(number, draft, values, "ok", score, {}, 0.0, 0, kept, role=role)


if __name__ == "__main__":
    main()
