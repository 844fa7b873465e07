"""A landscape of which the answer is known, and a log of a few evaluations of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bilevel.model import Objective, Outcome, Param, Record, Run, Space, Trial, Values
from worlds import Instant, Log, build, says

EIGHT = Space(tuple(Param(n, "float", 0.5, low=0.0, high=1.0) for n in "ABCDEFGH"))
PLANTED = Run("p-1", "planted", EIGHT, Objective("loss", "min"), "", seed=5, evals=36)


def planted(values: Values, seed: int) -> Outcome:
    """Only A matters, and the lower the better; all others lose when they leave their default."""
    others = sum((float(values[n]) - 0.5) ** 2 for n in "BCDEFGH")
    loss = float(values["A"]) + 0.3 * others + seed % 7 / 1000
    return Outcome("ok", loss, {"loss": loss})


def turns(messages: object, call: int) -> str:
    """An LLM that turns to each parameter in order; A it lowers further, the others go back."""
    turn, which = divmod(call - 1, 8)
    step = (0.06 + call / 500) * (turn + 1 if which == 0 else (-1) ** turn)
    return says(**{"ABCDEFGH"[which]: round(0.5 - step, 4)})


def sixteen() -> list[Record]:
    """Sixteen evaluations of it, two a parameter: only A gained, twice."""
    log = Log()
    build(log, turns, replace(PLANTED, evals=16, confirms=0), Instant(measure=planted)).go()
    kept = [t.id for t in log if isinstance(t, Trial) and t.role == "search" and t.kept]
    assert kept == [2, 10]
    return list(log[:-1])


def until(records: Sequence[Record], evaluations: int) -> list[Record]:
    """The log up to its n-th evaluation."""
    ends = [i for i, r in enumerate(records) if isinstance(r, Trial) and r.role == "search"]
    return list(records[: ends[evaluations - 1] + 1])
