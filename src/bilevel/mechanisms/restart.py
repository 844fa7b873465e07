"""After 10 evaluations without a kept one, goes on from the best with a third of it drawn anew.

Source: Lourenço, Martin and Stützle, "Iterated Local Search", in: Handbook of Metaheuristics, 2003.
Faithful: the best is perturbed, and the search goes on from there whatever that point is worth.
Adapted: the local search counts as ended after PATIENCE evaluations, a batch of
Bilevel-Autoresearch; the history stays known.
"""

from __future__ import annotations

from bilevel.mechanism import Mechanism, View
from bilevel.model import Move, Trial


class Restart(Mechanism):
    PATIENCE = 10  # evaluations
    SHARE = 1 / 3  # of the open parameters; ours

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        stale = sum(t.id > view.incumbent.id for t in view.trials)
        names = view.ranged()
        if stale < self.PATIENCE or not names:
            return moves
        point = {**view.best.values, **{n: view.incumbent.values[n] for n in view.frozen}}
        for name in view.rng.sample(names, max(1, round(self.SHARE * len(names)))):
            point[name] = view.from_unit(name, view.rng.random())
        return moves if view.tried(point) else [Move((view.best.id,), point, tag="restart")]

    def accept(self, view: View, trial: Trial, keep: bool) -> bool:
        restarts = trial.draft is not None and trial.draft.move.tag == "restart"
        return keep or (restarts and trial.score is not None)
