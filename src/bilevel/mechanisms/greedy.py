"""Keeps a trial exactly when it is better than the incumbent, as the empty stack does.

Source: Karpathy, autoresearch, program.md, 2026: advance if the metric improved, else reset.
Faithful: from the incumbent only, a strict improvement only.
Adapted: a rule decides; the agent there may also keep an equal result from simpler code.
"""

from __future__ import annotations

from bilevel.mechanism import Mechanism, View
from bilevel.model import Trial


class Greedy(Mechanism):
    def accept(self, view: View, trial: Trial, keep: bool) -> bool:
        now = view.incumbent.score
        if trial.score is None or now is None:
            return False
        common = trial.draft is None or trial.draft.move.seed == 0  # others do not compare
        return common and trial.score > now
