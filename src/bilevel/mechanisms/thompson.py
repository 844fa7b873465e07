"""Lets the LLM change only one parameter, drawn by its chance of being the most rewarding.

Source: Thompson, Biometrika 25, 1933; Chapelle and Li, "An Empirical Evaluation of Thompson
Sampling", NeurIPS 2011, algorithm 2: draw from Beta(successes + 1, failures + 1), play the highest.
Faithful: the draw and its uniform prior; a success is a kept trial.
Adapted: an arm is a parameter; a proposal that came to nothing is a failure, after which the LLM
is free for a step.
"""

from __future__ import annotations

from dataclasses import replace

from bilevel.mechanism import Mechanism, View
from bilevel.model import Move


class Thompson(Mechanism):
    def __init__(self) -> None:
        self.pulls: dict[str, int] = {}
        self.seen = 0

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        idle, self.seen = self.seen == len(view.trials), len(view.trials)
        if idle:  # The last pull came to nothing: nothing new may be left there.
            return moves
        return [m if m.values is not None else self._pull(view, m) for m in moves]

    def _pull(self, view: View, move: Move) -> Move:
        arm = max(move.focus or view.open(), key=lambda name: self._draw(view, name))
        self.pulls[arm] = self.pulls.get(arm, 0) + 1
        return replace(move, focus=(arm,), tag=f"{move.tag} thompson:{arm}".strip())

    def _draw(self, view: View, name: str) -> float:
        past = view.by_tag(f"thompson:{name}")
        pulls = max(self.pulls.get(name, 0), len(past))  # a layer below may make two of a pull
        kept = sum(t.kept for t in past)
        return view.rng.betavariate(1 + kept, 1 + pulls - kept)
