"""What the condition of a rule may count in a run, and between which numbers that has been."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from bilevel.mechanism import View


@dataclass(frozen=True)
class Counted:
    """What a condition may count. local: the name it needs; code: the same as an expression; seen:
    the values that it has had up to now."""

    local: str
    code: str
    seen: Callable[[View], list[float]]


def streaks(view: View) -> list[float]:
    """After each evaluation, the number of evaluations since the last kept one."""
    counts, running = [], 0
    for trial in view.trials[1:]:
        running = 0 if trial.kept else running + 1
        counts.append(float(running))
    return counts


def losses(view: View) -> list[float]:
    """What trials lost against where they started, below 0 each; failed ones have none."""
    gains = (view.gain(trial) for trial in view.trials[1:])
    return [gain for gain in gains if gain is not None and gain < 0]


COUNTED = {
    "evaluations since the last kept one": Counted("streak", "streak", streaks),
    "how often one parameter was changed": Counted(
        "tries", "tries[name]", lambda v: [len(v.tries(n)) for n in v.space.names]
    ),
    "best gain of one parameter, in units of noise": Counted(
        "gains",
        "gains[name] / noise",
        lambda v: [v.best_gain(n) / (v.noise or 1e-9) for n in v.space.names],
    ),
    "evaluations since one parameter was changed": Counted(
        "age", "age[name]", lambda v: [v.age(n) for n in v.space.names]
    ),
    "percent of the budget that is left": Counted(
        "left", "100 * left", lambda v: [0.0, 100 * v.left / max(1, v.left + len(v.trials) - 1)]
    ),
    "how much worse a trial is than the incumbent, in units of noise": Counted(
        "lost", "lost / noise", lambda v: [-g / (v.noise or 1e-9) for g in losses(v)]
    ),
}  # what a rule's condition may count, in words


def observed(view: View) -> dict[str, tuple[int, int]]:
    """By what is counted, between which whole numbers it has been; only what has varied.

    A number in between separates cases that this run has met, so a rule on it can act and rest.
    Nothing is counted in units of noise where there is none.
    """
    fit = {what: counted for what, counted in COUNTED.items() if view.noise or "noise" not in what}
    seen = {what: counted.seen(view) for what, counted in fit.items()}
    spans = {w: (math.floor(min(v)), math.ceil(max(v))) for w, v in seen.items() if v}
    return {what: (low, high) for what, (low, high) in spans.items() if low < high}
