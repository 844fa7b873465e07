"""Lets the LLM change only the parameter that promises most, or has been tried least: UCB1.

Source: Auer, Cesa-Bianchi and Fischer, "Finite-time Analysis of the Multiarmed Bandit Problem",
Machine Learning 47, 2002, fig. 1: each arm once, then the highest mean + sqrt(2 ln n / n_j).
Faithful: the index; rewards in [0, 1], 1 for a kept trial.
Adapted: an arm is a parameter; a proposal that came to nothing is a pull without reward, after
which the LLM is free for a step.
"""

from __future__ import annotations

import math
from dataclasses import replace

from bilevel.mechanism import Mechanism, View
from bilevel.model import Move


class Ucb1(Mechanism):
    def __init__(self) -> None:
        self.pulls: dict[str, int] = {}
        self.seen = 0

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        idle, self.seen = self.seen == len(view.trials), len(view.trials)
        if idle:  # The last pull came to nothing: nothing new may be left there.
            return moves
        return [m if m.values is not None else self._pull(view, m) for m in moves]

    def _pull(self, view: View, move: Move) -> Move:
        arm = max(move.focus or view.open(), key=lambda name: self._index(view, name))
        self.pulls[arm] = self.pulls.get(arm, 0) + 1
        return replace(move, focus=(arm,), tag=f"{move.tag} ucb1:{arm}".strip())

    def _index(self, view: View, name: str) -> float:
        past = view.by_tag(f"ucb1:{name}")
        pulls = max(self.pulls.get(name, 0), len(past))  # a layer below may make two of a pull
        if pulls == 0:
            return math.inf
        kept = sum(t.kept for t in past)
        return kept / pulls + math.sqrt(2 * math.log(sum(self.pulls.values())) / pulls)
