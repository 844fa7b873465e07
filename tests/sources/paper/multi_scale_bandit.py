"""The LLM names a direction; a bandit over five scales says how far to go in it.

The paper's run C2, first session. Arms are drawn by Thompson sampling.
"""

from bilevel.mechanism import Mechanism, View
from bilevel.model import Draft, Move


class MultiScaleBandit(Mechanism):
    SCALES = (0.02, 0.05, 0.1, 0.2, 0.4)

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        scale = max(self.SCALES, key=lambda s: self.draw(view, s))
        return [m if m.values is not None else m.edit(tag=f"scale {scale}") for m in moves]

    def screen(self, view: View, drafts: list[Draft]) -> list[Draft]:
        return [self.rescaled(view, d) for d in drafts]

    def draw(self, view: View, scale: float) -> float:
        """A rate of success that is likely for this scale, in [0, 1]."""
        past = view.by_tag(f"scale {scale}")
        kept = sum(t.kept for t in past)
        return view.rng.betavariate(1 + kept, 1 + len(past) - kept)

    def rescaled(self, view: View, draft: Draft) -> Draft:
        if not draft.move.tag.startswith("scale "):
            return draft
        scale = float(draft.move.tag.split()[1])
        base, values = view.base(draft.move).values, dict(draft.values)
        for name in view.space.changed(base, values):
            if name in view.ranged():
                start = view.unit(name, base[name])
                up = view.unit(name, values[name]) > start
                values[name] = view.from_unit(name, start + scale if up else start - scale)
        if values == draft.values or view.tried(values):
            return draft
        return draft.edit(values, f"a step of {scale} of the range")
