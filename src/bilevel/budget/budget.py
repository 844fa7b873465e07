"""The limits of a run and what it has spent of them, as a fold of its log.

A call starts only where the most that it can take still fits, beside all that is spent and under
way; so does an attempt after one that may have been paid for in vain, which counts for ever. So no
limit of tokens, money or calls is crossed, however a run is killed and resumed, by a model that
writes no more than it may. A coding agent can cross one by a call, as it adds prompts of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from threading import Lock
from typing import Any, Literal

from bilevel.budget.words import amount_text, limit_text
from bilevel.errors import OverBudget
from bilevel.model import (
    TOO_LONG,
    Ask,
    Call,
    Denial,
    Message,
    Opening,
    Prices,
    Rate,
    Record,
    Run,
    Trial,
)

Level = Literal["1", "1.5", "2"]
Besides = Literal["", "again", "more"]  # of a call under way: try it again for nothing, ask more
# The most tokens that a text can have, until the run has seen more: one for 2 ASCII characters, and
# one for each byte of any other. Digit by digit, as some tokenizers write numbers, is 0.42 in runs.
TOKENS_A_CHARACTER = 0.5
MESSAGE_TOKENS = 16  # that a chat template puts around a message, at most


@dataclass(frozen=True)
class Bill:
    """What one call took. counted: whether the server told its tokens; if not, the most it can be.

    usd: None where the price is not known.
    """

    level: str
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    seconds: float
    usd: float | None
    counted: bool = True


@dataclass(frozen=True)
class Spent:
    """Calls, tokens (read and written, cached ones too) and US dollars, None where not known."""

    calls: int
    tokens: int
    usd: float | None


def in_force(run: Run, records: Iterable[Record]) -> Run:
    """The run with the limits that hold at the end of these records."""
    opened = [r for r in records if isinstance(r, Opening)]
    return limited(run, opened[-1].limits) if opened else run


def limited(run: Run, limits: Mapping[str, float]) -> Run:
    """The run with these limits, whose evaluations and time stand in fields of their own."""
    rest = {k: v for k, v in limits.items() if k not in ("evals", "wall")}
    evals = int(limits.get("evals", run.evals))
    return replace(run, limits=rest, evals=evals, wall=limits.get("wall"))


def limits_of(run: Run) -> dict[str, float]:
    """All limits of a run by name, its evaluations and its time among them."""
    wall = {} if run.wall is None else {"wall": run.wall}
    return {**run.limits, **wall, "evals": float(run.evals)}


def price_list(run: Run, records: Iterable[Record]) -> dict[str, Prices]:
    """By model, what it costs; the last word counts. A run of before has none on record."""
    return {r.model: r for r in records if isinstance(r, Prices)}


def cost(prices: Prices | None, tokens_in: int, tokens_out: int, cached: int = 0) -> float | None:
    """US dollars for one request, None where the price is not known."""
    if prices is None or prices.kind == "unknown":
        return None
    if prices.kind == "local":
        return 0.0
    rate = _rate(prices.rates, tokens_in)
    fresh = max(0, tokens_in - cached)
    read = fresh * rate.input + min(cached, tokens_in) * rate.cached
    return (read + tokens_out * rate.output) / 1e6


def _rate(rates: Sequence[Rate], tokens_in: int) -> Rate:
    return [rate for rate in rates if rate.above == 0 or tokens_in > rate.above][-1]


def weight(messages: Sequence[Message], schema: str) -> int:
    """Length of a request in characters, a byte that is not ASCII counted as two."""
    texts = [*(m.content for m in messages), schema]
    return sum(len(t) + 2 * (len(t.encode("utf-8", "replace")) - len(t)) for t in texts)


def bill(call: Call, prices: Mapping[str, Prices], llm: str) -> Bill:
    """What a call took. llm: the run's model, for calls that do not name theirs."""
    reply = call.reply
    told = reply.counted and bool(reply.tokens_in or reply.tokens_out)
    told |= reply.finish == TOO_LONG  # refused unread, for nothing, unless it says otherwise
    read, written = reply.tokens_in, reply.tokens_out
    if not told:
        read = _most(call.messages, call.schema, TOKENS_A_CHARACTER)
        written = math.ceil(TOKENS_A_CHARACTER * weight((), reply.text + reply.reasoning))
    usd = cost(prices.get(call.model or llm), read, written, reply.tokens_cached)
    if reply.cost is not None:
        usd = reply.cost
    if reply.taken:
        usd = 0.0  # paid for by the run whose tape gave it
    return Bill(call.level, read, written, reply.tokens_cached, reply.seconds, usd, told)


