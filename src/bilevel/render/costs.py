"""Costs and estimates as rich tables and lines: readable at 80 columns and in a file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bilevel.budget.costs import Costs, Expected, Row
from bilevel.budget.prices import prices_text
from bilevel.budget.words import amount_text, limit_text, usd_text
from bilevel.describe import one_line
from bilevel.model import Estimate, Prices, Run, Share
from bilevel.render.levels import BAD, QUIET, clock

UNKNOWN = "unknown"
SPAN = ("least", "most")

__all__ = ["costs_view", "estimate_line", "estimate_view", "expected_text", "money_text"]


def costs_view(run: Run, found: Costs) -> RenderableType:
    """Calls by level and purpose, evaluations by role, limits, and what was expected."""
    parts: list[RenderableType] = [_calls_table(run, found)]
    if found.jobs:
        parts.append(_jobs_table(found))
    parts += [Text(line) for line in _notes(found)]
    if found.limits:
        parts.append(_limits_table(found))
    if found.expected:
        parts.append(Text("expected: ", style=QUIET).append_text(expected_text(found.expected)))
    return Group(*parts)


def _calls_table(run: Run, found: Costs) -> Table:
    table = _table("level", "purpose", "calls", "tokens in", "cached", "new", "out", "time", "USD")
    table.title = f"{run.id}: what its LLM calls took"
    table.title_justify = "left"
    for row in found.rows:
        table.add_row(*_cells(row))
    table.add_section()
    table.add_row(*_cells(found.total), style="bold")
    return table


def _cells(row: Row) -> tuple[str, ...]:
    usd = UNKNOWN if row.usd is None else usd_text(row.usd).removesuffix(" USD")
    return (
        row.level,
        one_line(row.purpose),
        f"{row.calls:,}",
        f"{row.tokens_in:,}",
        f"{row.tokens_cached:,}",
        "-" if row.computed is None else f"{row.computed:,.0f}",
        f"{row.tokens_out:,}",
        clock(row.seconds),
        usd,
    )


def _jobs_table(found: Costs) -> Table:
    table = _table("evaluations", "", "count", "time")
    for jobs in found.jobs:
        table.add_row(jobs.role, "", f"{jobs.count:,}", clock(jobs.seconds))
    table.add_section()
    count, seconds = sum(j.count for j in found.jobs), math.fsum(j.seconds for j in found.jobs)
    table.add_row("all", "", f"{count:,}", clock(seconds), style="bold")
    return table


def _notes(found: Costs) -> Iterable[str]:
    if found.total.computed is not None:
        yield "new: tokens of a call's prompt that no cache had, median"
    yield from (prices_text(prices) for prices in found.prices)
    if found.rows and not found.prices:
        yield "no prices are on record: an earlier version of bilevel began this run"
    if found.total.uncounted:
        yield (
            f"{found.total.uncounted} calls came without a count of tokens: theirs are the most "
            "that the texts can have"
        )
    if found.lost:
        yield (
            f"{found.lost} more calls were begun and never answered; against limits they count "
            f"with up to {found.lost_tokens:,} tokens"
        )


def _limits_table(found: Costs) -> Table:
    table = _table("limit", "", "spent", "left")
    for left in found.limits:
        kind = left.limit.rpartition(":")[2]
        known = [UNKNOWN if v is None else amount_text(kind, v) for v in (left.spent, left.left)]
        table.add_row(limit_text(left.limit, left.amount), "", *known)
    return table


def expected_text(expected: Sequence[Expected]) -> Text:
    """`calls 30 to 66, took 41; tokens ...`; what lies outside of its span stands out."""
    text = Text()
    for found in expected:
        if found.most is None and found.took is None:
            continue
        text.append("; " if text else "").append(f"{found.what} ")
        text.append(_span(found) + ", took ")
        outside = None not in (found.least, found.took) and not (
            (found.least or 0) <= (found.took or 0) <= (found.most or 0)
        )
        took = UNKNOWN if found.took is None else _amount(found.took, found.unit)
        text.append(took, style=BAD if outside else "")
    return text


def _span(found: Expected) -> str:
    if found.least is None or found.most is None:
        return UNKNOWN
    return _range(found.least, found.most, found.unit)


def _range(least: float, most: float, unit: str) -> str:
    low, high = _amount(least, unit), _amount(most, unit)
    return low if low == high else f"{low} to {high}"


def _amount(value: float, unit: str) -> str:
    if unit == "s":
        return clock(value)
    return usd_text(value) if unit == "USD" else f"{value:,.0f}"


def money_text(usd: float | None, prices: Sequence[Prices]) -> str:
    """What a run's calls cost: `0.42 USD`, `price unknown`, or that its models are local."""
    if usd is None:
        return "price unknown"
    local = prices and all(p.kind == "local" for p in prices)
    return "local, no cost" if local and not usd else usd_text(usd)


