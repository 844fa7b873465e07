"""Begins with a Latin hypercube, so that every parameter is tried at many places; then the LLM.

The paper's run C3, second session. Its formula gave eight times the same sample.
"""

import random

from bilevel.mechanism import Mechanism, View
from bilevel.model import Move


class OrthogonalExplorer(Mechanism):
    SAMPLES = 8

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        for values in self.design(view):
            if not view.tried(values):
                return [Move((view.incumbent.id,), values, tag="orthogonal")]
        return moves

    def design(self, view: View) -> list[dict]:
        """Up to SAMPLES configurations, each parameter once in each part of its range."""
        if len(view.by_tag("orthogonal")) >= min(self.SAMPLES, len(view.trials) - 1 + view.left):
            return []
        order = random.Random(1)
        rows = [dict(view.trials[0].values) for _ in range(self.SAMPLES)]
        for name in view.space.names:
            places = order.sample(range(self.SAMPLES), self.SAMPLES)
            for row, place in zip(rows, places, strict=True):
                if name in view.frozen:
                    row[name] = view.incumbent.values[name]
                elif name in view.ranged():
                    row[name] = view.from_unit(name, (place + 0.5) / self.SAMPLES)
        return rows
