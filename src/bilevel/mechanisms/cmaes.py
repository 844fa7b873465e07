"""Covariance matrix adaptation."""

from __future__ import annotations

import numpy as np
from cmaes import CMA

from bilevel.mechanism import Mechanism, View
from bilevel.model import Move, Value


class CmaEs(Mechanism):
    """Draws from a Gaussian that moves and stretches towards what scores well, without an LLM.

    Source: Hansen, "The CMA Evolution Strategy: A Tutorial", arXiv 1604.00772, 2016; the `cmaes`
    library, which optuna's CmaEsSampler drives too (population 4 + 3 ln d, first step 1/6 of a
    range).
    Faithful: choices are drawn uniformly, as optuna does.
    Adapted: it starts at the baseline and is told all trials in order, a population at a time; a
    failed one counts as the worst score; after REPEATS repeats draws are uniform; a text stays as
    it is.
    """

    SIGMA = 1 / 6  # optuna's default, of a range
    REPEATS = 20  # draws of the Gaussian that may repeat a trial
    TRIES = 200  # draws after which a space counts as used up

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        """New configurations, one a slot."""
        numbers, choices = self.names(view)
        if not numbers and not choices:
            return moves
        cma = self.rebuild(view, numbers) if numbers else None
        tried = {view.space.key(t.values) for t in view.trials}
        found: list[Move] = []
        for number in range(self.TRIES):
            values: dict[str, Value] = dict(view.incumbent.values)
            if cma is None or number >= self.REPEATS:
                place = [view.rng.random() for _ in numbers]
            else:
                place = cma.ask()
            values |= {n: view.from_unit(n, float(u)) for n, u in zip(numbers, place, strict=True)}
            values |= {n: view.rng.choice(view.space[n].choices) for n in choices}
            if view.space.key(values) not in tried:
                tried.add(view.space.key(values))
                found.append(Move(values=values, tag="cmaes"))
            if len(found) == max(1, view.slots):
                break
        return found or moves

    def names(self, view: View) -> tuple[list[str], list[str]]:
        """Open numbers that have a range, and open choices."""
        open_names = [n for n in view.open() if view.from_unit(n, 0.0) != view.from_unit(n, 1.0)]
        choices = [n for n in open_names if view.space[n].kind == "choice"]
        return [n for n in open_names if n not in choices], choices

    def rebuild(self, view: View, numbers: list[str]) -> CMA:
        """The optimiser after all trials so far, its units those of `numbers`."""
        units = {t.id: np.array([view.unit(n, t.values[n]) for n in numbers]) for t in view.trials}
        box = np.array([[0.0, 1.0]] * len(numbers))
        start = units[view.trials[0].id]
        cma = CMA(mean=start, sigma=self.SIGMA, bounds=box, seed=view.rng.getrandbits(32))
        worst = min(t.score for t in view.trials if t.score is not None)
        told = [(units[t.id], -(worst if t.score is None else t.score)) for t in view.trials[1:]]
        size = cma.population_size
        for end in range(size, len(told) + 1, size):
            cma.tell(told[end - size : end])
        return cma
