"""Remembers over runs what worked, what failed, and whether the idea or the code was at fault.

Source: EvoScientist, arXiv 2603.08127, 2026: an ideation memory of directions (k_I = 2 are
retrieved) and an experimentation memory of strategies (k_E = 1), by similarity to the present.
Faithful: both memories and their k; what crashed or decided nothing leaves the idea open.
Adapted: a rule and the noise judge, where an LLM votes on five questions; a failed idea is told as
one and not pruned; a direction is a change; similar is what started from a near configuration,
where texts are embedded.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from bilevel.mechanism import Mechanism, View
from bilevel.model import Draft, Move, Trial, Values


class Memory(Mechanism):
    remembers = True  # the next run of a task starts with the attributes that this one ended with
    IDEAS = 2  # k_I
    STRATEGIES = 1  # k_E
    MOST = 60  # records; ours

    def __init__(self) -> None:
        self.run = 0
        self.records: list[dict[str, Any]] = []

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        if view.step == 0:
            self.run += 1
        advice = "; ".join(self._advice(view))
        note = f"Earlier runs: {advice}." if advice else ""
        return [replace(m, note=f"{m.note} {note}".strip()) for m in moves]

    def accept(self, view: View, trial: Trial, keep: bool) -> bool:
        if trial.draft is not None and trial.draft.move.seed == 0:
            base = view.base(trial.draft.move).values
            record = {
                "run": self.run,
                "start": self._place(view, base),
                "change": self._change(view, base, trial.draft),
                "whole": self._change(view, view.space.defaults(), trial.draft),
                "gain": view.gain(trial),
                "fault": self._fault(view, trial),
            }
            others = [r for r in self.records if r["change"] != record["change"]]
            self.records = [*others, record][-self.MOST :]
        return keep

    def _fault(self, view: View, trial: Trial) -> str:
        """The idea's when clearly worse; the code's after a crash or a difference within noise."""
        gain, noise = view.gain(trial), view.noise or 0.0
        if gain is None or abs(gain) <= noise:
            return "code"
        return "none" if gain > 0 else "idea"

    def _advice(self, view: View) -> list[str]:
        """What earlier runs did from near here, and this one did not yet."""
        here = self._place(view, view.incumbent.values)
        known = [r for r in self.records if r["run"] < self.run]
        known.sort(key=lambda r: (self._apart(here, r["start"]), -abs(r["gain"] or 0.0)))
        ideas, others = known[: self.IDEAS], known[self.IDEAS :]
        worked = [r for r in others if r["fault"] == "none"][: self.STRATEGIES]
        return [self._told(r) for r in ideas] + [f"good as a whole: {r['whole']}" for r in worked]

    def _told(self, record: dict[str, Any]) -> str:
        change, gain = record["change"], record["gain"]
        if record["fault"] == "code":
            return f"{change} crashed or decided nothing, the idea is open"
        if record["fault"] == "idea":
            return f"{change} was {-gain:.3g} worse, the idea failed"
        return f"{change} was {gain:.3g} better"

    def _place(self, view: View, values: Values) -> dict[str, float]:
        """How far each parameter is from its default, in units; those at it are left out."""
        start = view.space.defaults()
        names = view.space.changed(start, values)
        return {n: round(view.unit(n, values[n]) - view.unit(n, start[n]), 3) for n in names}

    def _apart(self, one: dict[str, float], other: dict[str, float]) -> float:
        return math.hypot(*(one.get(n, 0.0) - other.get(n, 0.0) for n in {**one, **other}))

    def _change(self, view: View, base: Values, draft: Draft) -> str:
        """The draft's changes in words; of a rewritten text, the hypothesis."""
        words = []
        for name in view.space.changed(base, draft.values):
            show = view.space[name].show
            change = f"{name} {show(base[name])} -> {show(draft.values[name])}"
            words.append(draft.hypothesis if view.space[name].kind == "text" else change)
        return ", ".join(words)
