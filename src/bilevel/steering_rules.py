"""What the trace says about each parameter, and what Level 1.5 may do about it. No LLM here.

A *try* of a parameter is a trial that set it otherwise than the trial it started from; its *gain*
is its score minus that one's. A value taken over from the incumbent is no try (frozen parameters
come so to trials that start elsewhere), and a trial on another seed than its start has no gain to
speak of. A try that did not gain *failed*, a crash included. Failures count since the parameter
last gained, and only a change of one parameter alone says something about a side: what lies above
its present value, what lies below, or the other choices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bilevel.mechanism import View
from bilevel.model import Param, Trial, Value

TRIES = 3  # k of the paper: failures after which a parameter may be frozen
LEAST_OPEN = 4  # so many parameters stay open, and a third of them


@dataclass(frozen=True)
class Try:
    """A trial, the parameters it tried, and its gain; None when it or its start has no score."""

    trial: Trial
    names: tuple[str, ...]
    gain: float | None

    @property
    def gained(self) -> bool:
        return self.gain is not None and self.gain > 0


@dataclass(frozen=True)
class Evidence:
    """What the trials say about one parameter.

    tried: how often it was tried, below and above: on which side of its present value (numbers
    only). gain: the largest gain of a try, kept_gain: of a kept one that gained; None without one.
    failed: failures since it last gained. sides: in words, where there are values and no change of
    it alone has failed since; none left means that it is exhausted. moved: whether the incumbent
    changed after the last try. spent: whether the incumbent was tried with each of its values.
    """

    name: str
    tried: int
    below: int
    above: int
    gain: float | None
    kept_gain: float | None
    failed: int
    sides: tuple[str, ...]
    moved: bool
    spent: bool


def weigh(view: View) -> dict[str, Evidence]:
    """The evidence on every parameter, by name, in the space's order."""
    tries, alone = _tries(view), _tried_from_incumbent(view)
    return {p.name: _evidence(view, p, tries, alone) for p in view.space}


def most_frozen(view: View) -> int:
    """How many parameters may be frozen: a third, and never fewer than four, stay open."""
    return max(0, len(view.space) - least_open(view))


def least_open(view: View) -> int:
    """How many parameters stay open at least."""
    return min(len(view.space), max(LEAST_OPEN, math.ceil(len(view.space) / 3)))


def freezable(view: View, evidence: dict[str, Evidence]) -> tuple[str, ...]:
    """Open parameters that may be frozen: exhausted by at least TRIES failures."""
    if not most_frozen(view):
        return ()
    return tuple(n for n in view.open() if not _objection(evidence[n]))


def offered(view: View, evidence: dict[str, Evidence]) -> tuple[str, ...]:
    """Frozen parameters that were not tried since the search moved."""
    return tuple(n for n in view.frozen if evidence[n].moved)


