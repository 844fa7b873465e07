"""A run's evaluations done again: which come out otherwise than they were recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from bilevel.evaluate import Evaluator, Request, run_all
from bilevel.model import Objective, Trial

__all__ = ["Rerun", "rerun"]


@dataclass(frozen=True)
class Rerun:
    """A trial as it was recorded and as it came out again."""

    recorded: Trial
    again: Trial

    @property
    def same(self) -> bool:
        """Whether both ended alike and with the same score, to the last bit."""
        now, then = self.again, self.recorded
        return (now.status, now.score) == (then.status, then.score)


def rerun(
    trials: Iterable[Trial],
    objective: Objective,
    evaluator: Evaluator,
    starting: Callable[[Trial], None] = lambda _: None,
) -> Iterator[Rerun]:
    """Each trial evaluated again, in order; `starting` is told of each before it starts.

    Raises ExecutorError as the evaluator does.
    """
    recorded = list(trials)
    requests = [Request(t.values, t.seed, t.role, t.draft) for t in recorded]
    again = run_all(evaluator, objective, requests, 0, lambda turn, _: starting(recorded[turn]))
    for then, now in zip(recorded, again, strict=True):
        yield Rerun(then, now)
