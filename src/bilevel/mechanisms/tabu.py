"""Asks for several drafts and drops those that set a parameter where it was set lately.

Source: Glover, "Tabu Search, Part I", ORSA Journal on Computing 1, 1989: what the last 7 moves
did is tabu. Glover and Laguna, "Tabu Search", 1997: when all is tabu, one move is made anyway.
Faithful: attributes of moves (a parameter and its place), the length of the list, that exception.
Adapted: numbers match within RADIUS of their range; which trials are kept is left as it is.
"""

from __future__ import annotations

from bilevel.mechanism import Mechanism, View
from bilevel.model import Draft, Move, Values


class Tabu(Mechanism):
    TENURE = 7  # trials
    RADIUS = 0.05  # of a parameter's range; ours
    DRAFTS = 3  # that one step looks at; ours

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        return [m for m in moves for _ in range(self.DRAFTS if m.values is None else 1)]

    def screen(self, view: View, drafts: list[Draft]) -> list[Draft]:
        recent = [t.draft for t in view.trials[-self.TENURE :] if t.draft is not None]
        free = [d for d in drafts if not any(self._alike(view, d, past) for past in recent)]
        return (free or drafts)[: max(1, view.slots)]

    def _alike(self, view: View, draft: Draft, past: Draft) -> bool:
        """Whether both set some parameter to about the same place."""
        names = set(self._changed(view, draft)) & set(self._changed(view, past))
        return any(self._near(view, name, draft.values, past.values) for name in names)

    def _changed(self, view: View, draft: Draft) -> tuple[str, ...]:
        return view.space.changed(view.base(draft.move).values, draft.values)

    def _near(self, view: View, name: str, one: Values, other: Values) -> bool:
        if name not in view.ranged() or view.space[name].kind == "choice":
            return one[name] == other[name]
        return abs(view.unit(name, one[name]) - view.unit(name, other[name])) <= self.RADIUS
