"""Whole runs of one mechanism over made-up tasks, for the tests of strategies."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from bilevel.mechanism import Mechanism, View
from bilevel.model import Decision, Fault, Message, Outcome, Param, Proposal, Space, Stop, Trial
from bilevel.stack import Layer
from worlds import RUN, SPACE, Instant, Log, build, loss, says, walk

GRID = Space(
    (
        Param("DEPTH", "int", 2, low=1, high=4, step=1),
        Param("KIND", "choice", "x", choices=("x", "y", "z")),
    )
)
TEXT = Space((Param("CODE", "text", "n = 0"),))
ODD = Space(
    (
        Param("CODE", "text", "n = 0"),
        Param("FREE", "float", 1.0),
        Param("ONLY", "choice", "x", choices=("x",)),
        Param("RATE", "float", 0.1, low=0.001, high=1.0, log=True),
    )
)


def grid_loss(values: dict[str, object], seed: int) -> Outcome:
    """Best at DEPTH 3 and KIND y; one corner crashes."""
    if values["DEPTH"] == 1 and values["KIND"] == "z":
        return Outcome("crash", None, error="too shallow")
    value = abs(int(values["DEPTH"]) - 3) + (values["KIND"] != "y") + seed % 7 / 100
    return Outcome("ok", value, {"loss": value})


def rate_loss(values: dict[str, object], seed: int) -> Outcome:
    """Best at RATE 0.3 where there is one; a text is worth nothing."""
    value = abs(float(values.get("RATE", 0.1)) - 0.3)
    return Outcome("ok", value, {"loss": value})


def grid_reply(messages: Sequence[Message], number: int) -> str:
    draw = random.Random(number)
    return says(DEPTH=draw.randint(1, 4), KIND=draw.choice("xyz"))


WORLDS: dict[str, tuple[Space, Callable, Callable, int]] = {
    "mixed": (SPACE, loss, walk, 12),
    "grid": (GRID, grid_loss, grid_reply, 11),  # every configuration but the baseline
    "text": (TEXT, rate_loss, lambda m, n: says(CODE=f"n = {n}"), 8),
    "odd": (ODD, rate_loss, lambda m, n: says(RATE=(n * 37 % 100 + 1) / 101), 8),
}


def search(mechanism: Mechanism, log: Log | None = None, world: str = "mixed", **changes) -> Log:
    """The log of a run with one layer. Fails when the layer did."""
    space, measure, reply, evals = WORLDS[world]
    log = Log() if log is None else log
    measure, reply = changes.pop("measure", measure), changes.pop("reply", reply)
    slots = changes.get("slots", 1)
    loop = build(
        log,
        reply,
        run=replace(RUN, space=space),
        evaluator=Instant(slots, measure),
        layers=[Layer("sha", "mechanism", mechanism)],
        **{"evals": evals, **changes},
    )
    loop.go()
    assert not [r for r in log if isinstance(r, Fault)]
    return log


def trials(log: Log) -> list[Trial]:
    """The evaluated proposals of a run, in order."""
    return [r for r in log if isinstance(r, Trial) and r.role == "search"]


def tagged(log: Log, tag: str) -> list[Trial]:
    """The evaluated proposals with this tag, in order."""
    return [t for t in trials(log) if t.draft is not None and t.draft.move.tag == tag]


def proposals(log: Log) -> list[Proposal]:
    return [r for r in log if isinstance(r, Proposal)]


def stop(log: Log) -> Stop:
    return next(r for r in log if isinstance(r, Stop))


def timeless(log: Log) -> list[object]:
    """The log without what depends on the clock."""
    return [replace(r, ms=0.0) if isinstance(r, Decision) else r for r in log]


def trial(number: int, score: float | None, **values: object) -> Trial:
    """A trial of SPACE, the defaults changed by `values`."""
    return Trial(
        id=number,
        draft=None,
        values={**SPACE.defaults(), **values},
        status="crash" if score is None else "ok",
        score=score,
        metrics={},
        seconds=1.0,
        seed=1,
        kept=False,
    )


def view(*past: Trial, **changes: object) -> View:
    """A view of these trials, the best of them the incumbent."""
    best = max((t for t in past if t.score is not None), key=lambda t: t.score)
    given = {"space": SPACE, "trials": past, "incumbent": best, "best": best, "step": len(past) - 1}
    return View(**{**given, "left": 20, **changes})
