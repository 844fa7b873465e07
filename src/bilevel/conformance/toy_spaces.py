"""Toys on which a mechanism is tried: spaces of every kind, and the ill luck that runs have."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from bilevel.model import Outcome, Param, Space, Value, Values
from bilevel.sandbox.wire import Frozen

Measure = Callable[[Values, int, int], Outcome]


def bowl(values: Values, seed: int, trial: int) -> Outcome:
    """A loss of at least 0, smooth in the numbers; seeds differ by a little."""
    loss = sum((_place(value) - 0.3) ** 2 for value in values.values()) + seed % 7 / 1000
    return Outcome("ok", loss, Frozen({"loss": loss}))


def flat(values: Values, seed: int, trial: int) -> Outcome:
    """The same loss for all, so that the noise is 0 as well."""
    return Outcome("ok", 1.0, Frozen({"loss": 1.0}))


def failing(values: Values, seed: int, trial: int) -> Outcome:
    """Like `bowl`, but of four search trials one crashes, one times out and one is invalid."""
    if trial < 2 or trial % 4 == 1:
        return bowl(values, seed, trial)
    if trial % 4 == 2:
        return Outcome("crash", None, Frozen(), "RuntimeError: out of memory")
    if trial % 4 == 3:
        return Outcome("timeout", None, Frozen(), "killed after 600 s")
    return Outcome("invalid", None, Frozen(), "A must divide B")


def _place(value: Value) -> float:
    """A number in [-1, 1] for any value."""
    if isinstance(value, str):
        return len(value) % 7 / 7
    return float(value) / (1 + abs(float(value)))


@dataclass(frozen=True)
class Toy:
    """A space to search and what happens meanwhile.

    name: for messages, after "on". measure: outcome of values, job seed and trial id. baselines:
    how often the baseline was measured before the first step. frozen: parameters that may not
    change from step `since` on. planned: whether a layer below has moves of its own, keeps worse
    trials and measures again. kills: whether the twin (watching.py) is new before each call.
    long: how many times the usual number of steps.
    """

    name: str
    space: Space
    slots: int = 1
    measure: Measure = bowl
    baselines: int = 2
    frozen: tuple[str, ...] = ()
    since: int = 0
    planned: bool = False
    kills: bool = False
    long: int = 1

    @property
    def small(self) -> bool:
        """Whether a mechanism that narrows the search may well run out of new values."""
        return (
            all(p.grid() for p in self.space) and math.prod(len(p.grid()) for p in self.space) < 100
        )


RATE = Param("RATE", "float", 0.01, low=0.0001, high=1.0, log=True, doc="step size")
TEN = Space(
    (
        RATE,
        Param("DECAY", "float", 0.0, low=0.0, high=1.0),
        Param("SCALE", "float", 1.0, doc="without bounds"),
        Param("DEPTH", "int", 4, low=1, high=9),
        Param("HEADS", "int", 6, low=2, high=20, step=2),
        Param("BATCH", "int", 2**12, low=2**8, high=2**16, log=True, step=2),
        Param("PATTERN", "choice", "SSSL", choices=("SSSL", "SL", "L")),
        Param("BIAS", "choice", False, choices=(True, False)),
        Param("ONLY", "choice", "adam", choices=("adam",), doc="a single choice"),
        Param("SOURCE", "text", "def f(): return 0"),
    )
)
OPEN = ("RATE", "DEPTH", "BATCH", "PATTERN")
CLOSED = tuple(n for n in TEN.names if n not in OPEN)

_ten = Toy("ten parameters of all kinds", TEN)
TOYS = (
    Toy("one number", Space((Param("X", "float", 0.5, low=0.0, high=1.0),)), baselines=1),
    Toy("one number on a log scale", Space((RATE,))),
    Toy("whole numbers", Space((TEN["DEPTH"], TEN["HEADS"]))),
    Toy("powers of two", Space((TEN["BATCH"], replace(TEN["BATCH"], name="WIDTH", default=2**8)))),
    Toy("choices", Space((TEN["PATTERN"], Param("OPT", "choice", "b", choices=tuple("abcdef"))))),
    Toy("yes-or-no choices", Space(tuple(replace(TEN["BIAS"], name=n) for n in "ABCD"))),
    Toy("one text", Space((TEN["SOURCE"],))),
    replace(_ten, long=2),
    replace(_ten, name="all but four parameters frozen", frozen=CLOSED, kills=True),
    replace(_ten, name="three slots", slots=3, long=2),
    replace(_ten, name="trials that crash, time out or are invalid", measure=failing),
    replace(_ten, name="scores that are all equal", measure=flat),
    replace(_ten, name="a layer below that plans and keeps worse trials", planned=True),
    replace(
        _ten, name="an incumbent that is not the best, frozen late",
        planned=True, frozen=OPEN, since=6,
    ),
)  # fmt: skip
