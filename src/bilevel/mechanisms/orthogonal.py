"""Evaluates an orthogonal array around the baseline, then the best level of every parameter.

Source: Taguchi, Chowdhury and Wu, "Taguchi's Quality Engineering Handbook", 2005; the arrays are
those of the package pydoe.
Faithful: effects by the mean of each level, the confirming run, a level repeated where a factor
has too few.
Adapted: spends at most half of the budget, on the first parameters if that cannot hold all; levels
are the default, a step down and a step up, the first parameter of L27 without the step up;
afterwards the LLM proposes.
"""

from __future__ import annotations

from statistics import mean

from pydoe import get_orthogonal_array

from bilevel.mechanism import Mechanism, View
from bilevel.model import Move, Value


class Orthogonal(Mechanism):
    ARRAYS = (  # three levels before two, small before large
        *("L9(3^4)", "L18(6^1 3^6)", "L27(2^1 3^12)", "L81(3^40)"),
        *("L4(2^3)", "L8(2^7)", "L12(2^11)", "L16(2^15)", "L32(2^31)"),
    )
    REACH = 0.2  # of the range of a number without a grid; ours

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        runs = {f"array:{i}": row for i, row in enumerate(self._rows(view))}
        if runs and all(view.by_tag(tag) or view.tried(row) for tag, row in runs.items()):
            runs = {"array:best": self._best(view)}
        new = [
            Move((view.incumbent.id,), values, tag=tag)
            for tag, values in runs.items()
            if not view.by_tag(tag) and not view.tried(values)
        ]
        return new[: max(1, view.slots)] or moves

    def _rows(self, view: View) -> list[dict[str, Value]]:
        """The array's rows as configurations; none when half of the budget is under four."""
        fixed = {name: view.incumbent.values[name] for name in view.frozen}
        start = {**view.trials[0].values, **fixed}
        levels = {
            name: [start[name], *(v[name] for v in view.neighbours(start, name, self.REACH))]
            for name in view.ranged()
        }
        rows = []
        for codes in self._array(view, len(levels)):
            pairs = zip(levels, codes, strict=False)
            rows.append({**start, **{n: levels[n][code % len(levels[n])] for n, code in pairs}})
        return rows

    def _array(self, view: View, factors: int) -> list[list[int]]:
        """Of the arrays that half of the budget holds, one with enough columns, or the widest."""
        half = (len(view.trials) - 1 + view.left) // 2
        arrays: list[list[list[int]]] = [get_orthogonal_array(a).tolist() for a in self.ARRAYS]
        fit = [a for a in arrays if len(a) <= half]
        wide = [a for a in fit if len(a[0]) >= factors]
        return (wide or sorted(fit, key=lambda a: -len(a[0])) or [[]])[0]

    def _best(self, view: View) -> dict[str, Value]:
        """The best level of each parameter."""
        return {**view.incumbent.values, **{n: self._level(view, n) for n in view.ranged()}}

    def _level(self, view: View, name: str) -> Value:
        """The value whose runs, the baseline among them, have the highest mean score."""
        scores: dict[Value, list[float]] = {}
        for trial in view.trials:
            run = trial.draft is None or trial.draft.move.tag.startswith("array:")
            if run and trial.score is not None:
                scores.setdefault(trial.values[name], []).append(trial.score)
        return max(scores, key=lambda value: mean(scores[value]))
