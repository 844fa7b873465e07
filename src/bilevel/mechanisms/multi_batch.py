"""Parallel batches."""

from __future__ import annotations

from bilevel.mechanism import Mechanism, View
from bilevel.model import Move


class MultiBatch(Mechanism):
    """Asks for B proposals a step from one incumbent, each with other advice; the best is kept.

    Source: AutoResearchClaw as the literature describes it (Qu and Lu, "Bilevel Autoresearch",
    2026, section 1). Its own code searches one proposal at a time: see `claw_refine`.
    Faithful: one base for the whole batch, evaluated in parallel where there are slots.
    Adapted: each improvement is kept as it comes, which leaves the best of the batch.
    """

    ADVICE = (  # B = 4 with the plain move; 3 to 4 are usual
        "Refine what has helped most so far, in small steps.",
        "Change a parameter that was never changed.",
        "Make one bold change, far from what was tried.",
    )

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        """The moves from below and one more for each piece of advice."""
        base, focus = (view.incumbent.id,), moves[0].focus if moves else ()
        batch = [Move(parents=base, focus=focus, note=n, tag="multi_batch") for n in self.ADVICE]
        return [*moves, *batch]
