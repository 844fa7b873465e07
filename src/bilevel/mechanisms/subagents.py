"""Workers from one frozen base."""

from __future__ import annotations

from bilevel.mechanism import Mechanism, View
from bilevel.model import Move, Value


class Subagents(Mechanism):
    """Merges what two or more of several workers gained, and measures the merge.

    Source: Shen et al., "An Empirical Study of Multi-Agent Collaboration for Automated Research",
    arXiv 2603.29632, 2026, subagent mode: 3 workers, a merge when at least 2 gained, kept if it
    beats the best worker.
    Faithful: the base does not move within a round, and the merge is measured like any candidate.
    Adapted: every evaluation counts, where the paper counts rounds; of two changes to one parameter
    the better worker's stands; each worker is advised, not bound, to its share of the parameters.
    """

    WORKERS = 3
    WINNERS = 2  # that make a merge

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        """A merge when the last round earned one, else a new round of workers."""
        merged = self._merge(view)
        if merged is not None:
            return [Move(parents=(view.incumbent.id,), values=merged, tag="subagents:merge")]
        shares = [view.open()[i :: self.WORKERS] for i in range(self.WORKERS)]
        notes = [f"Rather change one of these: {', '.join(s)}." if s else "" for s in shares]
        return [Move(parents=(view.incumbent.id,), note=n, tag="subagents:worker") for n in notes]

    def _merge(self, view: View) -> dict[str, Value] | None:
        """All changes of the last round's winners, None without a new configuration of them."""
        last, workers = view.trials[-1].draft, view.by_tag("subagents:worker")
        if last is None or view.trials[-1] not in workers:
            return None
        scores = {t.id: t.score for t in view.trials if t.score is not None}
        base = next(t for t in view.trials if t.id == last.move.parents[0])
        team = [t for t in workers if t.draft and t.draft.step == last.step]
        winners = [t for t in team if t.id in scores and scores[t.id] > scores[base.id]]
        if len(winners) < self.WINNERS:
            return None
        merged = dict(base.values)
        for winner in sorted(winners, key=lambda t: scores[t.id]):  # the best one's changes last
            for name in view.space.changed(base.values, winner.values):
                merged[name] = winner.values[name]
        merged |= {n: view.incumbent.values[n] for n in view.frozen}
        return None if view.tried(merged) else merged
