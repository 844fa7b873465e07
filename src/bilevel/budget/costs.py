"""What a run cost, by level and purpose, and against its limits and what was expected of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bilevel.budget.budget import Bill, Budget, bill, in_force, limits_of, price_list
from bilevel.model import Call, Estimate, Prices, Record, Run, Trial


@dataclass(frozen=True)
class Row:
    """Calls of one level for one purpose; seconds are wall-clock.

    computed: tokens of a call's prompt that no cache had, median; None where no call was counted.
    usd: None where a price is not known. uncounted: calls whose tokens no server told: they are
    the most that the texts can have.
    """

    level: str
    purpose: str
    calls: int
    tokens_in: int
    tokens_cached: int
    computed: float | None
    tokens_out: int
    seconds: float
    usd: float | None
    uncounted: int


@dataclass(frozen=True)
class Jobs:
    """Evaluations of one role: baseline, search or confirm; seconds of wall-clock time."""

    role: str
    count: int
    seconds: float


@dataclass(frozen=True)
class Left:
    """A limit of the run, what is spent of it, and what is left; None where not known."""

    limit: str
    amount: float
    spent: float | None
    left: float | None


@dataclass(frozen=True)
class Expected:
    """A figure that was estimated before the run (None: not known then), and what it took."""

    what: str
    unit: str
    least: float | None
    most: float | None
    took: float | None


@dataclass(frozen=True)
class Costs:
    """All that a run cost so far. lost: calls that a kill or an error left without a reply.

    lost_tokens: the most that they can have taken, which counts against limits.
    """

    rows: tuple[Row, ...]
    total: Row
    jobs: tuple[Jobs, ...]
    lost: int
    lost_tokens: int
    prices: tuple[Prices, ...]
    limits: tuple[Left, ...]
    expected: tuple[Expected, ...]


def costs(run: Run, records: Sequence[Record], wall: float | None = None) -> Costs:
    """What the run cost. wall: seconds that it took, None where only a store could tell."""
    run = in_force(run, records)
    prices = price_list(run, records)
    calls = [r for r in records if isinstance(r, Call)]
    billed = [(call, bill(call, prices, run.llm)) for call in calls]
    by_place: dict[tuple[str, str], list[Bill]] = {}
    for call, found in billed:
        by_place.setdefault((call.level, _purpose(call)), []).append(found)
    total = _row("all", "", [b for _, b in billed])
    jobs = _jobs(r for r in records if isinstance(r, Trial))
    spent = Budget(run, records).spent()
    return Costs(
        rows=tuple(_row(*place, by_place[place]) for place in sorted(by_place)),
        total=total,
        jobs=jobs,
        lost=spent.calls - total.calls,
        lost_tokens=spent.tokens - total.tokens_in - total.tokens_out,
        prices=tuple(prices.values()),
        limits=tuple(_limits(run, records, wall)),
        expected=tuple(_expected(records, total, jobs)),
    )


def _purpose(call: Call) -> str:
    """What the call was for, without the number of the source that it asked for."""
    return call.purpose.partition(" ")[0] if call.level == "2" else call.purpose


def _row(level: str, purpose: str, bills: Sequence[Bill]) -> Row:
    known = [b.usd for b in bills if b.usd is not None]
    computed = [b.tokens_in - b.tokens_cached for b in bills if b.counted]
    return Row(
        level=level,
        purpose=purpose,
        calls=len(bills),
        tokens_in=sum(b.tokens_in for b in bills),
        tokens_cached=sum(b.tokens_cached for b in bills),
        computed=statistics.median(computed) if computed else None,
        tokens_out=sum(b.tokens_out for b in bills),
        seconds=math.fsum(b.seconds for b in bills),
        usd=math.fsum(known) if len(known) == len(bills) else None,
        uncounted=sum(not b.counted for b in bills),
    )


def _jobs(trials: Iterable[Trial]) -> tuple[Jobs, ...]:
    by_role: dict[str, list[float]] = {}
    for trial in trials:
        by_role.setdefault(trial.role, []).append(trial.seconds)
    return tuple(Jobs(role, len(took), math.fsum(took)) for role, took in by_role.items())


def _limits(run: Run, records: Sequence[Record], wall: float | None) -> Iterable[Left]:
    budget = Budget(run, records)
    done = sum(isinstance(r, Trial) and r.role == "search" for r in records)
    for limit, amount in limits_of(run).items():
        level, _, kind = limit.rpartition(":")
        spent = budget.spent(level)
        used = {
            "usd": spent.usd,
            "tokens": float(spent.tokens),
            "calls": float(spent.calls),
            "wall": wall,
            "evals": float(done),
        }[kind]
        yield Left(limit, amount, used, None if used is None else amount - used)


def _expected(records: Sequence[Record], total: Row, jobs: Sequence[Jobs]) -> Iterable[Expected]:
    """Each figure of the estimate with which the run began, beside what came of it."""
    found = next((r for r in records if isinstance(r, Estimate)), None)
    if found is None:
        return
    shares, tokens = found.levels, total.tokens_in + total.tokens_out
    both = [(s.tokens_in[0] + s.tokens_out[0], s.tokens_in[1] + s.tokens_out[1]) for s in shares]
    yield _figure("calls", "", [s.calls for s in shares], total.calls)
    yield _figure("tokens", "", both, tokens)
    yield _figure("money", "USD", [s.usd for s in shares], total.usd)
    yield _figure("LLM", "s", [s.seconds for s in shares], total.seconds)
    each = found.job_seconds
    span = None if each is None else (each * found.jobs[0], each * found.jobs[1])
    yield _figure("evaluations", "s", [span], math.fsum(j.seconds for j in jobs))


def _figure(
    what: str, unit: str, spans: Sequence[tuple[float, float] | None], took: float | None
) -> Expected:
    """The sum of spans (least, most), not known where one of them is not."""
    known = [s for s in spans if s is not None]
    if len(known) < len(spans):
        return Expected(what, unit, None, None, took)
    least, most = math.fsum(s[0] for s in known), math.fsum(s[1] for s in known)
    return Expected(what, unit, least, most, took)


__all__ = ["Costs", "Expected", "Jobs", "Left", "Row", "costs"]
