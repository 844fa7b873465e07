"""When a step from the incumbent was discarded, tries the same step the other way.

Source: Hooke and Jeeves, "Direct Search", Journal of the ACM 8, 1961, the exploratory move.
Faithful: the same parameters by the same length with the other sign, after a failure only.
Adapted: the first step is the LLM's; lengths are shares of the range, on its log scale if any.
"""

from __future__ import annotations

from bilevel.mechanism import Mechanism, View
from bilevel.model import Move, Trial, Value


class Opposite(Mechanism):
    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        turns: list[Move] = []
        for trial in view.trials[-max(1, view.slots) :]:
            move = trial.draft.move if trial.draft else Move()
            if move.tag == "opposite" or view.base(move) != view.incumbent:
                continue  # Of a kept trial the base is the incumbent no more.
            values = self._mirror(view, trial)
            if not view.tried(values):
                turns.append(Move((view.incumbent.id,), values, tag="opposite"))
        return turns or moves

    def _mirror(self, view: View, trial: Trial) -> dict[str, Value]:
        """The incumbent's values with the trial's steps in open numbers turned round."""
        values = dict(view.incumbent.values)
        for name in view.ranged():
            start, end = view.unit(name, values[name]), view.unit(name, trial.values[name])
            if start != end and view.space[name].kind != "choice":
                values[name] = view.from_unit(name, 2 * start - end)
        return values
