"""Every 10 evaluations forgets the history and keeps the first proposal, better or not.

Source: Qu and Lu, Bilevel-Autoresearch, 2026, the released code: in groups C and D each batch of
10 was a new runner, which began at the last proposal even when that had been discarded.
Faithful: the LLM is shown this batch only, starts from the last proposal, and its first is kept.
Adapted: a proposal that failed is passed over; the baseline stays shown and repeats are refused.
"""

from __future__ import annotations

from dataclasses import replace

from bilevel.mechanism import Mechanism, View
from bilevel.model import Move, Trial


class RestartWipe(Mechanism):
    BATCH = 10  # evaluations

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        start = self._start(view)
        if start == 0:
            return moves
        since = view.trials[start].id + 1
        if self._began(view):
            return [replace(m, since=since) for m in moves]
        last = view.scored()[-1]
        return [replace(m, since=since, parents=(last.id,)) for m in moves]

    def accept(self, view: View, trial: Trial, keep: bool) -> bool:
        first = self._start(view) > 0 and not self._began(view)
        return keep or (first and trial.score is not None)

    def _start(self, view: View) -> int:
        """How many search trials there were before this batch."""
        return (len(view.trials) - 1) // self.BATCH * self.BATCH

    def _began(self, view: View) -> bool:
        """Whether this batch has a trial that did not fail."""
        return any(t.score is not None for t in view.trials[1 + self._start(view) :])
