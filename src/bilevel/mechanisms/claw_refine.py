"""AutoResearchClaw's refine and pivot."""

from __future__ import annotations

from collections.abc import Sequence

from bilevel.mechanism import Mechanism, View
from bilevel.model import Move, Trial


class ClawRefine(Mechanism):
    """Refines one candidate until it stalls, then refines on or pivots to another idea.

    Source: AutoResearchClaw v0.5, stages 13 (iterative refine: at most 10 iterations, over after 2
    without gain or 3 without a metric) and 15 (proceed, refine or pivot, at most 2 rollbacks).
    Faithful: each iteration starts from the round's best; the best of all rounds is kept.
    Adapted: a rule decides, not an LLM: a round that gained is refined on, another is a pivot, away
    from the parameters that were tried; its lessons are the history that the LLM sees anyway.
    """

    ITERATIONS = 10  # of a round
    STALLS = 2  # trials without gain that end a round
    BLANKS = 3  # trials without a score, one after another, that end a round
    ROLLBACKS = 2  # MAX_DECISION_PIVOTS; then it proceeds with the best for good
    PIVOT = "Another idea: leave what was tried so far and follow a new hypothesis."

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        """One move from the best of this round."""
        start = view.trials[0]
        for rollback in range(self.ROLLBACKS + 1):
            tag = f"claw_refine:{rollback}"
            best, over = self._round(start, view.by_tag(tag))
            if not over:
                pivoted = rollback > 0 and start is view.trials[0]
                return [self._move(view, best, tag, pivoted)]
            start = best if best is not start else view.trials[0]
        return [Move(parents=(view.incumbent.id,), tag="claw_refine:proceed")]

    def _round(self, start: Trial, trials: Sequence[Trial]) -> tuple[Trial, bool]:
        """The best of a round that began at `start`, and whether the round is over."""
        best, stalls, blanks = start, 0, 0
        for trial in trials:
            if trial.score is None:
                blanks += 1
            elif best.score is not None and trial.score > best.score:
                best, stalls, blanks = trial, 0, 0
            else:
                stalls, blanks = stalls + 1, 0
        over = stalls >= self.STALLS or blanks >= self.BLANKS or len(trials) >= self.ITERATIONS
        return best, over

    def _move(self, view: View, base: Trial, tag: str, pivoted: bool) -> Move:
        if not pivoted:
            return Move(parents=(base.id,), tag=tag)
        first, last = view.trials[0].values, view.trials[-1].draft
        tried = {n for t in view.trials for n in view.space.changed(first, t.values)}
        fresh = tuple(n for n in view.open() if n not in tried)
        # A rule for one step only: what is fresh may be used up, or have one value.
        new = not view.by_tag(tag) and last is not None and view.step == last.step + 1
        return Move((base.id,), focus=fresh if new else (), note=self.PIVOT, tag=tag)