class Budget:
    """What is left of a run's limits; changed by `add` only, in the log's order.

    clock: seconds of wall-clock time that the run has taken, its earlier parts counted in. Records
    may come from several threads.
    """

    def __init__(
        self, run: Run, records: Iterable[Record] = (), clock: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.run = run
        self._clock = clock
        self._prices: dict[str, Prices] = {}
        self._calls: list[Call] = []
        self._open: dict[str, list[Ask]] = {}
        self._lost: list[Ask] = []
        self._ratio = TOKENS_A_CHARACTER
        self._excess = 0  # tokens written over max_tokens
        self._longest: dict[str, float] = {}  # seconds, by level, and of a job
        self._lock = Lock()
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        """Take in one record; kinds that spend nothing are passed over."""
        with self._lock:
            self._add(record)

    def _add(self, record: Record) -> None:
        if isinstance(record, Prices):
            self._prices[record.model] = record
        elif isinstance(record, Opening):
            self.run = limited(self.run, record.limits)
        elif isinstance(record, Ask):
            if not record.more:  # If it is asked again, no reply came to what was asked before.
                self._lost += self._open.pop(record.key, [])
            self._open.setdefault(record.key, []).append(record)
        elif isinstance(record, Call):
            self._add_call(record)
        elif isinstance(record, Trial):
            self._longest["job"] = max(record.seconds, self._longest.get("job", 0.0))

    def _add_call(self, call: Call) -> None:
        more = [ask for ask in self._open.pop(call.key, []) if ask.more]
        self._lost += more[max(0, call.reply.attempts - 1) if call.reply.counted else 0 :]
        self._calls.append(call)
        self._longest[call.level] = max(call.reply.seconds, self._longest.get(call.level, 0.0))
        around = MESSAGE_TOKENS * len(call.messages)
        read = (call.reply.tokens_in - around) / max(1, weight(call.messages, call.schema))
        self._ratio = max(self._ratio, read)
        self._excess = max(self._excess, call.reply.tokens_out - call.max_tokens)

    def spent(self, level: str = "") -> Spent:
        """What a level, or the whole run, has spent, with what is under way at its most."""
        with self._lock:
            calls = [c for c in self._calls if level in ("", c.level)]
            asks = [a for a in chain(*self._open.values(), self._lost) if level in ("", a.level)]
        bills = [bill(c, self._prices, self.run.llm) for c in calls]
        costs = [*(b.usd for b in bills), *(a.usd for a in asks)]
        known = [c for c in costs if c is not None]
        return Spent(
            calls=len(bills) + sum(not a.more for a in asks),
            tokens=sum(b.tokens_in + b.tokens_out for b in bills) + sum(a.tokens for a in asks),
            usd=math.fsum(known) if len(known) == len(costs) else None,
        )

    def ask(
        self,
        key: str,
        step: int,
        level: Level,
        purpose: str,
        messages: Sequence[Message],
        schema: str,
        max_tokens: int,
        room: int = 0,
        besides: Besides = "",
    ) -> Ask | Denial | None:
        """What to log before a call: an Ask if it may be made, else a Denial; None without limits.

        room: tokens for thoughts beyond max_tokens. besides: time alone forbids `again`; `more` is
        no further call. Log the answer before the next is asked for, so that all under way counts.
        """
        read = _most(messages, schema, self._ratio)
        written = max_tokens + max(room, self._excess)
        usd = self._dearest(read, written)
        asked = Ask(key, step, level, read + written, usd, besides == "more")
        for limit, most in limits_of(self.run).items():
            if besides == "again" and limit != "wall":
                continue
            why, needs = self._crossed(limit, most, asked)
            if why:
                return Denial(key, step, level, purpose, limit, most, why, needs)
        return asked if self.run.limits else None

    def _dearest(self, read: int, written: int) -> float | None:
        """By whichever of the run's models is asked, as that may depend on what it does."""
        costs = [cost(prices, read, written) for prices in self._prices.values()]
        known = [c for c in costs if c is not None]
        return max(known) if known and len(known) == len(costs) else None

    def _crossed(self, limit: str, most: float, asked: Ask) -> tuple[str, float | None]:
        """Why the call could cross a limit, "" if it cannot; and the limit that it needs."""
        level, _, kind = limit.rpartition(":")
        if kind == "wall":
            return self.late(asked.level), None
        if kind == "evals" or level not in ("", asked.level):
            return "", None
        spent = self.spent(level)
        used, next_ = {
            "calls": (float(spent.calls), 0.0 if asked.more else 1.0),
            "tokens": (float(spent.tokens), float(asked.tokens)),
            "usd": (spent.usd, asked.usd),
        }[kind]
        if used is None or next_ is None:
            return f"{limit_text(limit, most)} holds, and what a call costs is not known", None
        if used + next_ <= most:
            return "", used + next_
        said = f"{amount_text(kind, used)} spent, and the next call takes up to"
        return f"{limit_text(limit, most)}: {said} {amount_text(kind, next_)}", used + next_

    def late(self, *parts: str) -> str:
        """Why these parts (`job`, or a level's call) may not begin now, "" while they may.

        Each is taken to last as long as the longest of its kind so far.
        """
        wall, gone = self.run.wall, self._clock()
        longest = sum(self._longest.get(part, 0.0) for part in parts)
        if wall is None or (gone < wall and gone + longest <= wall):
            return ""
        rest = f", and what comes next has taken up to {amount_text('wall', longest)}"
        said = f"{amount_text('wall', gone)} have passed{rest if gone < wall else ''}"
        return f"{limit_text('wall', wall)}: {said}"

    def left(self) -> float:
        """Seconds until the run's time is up, negative after that, infinite without a limit."""
        return math.inf if self.run.wall is None else self.run.wall - self._clock()

    def longest(self) -> float:
        """Seconds of a step in which a job and a call of each level take as long as ever."""
        return sum(self._longest.values())

    def expired(self) -> str:
        """Why no further step may begin: its proposal and its evaluation no longer fit."""
        return self.late("1", "job")


def silent(run: Run, records: Iterable[Record], level: str) -> bool:
    """Whether a limit that is still in force has kept this level from a call."""
    limits = limits_of(run)
    return any(
        isinstance(r, Denial) and r.level == level and limits.get(r.limit) == r.amount
        for r in records
    )


def denied(denial: Denial) -> OverBudget:
    """The error that a call meets which was not made."""
    return OverBudget(denial.limit, denial.why)


def _most(messages: Sequence[Message], schema: str, ratio: float) -> int:
    """The most tokens that a request can have."""
    return math.ceil(ratio * weight(messages, schema)) + MESSAGE_TOKENS * (len(messages) + 1)


def schema_text(schema: Mapping[str, Any] | None) -> str:
    """A request's schema as text, as it counts among what the model reads."""
    return "" if schema is None else json.dumps(schema)
