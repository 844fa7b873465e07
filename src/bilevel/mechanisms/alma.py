"""An archive with a visit penalty."""

from __future__ import annotations

import math
import statistics
from collections import Counter

from bilevel.mechanism import Mechanism, View
from bilevel.model import Move


class Alma(Mechanism):
    """Starts from any earlier trial, sampled by its reward less a penalty for visits.

    Source: Xiong, Hu and Clune, "Learning to Continually Learn via Meta-learning Agentic Memory
    Designs" (ALMA), arXiv 2602.07755, 2026, and its code: k = 5 without replacement,
    softmax((sigmoid(gain) - 0.5 ln(1 + visits)) / 0.5).
    Faithful: the formula, its constants, and a whole batch of k.
    Adapted: the archive holds configurations, not memory designs; a gain is counted in standard
    deviations of the scores so far, as those of a task may lie close together.
    """

    BATCH = 5
    TEMPERATURE = 0.5
    PENALTY = 0.5

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        """Moves from up to BATCH different trials."""
        weights = self._weights(view)
        parents: list[int] = []
        for _ in range(min(self.BATCH, len(weights))):
            (chosen,) = view.rng.choices(list(weights), list(weights.values()))
            parents.append(chosen)
            del weights[chosen]
        return [Move(parents=(p,), tag="alma") for p in parents]

    def _weights(self, view: View) -> dict[int, float]:
        """Unnormalised probability of each scored trial, by id."""
        scores = {t.id: t.score for t in view.trials if t.score is not None}
        spread = statistics.pstdev(scores.values()) or 1.0
        first = scores[view.trials[0].id]
        visits = Counter(p for t in view.trials if t.draft for p in t.draft.move.parents)
        weights = {}
        for number, score in scores.items():
            reward = 1 / (1 + math.exp((first - score) / spread))
            value = reward - self.PENALTY * math.log(1 + visits[number])
            weights[number] = math.exp(value / self.TEMPERATURE)
        return weights
