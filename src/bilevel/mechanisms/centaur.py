"""CMA-ES and the LLM, in turns."""

from __future__ import annotations

import numpy as np
from cmaes import CMA

from bilevel.mechanism import View
from bilevel.mechanisms.cmaes import CmaEs
from bilevel.model import Move, Values


class Centaur(CmaEs):
    """Leaves every third trial of CMA-ES to the LLM; each learns from the other's.

    Source: Ferreira et al., arXiv 2603.24647, 2026, and its code (`centaur_backend.py`: llm_ratio
    0.3, llm_warmup 10): the best of nine methods on the GPT task there, with an LLM of 0.8B
    already.
    Faithful: every third trial after the warm-up; the LLM is told CMA-ES's mean, step size,
    correlations, next suggestion and best trials; CMA-ES is told the LLM's trials.
    Adapted: the LLM changes the best configuration instead of writing a whole one.
    """

    RATIO = 0.3
    WARMUP = 10  # trials of CMA-ES alone
    BEST = 5  # trials that the LLM is shown beside the history
    RELATED = 0.3  # correlation from which two parameters are mentioned

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        """CMA-ES's configurations; at every third step the first is left to the LLM."""
        planned = super().plan(view, moves)
        numbers, _ = self.names(view)
        suggestion = planned[0].values if planned else None
        turn = len(view.trials) > self.WARMUP and view.step % round(1 / self.RATIO) == 0
        if not turn or not numbers or suggestion is None:
            return planned
        scores = {t.id: t.score for t in view.trials if t.score is not None}
        best = sorted(scores, key=scores.__getitem__, reverse=True)[: self.BEST]
        note = self._advice(view, numbers, self.rebuild(view, numbers), suggestion)
        return [Move(parents=tuple(best), note=note, tag="centaur:llm"), *planned[1:]]

    def _advice(self, view: View, numbers: list[str], cma: CMA, suggestion: Values) -> str:
        def show(values: Values) -> str:
            return ", ".join(f"{n}={view.space[n].show(values[n])}" for n in numbers)

        mean = {n: view.from_unit(n, float(u)) for n, u in zip(numbers, cma.mean, strict=True)}
        sd = np.sqrt(np.diag(cma._C))  # the library has no public name for it, nor for the step
        related = [
            f"{a} and {b} {r:+.1f}"
            for i, a in enumerate(numbers)
            for j, b in enumerate(numbers[:i])
            if abs(r := cma._C[i, j] / (sd[i] * sd[j])) >= self.RELATED
        ]
        return (
            f"An optimiser (CMA-ES) searches around {show(mean)}, with steps of "
            f"{cma._sigma:.2f} of a range (small: it has settled; large: help it explore). "
            f"It would try {show(suggestion)} next. Diverge where you know better."
            + (f" Correlations: {', '.join(related)}." if related else "")
        )