def estimate_view(run: Run, found: Estimate) -> RenderableType:
    """What a run will take at least and at most: by level, its evaluations, the sum, and why."""
    table = _table("", "", "calls", "tokens in", "out", "time", "USD")
    table.title = f"{run.task}, {run.evals} evaluations, LLM {one_line(run.llm)}"
    table.title_justify = "left"
    for share in found.levels:
        for i, name in enumerate(SPAN):
            table.add_row(f"Level {share.level}" if i == 0 else "", name, *_share_cells(share, i))
    for i, name in enumerate(SPAN):
        took = _cell(None if found.job_seconds is None else _job_span(found), i, "s")
        table.add_row("evaluations" if i == 0 else "", name, f"{found.jobs[i]:,}", "", "", took, "")
    table.add_section()
    for i, name in enumerate(SPAN):
        whole, usd = _cell(_hours(found), i, "s"), _cell(_total_usd(found), i, "USD")
        table.add_row("in all" if i == 0 else "", name, "", "", "", whole, usd, style="bold")
    return Group(table, *(Text(line, style=QUIET) for line in found.basis))


def _share_cells(share: Share, i: int) -> tuple[str, ...]:
    return (
        f"{share.calls[i]:,}",
        f"{share.tokens_in[i]:,}",
        f"{share.tokens_out[i]:,}",
        _cell(share.seconds, i, "s"),
        _cell(share.usd, i, "USD"),
    )


def _cell(span: tuple[float, float] | None, i: int, unit: str) -> str:
    """The least or the most of a span, its unit in the head of the column where it is money."""
    return UNKNOWN if span is None else _amount(span[i], unit).removesuffix(" USD")


def _job_span(found: Estimate) -> tuple[float, float]:
    each = (found.job_seconds or 0.0) / found.slots
    return each * found.jobs[0], each * found.jobs[1]


def _hours(found: Estimate) -> tuple[float, float] | None:
    """Seconds of the whole run; None where a part is not known."""
    if found.job_seconds is None or any(s.seconds is None for s in found.levels):
        return None
    spans = [s.seconds or (0.0, 0.0) for s in found.levels]
    least, most = _job_span(found)
    return least + math.fsum(s[0] for s in spans), most + math.fsum(s[1] for s in spans)


def _total_usd(found: Estimate) -> tuple[float, float] | None:
    if any(s.usd is None for s in found.levels):
        return None
    spans = [s.usd or (0.0, 0.0) for s in found.levels]
    return math.fsum(s[0] for s in spans), math.fsum(s[1] for s in spans)


def estimate_line(found: Estimate) -> str:
    """The estimate in a line, for the beginning of a run."""
    least, most = (
        (
            sum(s.calls[i] for s in found.levels),
            sum(s.tokens_in[i] + s.tokens_out[i] for s in found.levels),
        )
        for i in (0, 1)
    )
    hours = _hours(found)
    parts = [f"{_range(*found.jobs, '')} evaluations"]
    if found.levels:
        parts.append(f"{_range(least[0], most[0], '')} LLM calls")
        parts.append(f"{_range(least[1], most[1], '')} tokens")
        usd = _total_usd(found)
        parts += [_range(*usd, "USD")] if usd is not None and usd[1] else []
    time = "in a time not known yet" if hours is None else f"in {_range(*hours, 's')}"
    return f"expected: {', '.join(parts)}, {time}"


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for number, name in enumerate(columns):
        left = number == 0 or name in ("purpose", "")
        table.add_column(name, justify="left" if left else "right", no_wrap=True)
    return table
