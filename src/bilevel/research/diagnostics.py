"""What a run's trace shows, counted by code, in lines that Level 2 reads."""

from __future__ import annotations

from dataclasses import dataclass

from bilevel.history import History
from bilevel.mechanism import View, started_from
from bilevel.model import Objective, Value
from bilevel.prompting import figure


@dataclass(frozen=True)
class Tried:
    """What became of one parameter: times changed, upwards, downwards, failed; its best gain.

    up and down count a number's changes to a larger and a smaller value.
    """

    name: str
    times: int
    up: int
    down: int
    failed: int
    best: float | None


def tried(view: View) -> list[Tried]:
    """Each parameter's fate, in the order of the space."""
    return [_tried(view, name) for name in view.space.names]


def _tried(view: View, name: str) -> Tried:
    trials = view.tries(name)
    pairs = [(t.values[name], started_from(view.trials, t).values[name]) for t in trials]
    sides = [_side(new, old) for new, old in pairs]
    gains = [gain for t in trials if (gain := view.gain(t)) is not None]
    return Tried(
        name,
        len(trials),
        sides.count("up"),
        sides.count("down"),
        sum(t.score is None for t in trials),
        max(gains, default=None),
    )


def _side(new: Value, old: Value) -> str:
    if isinstance(new, str) or isinstance(old, str):
        return ""
    return "up" if new > old else "down"


def facts(history: History, view: View, objective: Objective) -> list[str]:
    """The trace in a dozen lines: progress, repeats, failures, parameters, directions, noise."""
    evaluated = [t for t in view.trials if t.draft is not None]
    kept = [t for t in evaluated if t.kept]
    lines = [
        f"{len(evaluated)} evaluations: {len(kept)} kept, "
        f"{sum(t.score is None for t in evaluated)} failed; "
        f"{view.streak()} since the last kept; {view.left} left",
        _best(view, objective),
        *_refused(history),
        *_parameters(view),
    ]
    if view.noise is not None:
        lines.append(f"noise of one measurement: {view.noise:.2g}")
    return [line for line in lines if line]


def _best(view: View, objective: Objective) -> str:
    scored = view.scored()
    if not scored or view.best.score is None or scored[0].score is None:
        return ""
    first, best = (objective.value(s) for s in (scored[0].score, view.best.score))
    return f"{objective.metric}: {figure(first)} at the start, {figure(best)} now (#{view.best.id})"


def _refused(history: History) -> list[str]:
    reasons = [r.reason for r in history.refusals()]
    repeats = sum("repeats" in reason for reason in reasons)
    nothing = sum("changes nothing" in reason for reason in reasons)
    if not reasons:
        return []
    return [
        f"{len(reasons)} proposals refused before they ran: {repeats} repeat an earlier trial, "
        f"{nothing} change nothing"
    ]


def _parameters(view: View) -> list[str]:
    rows = tried(view)
    touched = sorted((r for r in rows if r.times), key=lambda r: -r.times)
    lines = [_row(view, row) for row in touched]
    if never := [r.name for r in rows if not r.times]:
        lines.append(f"never changed: {', '.join(never)}")
    if one_way := [f"{r.name} {side}" for r in touched for side in _untried(view, r)]:
        lines.append(f"directions never tried: {', '.join(one_way)}")
    return lines


def _untried(view: View, row: Tried) -> list[str]:
    """The ways from the incumbent's value that a number was never changed, though it can be."""
    param, now = view.space[row.name], view.incumbent.values[row.name]
    if param.kind in ("choice", "text") or isinstance(now, str):
        return []
    low, high = param.bounds
    can = {"up": not row.up and now < high, "down": not row.down and now > low}
    return [side for side in can if can[side]]


def _row(view: View, row: Tried) -> str:
    best = "no score"
    if row.best is not None:
        best = f"best gain {figure(row.best, view.best.score, sign='+')}"
    failed = f", {row.failed} failed" if row.failed else ""
    frozen = ", frozen" if row.name in view.frozen else ""
    number = view.space[row.name].kind in ("float", "int")
    ways = f"{row.up} up, {row.down} down{failed}" if number else f"{row.failed} failed"
    return f"{row.name}: changed {row.times} times ({ways}), {best}{frozen}"
