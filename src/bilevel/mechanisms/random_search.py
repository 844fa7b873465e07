"""Random search."""

from __future__ import annotations

from bilevel.mechanism import Mechanism, View
from bilevel.model import Move, Value


class RandomSearch(Mechanism):
    """Evaluates uniform draws, without an LLM: the control that every other search has to beat.

    Source: Bergstra and Bengio, "Random Search for Hyper-Parameter Optimization", JMLR 13, 2012.
    Faithful: independent uniform draws, on the log scale where a parameter has one.
    Adapted: a configuration that was evaluated is drawn again; a text keeps the incumbent's value,
    and where nothing can be drawn the moves from below stand.
    """

    TRIES = 200  # draws after which a space counts as used up

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        """New configurations, one a slot."""
        tried = {view.space.key(t.values) for t in view.trials}
        drawn: list[Move] = []
        for _ in range(self.TRIES):
            values = self._draw(view)
            if view.space.key(values) not in tried and len(drawn) < max(1, view.slots):
                tried.add(view.space.key(values))
                drawn.append(Move(values=values, tag="random_search"))
        return drawn or moves

    def _draw(self, view: View) -> dict[str, Value]:
        values = dict(view.incumbent.values)
        for name in view.open():
            grid = view.space[name].grid()
            if grid:
                values[name] = view.rng.choice(grid)
            elif view.from_unit(name, 0.0) != view.from_unit(name, 1.0):  # not a text
                values[name] = view.from_unit(name, view.rng.random())
        return values
