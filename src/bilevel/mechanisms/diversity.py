"""Asks for several drafts, drops those near to recent trials, and takes the farthest first.

Source: Qu and Lu, Bilevel-Autoresearch, 2026, DiversityEnforcer of run D1, which was written and
never applied: a least distance to the last configurations.
Faithful: the distance is over all parameters, and to recent trials only.
Adapted: the LLM drafts several times, where one draft was perturbed; if all are near, the farthest
is taken.
"""

from __future__ import annotations

from bilevel.mechanism import Mechanism, View
from bilevel.model import Draft, Move


class Diversity(Mechanism):
    DRAFTS = 3  # ours
    RECENT = 10  # trials; ours
    NEAR = 0.05  # of the longest distance in the space; ours

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        return [m for m in moves for _ in range(self.DRAFTS if m.values is None else 1)]

    def screen(self, view: View, drafts: list[Draft]) -> list[Draft]:
        ranked = sorted(drafts, key=lambda d: -self._novelty(view, d))
        far = [d for d in ranked if self._novelty(view, d) >= self.NEAR]
        return (far or ranked[:1])[: max(1, view.slots)]

    def _novelty(self, view: View, draft: Draft) -> float:
        """Distance to the nearest recent trial, in [0, 1]."""
        return min(view.distance(draft.values, t.values) for t in view.trials[-self.RECENT :])
