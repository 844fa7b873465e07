"""What a proposal may change, as a JSON schema: open parameters, each to values that are new."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from bilevel.mechanism import View
from bilevel.model import Move, Param, Value, Values

MAX_CHANGES = 2
HYPOTHESIS = {"type": "string", "minLength": 8, "maxLength": 90}
# Half the width of the gap around a known value, as a share of its parameter's range.
GAP = 0.01
DIGITS = 3


def open_names(view: View, move: Move) -> tuple[str, ...]:
    """Parameters that this move may change: its focus, else all that are not frozen."""
    return tuple(n for n in view.open() if not move.focus or n in move.focus)


def schema(
    view: View, move: Move, resting: frozenset[str] = frozenset(), hypotheses: bool = True
) -> dict[str, Any]:
    """JSON schema of a proposal: open parameters only, each with values of its own type.

    resting: parameters left out, unless nothing else is open; then they are on offer one at a time,
    as pairs are what repeats. hypotheses: whether it says why it should help. The present value is
    not on offer, nor, for a change of one parameter, is one that was tried so; of a number between
    bounds and without a grid also what lies near. Texts and numbers without bounds are all on
    offer, and so is what is there already where no open parameter has another value. Changes come
    first: a small model that states its reason first then changes something else.
    """
    base = view.base(move).values
    names = open_names(view, move)
    spent = set(names) <= resting
    params = [view.space[n] for n in names if n not in resting or spent]
    tried = {} if move.seed else _tried(view, base)
    one = _changes(view, params, {p.name: [base[p.name], *tried.get(p.name, ())] for p in params})
    some = _changes(view, params, {p.name: [base[p.name]] for p in params})
    some = some or _changes(view, params, {p.name: [] for p in params})
    lists = [_list(one, 1)] if one else []
    pairs = len(some) >= MAX_CHANGES and not (one and spent)
    lists += [_list(some, MAX_CHANGES)] if pairs else []
    why = {"hypothesis": HYPOTHESIS} if hypotheses else {}
    return _object(changes={"anyOf": lists or [_list(some, 1)]}, **why)


def _tried(view: View, base: Values) -> dict[str, list[Value]]:
    """By parameter, the values of trials that have all else as in `base`."""
    tried: dict[str, list[Value]] = {}
    for trial in view.trials:
        changed = view.space.changed(base, trial.values)
        if len(changed) == 1:
            tried.setdefault(changed[0], []).append(trial.values[changed[0]])
    return tried


def _changes(
    view: View, params: Sequence[Param], known: dict[str, list[Value]]
) -> list[dict[str, Any]]:
    """A change of each parameter that has values besides the known ones."""
    allowed = {p.name: _new(view, p, known[p.name]) for p in params}
    return [
        _object(name={"const": name}, value=values) for name, values in allowed.items() if values
    ]


def _new(view: View, param: Param, known: Sequence[Value]) -> dict[str, Any]:
    """JSON schema of the values besides the known ones; empty if there are none."""
    if param.kind == "text":
        return {"type": "string"}
    if choices := param.grid() or param.choices:
        others = [v for v in choices if v not in known]
        return {"enum": others} if others else {}
    kind = "integer" if param.kind == "int" else "number"
    ranges = [{"type": kind, **bounds} for bounds in _ranges(view, param, known)]
    return {"anyOf": ranges} if len(ranges) > 1 else dict(*ranges)


def _ranges(view: View, param: Param, known: Sequence[Value]) -> Iterator[dict[str, Value]]:
    """The bounds of a number, or those of what lies between the gaps around known values."""
    if param.low is None or param.high is None:
        bounds = {"minimum": param.low, "maximum": param.high}
        yield {name: param.snap(v) for name, v in bounds.items() if v is not None}
        return
    start: float = param.low
    for value in sorted(float(v) for v in known):
        below, above = _around(view, param, value)
        if start <= below:
            yield {"minimum": param.snap(start), "maximum": param.snap(below)}
        start = max(start, above)
    if start <= param.high:
        yield {"minimum": param.snap(start), "maximum": param.snap(param.high)}


def _around(view: View, param: Param, value: float) -> tuple[float, float]:
    """The nearest numbers on either side that are no longer near; infinite where none is left."""
    place = view.unit(param.name, value)
    below, above = -math.inf, math.inf
    if place >= GAP:
        below = _short(float(view.from_unit(param.name, place - GAP)), value)
        below = min(math.floor(below), value - 1) if param.kind == "int" else below
    if place <= 1 - GAP:
        above = _short(float(view.from_unit(param.name, place + GAP)), value)
        above = max(math.ceil(above), value + 1) if param.kind == "int" else above
    return below, above


def _short(number: float, beside: float) -> float:
    """The number with few digits, unless that moves it past its neighbour."""
    short = float(f"{number:.{DIGITS}g}")
    return short if (number - beside) * (short - beside) > 0 else number


def _list(items: Sequence[dict[str, Any]], count: int) -> dict[str, Any]:
    return {"type": "array", "items": {"anyOf": items}, "minItems": count, "maxItems": count}


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
