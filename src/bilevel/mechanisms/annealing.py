"""Sometimes keeps a worse trial, less often as the budget is used up: simulated annealing.

Source: Kirkpatrick, Gelatt and Vecchi, "Optimization by Simulated Annealing", Science 220, 1983:
a loss is accepted with probability exp(-loss / temperature), and the temperature falls by a ratio.
Faithful: Metropolis' rule, a tie is kept, geometric cooling.
Adapted: the first temperature is the noise of the baseline, or the median loss where there is no
noise; the ratio is such that the budget ends at COLDEST of it.
"""

from __future__ import annotations

import math
import statistics

from bilevel.mechanism import Mechanism, View
from bilevel.model import Trial


class Annealing(Mechanism):
    COLDEST = 0.05  # about 0.9 ** 30; their ratio is 0.9

    def accept(self, view: View, trial: Trial, keep: bool) -> bool:
        now = view.incumbent.score
        common = trial.draft is None or trial.draft.move.seed == 0  # others do not compare
        if trial.score is None or now is None or not common:
            return keep
        loss = now - trial.score
        if loss <= 0:
            return True
        losses = [abs(now - t.score) for t in view.trials if t.score is not None and t.score != now]
        hottest = view.noise or statistics.median([loss, *losses])
        done = len(view.trials) - 1
        temperature = hottest * self.COLDEST ** (done / (done + view.left))
        return view.rng.random() < math.exp(-loss / temperature)
