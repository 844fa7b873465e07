"""The LLM says which way to go, a bandit over five step sizes how far.

Source: Qu and Lu, Bilevel-Autoresearch, 2026, MultiScaleBanditProposer of run C2, which was written
and never called; arms are drawn as in Chapelle and Li, NeurIPS 2011, algorithm 2.
Faithful: a bandit whose arms are five scales.
Adapted: a scale is a share of a number's range; the draft is edited, its direction kept.
"""

from __future__ import annotations

from dataclasses import replace

from bilevel.mechanism import Mechanism, View
from bilevel.model import Draft, Move, Value


class Multiscale(Mechanism):
    SCALES = (0.02, 0.05, 0.1, 0.2, 0.4)  # of a parameter's range; ours

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        return [m if m.values is not None else self._pull(view, m) for m in moves]

    def screen(self, view: View, drafts: list[Draft]) -> list[Draft]:
        return [self._rescale(view, d) if "scale:" in d.move.tag else d for d in drafts]

    def _pull(self, view: View, move: Move) -> Move:
        scale = max(self.SCALES, key=lambda s: self._draw(view, s))
        return replace(move, tag=f"{move.tag} scale:{scale}".strip())

    def _draw(self, view: View, scale: float) -> float:
        kept = [t.kept for t in view.by_tag(f"scale:{scale}")]
        return view.rng.betavariate(1 + sum(kept), 1 + len(kept) - sum(kept))

    def _rescale(self, view: View, draft: Draft) -> Draft:
        """The draft with its numbers one scale from where it started, unless that was tried."""
        base, values = view.base(draft.move).values, dict(draft.values)
        scale = draft.move.tag.partition("scale:")[2].split()[0]
        for name in view.space.changed(base, values):
            if name in view.ranged() and view.space[name].kind != "choice":
                values[name] = self._step(view, name, base[name], values[name], float(scale))
        if values == draft.values or view.tried(values):
            return draft
        return draft.edit(values, f"a step of {scale} of the range")

    def _step(self, view: View, name: str, old: Value, new: Value, scale: float) -> Value:
        """One scale from the old value towards the new; the new one if that is no step."""
        start, there = view.unit(name, old), view.unit(name, new)
        moved = view.from_unit(name, start + (scale if there > start else -scale))
        return new if moved == old else moved
