"""Sends the LLM elsewhere while what it changes lately is not kept: a tabu list of parameters.

The paper's run C1, first session: a list of what was tried, and a distance that adapts.
"""

from bilevel.mechanism import Mechanism, View
from bilevel.model import Draft, Move


class TabuSearchManager(Mechanism):
    TENURE = 5

    def __init__(self):
        self.seen = 0

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        idle, self.seen = self.seen == len(view.trials), len(view.trials)
        tabu = self.tabu(view)
        free = tuple(n for n in view.open() if n not in tabu)
        if idle or not tabu or not free:  # When idle, nothing new is left elsewhere.
            return moves
        return [m if m.values is not None or m.focus else m.edit(focus=free) for m in moves]

    def screen(self, view: View, drafts: list[Draft]) -> list[Draft]:
        far = [d for d in drafts if self.distance(view, d) >= self.radius(view)]
        return far or drafts

    def tabu(self, view: View) -> set[str]:
        """Parameters that the last trials changed in vain."""
        vain = [t for t in view.trials[1:][-self.TENURE :] if not t.kept]
        base = view.incumbent.values
        return {name for t in vain for name in view.space.changed(base, t.values)}

    def radius(self, view: View) -> float:
        """Wider the longer nothing was kept."""
        return min(0.01 * view.streak(), 0.1)

    def distance(self, view: View, draft: Draft) -> float:
        recent = view.trials[-self.TENURE :]
        return min(view.distance(draft.values, t.values) for t in recent)
