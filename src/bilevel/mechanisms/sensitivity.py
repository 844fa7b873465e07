"""Steps each parameter down and up once, then repeats the step that helped most while it helps.

Source: Daniel, "One-at-a-Time Plans", Journal of the American Statistical Association 68, 1973.
Faithful: each run differs in a single factor from the one that it is compared with.
Adapted: the plan goes on from each improvement; when no step helps any more, the LLM proposes.
"""

from __future__ import annotations

from bilevel.mechanism import Mechanism, View
from bilevel.model import Move


class Sensitivity(Mechanism):
    REACH = 0.1  # of the range of a number without a grid; ours

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        steps = [(self._promise(view, m), m) for m in self._steps(view)]
        steps = sorted((s for s in steps if s[0] > 0), key=lambda s: -s[0])
        return [move for _, move in steps[: max(1, view.slots)]] or moves

    def _steps(self, view: View) -> list[Move]:
        """Each parameter one step down and one up from the incumbent, where that is new."""
        start, steps = view.incumbent, []
        for name in view.ranged():
            for values in view.neighbours(start.values, name, self.REACH):
                up = view.unit(name, values[name]) > view.unit(name, start.values[name])
                tag = f"sensitivity:{name}:{'up' if up else 'down'}"
                if not view.tried(values):
                    steps.append(Move((start.id,), values, tag=tag))
        return steps

    def _promise(self, view: View, step: Move) -> float:
        """What this step gained when last taken; infinite for one never taken."""
        past = view.by_tag(step.tag)
        gain = view.gain(past[-1]) if past else float("inf")
        return 0.0 if gain is None else gain