def grant(
    view: View, evidence: dict[str, Evidence], freeze: Sequence[str], unfreeze: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The parameters frozen from now on, and the reason for each change and each wish refused.

    Opening is always granted and comes first. Of more wishes to freeze than there is room for,
    those whose parameters gained least are granted.
    """
    reasons, frozen = {}, set(view.frozen)
    for name in dict.fromkeys(unfreeze):
        if name in frozen:
            frozen.remove(name)
            moved = "moved" if evidence[name].moved else "has not moved"
            reasons[name] = f"opened: the search {moved} since its last try"
    wishes = [n for n in dict.fromkeys(freeze) if n not in view.frozen]
    allowed = [n for n in wishes if n in freezable(view, evidence)]
    room = max(0, most_frozen(view) - len(frozen))
    granted = sorted(allowed, key=lambda n: _rank(evidence[n]))[:room]
    for name in wishes:
        if name in granted:
            reasons[name] = f"frozen: {evidence[name].failed} failures on all sides since any gain"
        elif name not in evidence:
            reasons[name] = "not frozen: there is no such parameter"
        elif why := _objection(evidence[name]):
            reasons[name] = f"not frozen: {why}"
        else:
            stay = f"at least {least_open(view)} of {len(view.space)} parameters stay open"
            reasons[name] = f"not frozen: {stay}; those that gained less go first"
    frozen |= set(granted)
    return tuple(n for n in view.space.names if n in frozen), reasons


def _objection(evidence: Evidence) -> str:
    """Why the parameter may not be frozen, "" if it may."""
    if evidence.failed < TRIES:
        return f"{evidence.failed} failures since any gain, {TRIES} are needed"
    if evidence.sides:
        return f"still to be tested alone: {', '.join(evidence.sides)}"
    return ""


def _rank(evidence: Evidence) -> tuple[float, int]:
    gain = -math.inf if evidence.gain is None else evidence.gain
    return gain, -evidence.failed


def _tries(view: View) -> list[Try]:
    by_id = {t.id: t for t in view.trials}
    kept, found = [view.trials[0]], []
    for trial in view.trials:
        if trial.draft is not None:
            incumbent = next(k for k in reversed(kept) if _step(k) < _step(trial))
            parents = trial.draft.move.parents
            start = by_id[parents[0]] if parents else incumbent
            names = view.space.changed(start.values, trial.values)
            own = tuple(n for n in names if trial.values[n] != incumbent.values[n])
            if trial.seed == start.seed:
                found.append(Try(trial, own, _gain(start, trial)))
        if trial.kept:
            kept.append(trial)
    return found


def _step(trial: Trial) -> int:
    return -1 if trial.draft is None else trial.draft.step


def _gain(start: Trial, trial: Trial) -> float | None:
    return None if start.score is None or trial.score is None else trial.score - start.score


def _evidence(
    view: View, param: Param, tries: Sequence[Try], alone: dict[str, set[Value]]
) -> Evidence:
    name, now = param.name, view.incumbent.values[param.name]
    own = [t for t in tries if name in t.names]
    last = max((i for i, t in enumerate(own) if t.gained), default=-1)
    failures = own[last + 1 :]
    failed = {t.trial.values[name] for t in failures if t.names == (name,)}
    places = [_side(now, t.trial.values[name]) for t in own]
    grid = param.grid()
    return Evidence(
        name=name,
        tried=len(own),
        below=places.count("below"),
        above=places.count("above"),
        gain=max((t.gain for t in own if t.gain is not None), default=None),
        kept_gain=max((t.gain for t in own if t.gain and t.gained and t.trial.kept), default=None),
        failed=len(failures),
        sides=_sides(param, now, failed),
        moved=not own or view.incumbent.id > own[-1].trial.id,
        spent=bool(grid) and set(grid) <= alone[name] | {now},
    )


def _sides(param: Param, now: Value, failed: set[Value]) -> tuple[str, ...]:
    if param.kind == "text":
        return ("other texts",)
    if param.kind == "choice":
        left = sum(1 for c in param.choices if c != now and c not in failed)
        return (f"{left} other choice{'s'[: left > 1]}",) if left else ()
    assert not isinstance(now, str)
    low, high = (bound if math.isinf(bound) else param.snap(bound) for bound in param.bounds)
    assert not isinstance(low, str)
    assert not isinstance(high, str)
    places = {_side(now, value) for value in failed}
    inside = {"below": now > low, "above": now < high}
    return tuple(side for side in inside if inside[side] and side not in places)


def _side(now: Value, value: Value) -> str:
    if isinstance(now, str) or isinstance(value, str) or now == value:
        return ""
    return "above" if value > now else "below"


def _tried_from_incumbent(view: View) -> dict[str, set[Value]]:
    """By parameter the values of trials that differ from the incumbent in it alone."""
    found: dict[str, set[Value]] = {n: set() for n in view.space.names}
    for trial in view.trials:
        names = view.space.changed(view.incumbent.values, trial.values)
        if len(names) == 1 and trial.seed == view.trials[0].seed:
            found[names[0]].add(trial.values[names[0]])
    return found
