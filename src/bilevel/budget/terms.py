"""The limits and prices on which a run begins and goes on, put on record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bilevel.budget import prices
from bilevel.budget.budget import in_force, limited, limits_of, price_list
from bilevel.budget.openings import clock, opening
from bilevel.ensemble import models
from bilevel.model import Opening, Prices, Rate, Record, Run
from bilevel.store.sqlite import SqliteStore

__all__ = ["Terms", "agreed", "clock", "opened", "put", "under"]


@dataclass(frozen=True)
class Terms:
    """What the user says of money and limits.

    limits: by name as in `--budget`; the others stay. prices: by model, "" for all others.
    """

    limits: Mapping[str, float] = field(default_factory=dict)
    prices: Mapping[str, Rate] = field(default_factory=dict)


def under(run: Run, records: Sequence[Record], terms: Terms) -> Run:
    """The run with the limits that its log left, and on top of them these."""
    now = in_force(run, records)
    return limited(now, {**limits_of(now), **terms.limits})


def agreed(run: Run, terms: Terms) -> tuple[Prices, ...]:
    """The prices of a run that begins. Raises ConfigError where a limit needs one not known."""
    found = prices.of_models(run, terms.prices, prices.today())
    prices.require_known(run.limits, found)
    return found


def put(store: SqliteStore, run: Run, terms: Terms) -> None:
    """Put a new run into the store, and its prices into its log. Raises ConfigError as `agreed`."""
    found = agreed(run, terms)
    store.create(run)
    for price in found:
        store.append(run.id, price)


def opened(store: SqliteStore, run: Run, terms: Terms, sandbox: str) -> tuple[Run, Opening]:
    """The run with the limits in force from here on, which its log now says.

    sandbox: how well its generated code is held from here on.
    Raises ConfigError as `agreed`, and then nothing is logged.
    """
    events = list(store.events(run.id))
    records = [record for *_, record in events]
    now = under(run, records, terms)
    known = price_list(now, records)
    missing = [m for m in models(now) if m not in known]
    if terms.prices or missing:
        found = {p.model: p for p in prices.of_models(now, terms.prices, prices.today())}
        said = [m for m in found if m in terms.prices or "" in terms.prices]
        changed = {m: found[m] for m in dict.fromkeys([*missing, *said])}
    else:
        changed = {}
    prices.require_known(now.limits, {**known, **changed}.values())
    for price in changed.values():
        store.append(run.id, price)
    begun = opening(now, events, sandbox)
    store.append(run.id, begun)
    return now, begun
