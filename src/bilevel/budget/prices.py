"""What models cost: from the offline table of genai-prices, by the user's word, or nothing here.

The table is looked up once, when a run begins; the run keeps what was found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bilevel.budget.words import usd_text
from bilevel.ensemble import models
from bilevel.errors import ConfigError
from bilevel.model import Prices, Rate, Run

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

# Where a model runs that nobody is paid for, by the first word of its spec.
LOCAL = {
    "embedded": "it runs here",
    "ollama": "it runs on your machine",
    "vllm": "it runs on your machine",
    "llamacpp": "it runs on your machine",
    "lmstudio": "it runs on your machine",
    "none": "no model is asked",
    "habits": "no model is asked",
    "mailbox": "whoever answers is no priced model",
    "terminal": "you answer yourself",
    "mcp": "whoever answers is no priced model",
}
LOOPBACK = ("localhost", "127.0.0.1", "::1")
DEFAULTS = {"deepseek": "deepseek-chat"}  # what a provider's own name alone asks for
GIVE = "--price in=0.5,out=1.5 (US dollars per million tokens; cached= too, if it differs)"

__all__ = ["GIVE", "given", "kind_of", "of_models", "parse", "prices_text", "require_known"]


def of_models(run: Run, words: Mapping[str, Rate], today: datetime) -> tuple[Prices, ...]:
    """What each of a run's models costs. words: what the user gave, by model, "" for all others."""
    return tuple(_of(model, words, today) for model in models(run))


def _of(model: str, words: Mapping[str, Rate], today: datetime) -> Prices:
    rate = words.get(model, words.get(""))
    return look_up(model, today) if rate is None else given(model, rate)


def given(model: str, rate: Rate) -> Prices:
    """A price by the user's word."""
    return Prices(model, "given", (rate,), "given by --price")


def look_up(model: str, today: datetime) -> Prices:
    """What a model costs, by its spec as `--llm` takes it; the table is for remote ones."""
    provider, _, name = model.partition("?")[0].partition("/")
    kind = kind_of(model)
    at = model.find("@http")
    if at > 0:
        host = urlsplit(model[at + 1 :]).hostname or ""
        if host in LOOPBACK:
            return Prices(model, "local", (), "its server runs on this machine")
        return _in_table(model, model[:at], None, model[at + 1 :], today)
    if kind in LOCAL:
        return Prices(model, "local", (), LOCAL[kind])
    return _in_table(model, name or DEFAULTS.get(provider, ""), provider, None, today)


def kind_of(model: str) -> str:
    """The first word of a model's spec: `llamacpp` of `llamacpp?timeout=300`."""
    return re.split(r"[:/?]", model)[0]


def _in_table(
    model: str, name: str, provider: str | None, url: str | None, today: datetime
) -> Prices:
    from genai_prices.data_snapshot import get_snapshot

    table = f"genai-prices {version('genai-prices')}"
    try:
        owner, found = get_snapshot().find_provider_model(name, None, provider, url)
    except LookupError:
        return Prices(model, "unknown", (), f"{table} does not know it")
    # Of prices that change with the hour the dearest counts.
    hours = [today.replace(hour=0, minute=30) + timedelta(hours=h) for h in range(24)]
    rates = [_rates(found.get_prices(hour)) for hour in hours]
    if not all(rates):
        return Prices(model, "unknown", (), f"{table} has no price of {owner.id}/{found.id}")
    source = f"{table}, {owner.id}/{found.id}, {today.date().isoformat()}"
    return Prices(model, "table", max(rates, key=lambda r: (r[0].output, r[0].input)), source)


def _rates(price: ModelPrice) -> tuple[Rate, ...]:
    """Prices by length of the prompt; none where reading or writing has no price."""
    starts = {0}
    for unit in (price.input_mtok, price.output_mtok, price.cache_read_mtok):
        starts.update(tier.start for tier in getattr(unit, "tiers", ()))
    rates = []
    for start in sorted(starts):
        read, written = _at(price.input_mtok, start), _at(price.output_mtok, start)
        if read is None or written is None:
            return ()
        cached = _at(price.cache_read_mtok, start)
        rates.append(Rate(read, written, read if cached is None else cached, start))
    return tuple(rates)


def _at(unit: object, start: int) -> float | None:
    """US dollars per million tokens of a prompt that is just longer than `start`."""
    if unit is None:
        return None
    tiers = [tier for tier in getattr(unit, "tiers", ()) if tier.start <= start]
    dearest = max(tiers, key=lambda tier: tier.start, default=None)
    return float(getattr(unit, "base", unit) if dearest is None else dearest.price)  # type: ignore[arg-type]


def parse(texts: Sequence[str]) -> dict[str, Rate]:
    """By model, "" for all, what the user says it costs: `in=0.5,out=1.5` or `MODEL:in=...`.

    Raises ConfigError.
    """
    rates: dict[str, Rate] = {}
    for text in texts:
        found = re.fullmatch(r"(?:(.+):)?(\w+=[^:]+)", text)
        model, amounts = (found[1] or "", found[2]) if found else ("", text)
        parts = [p.partition("=") for p in amounts.split(",") if p.strip()]
        values = {name.strip(): _dollars(text, value) for name, _, value in parts}
        if not {"in", "out"} <= set(values) <= {"in", "out", "cached"}:
            raise ConfigError(f"--price is {text!r} but must give in and out; write {GIVE}")
        cached = values.get("cached", values["in"])
        rates[model] = Rate(values["in"], values["out"], cached)
    return rates


def _dollars(text: str, value: str) -> float:
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", value.strip()):
        raise ConfigError(f"--price is {text!r} but {value!r} is no price; write {GIVE}")
    return float(value)


def require_known(limits: Iterable[str], prices: Iterable[Prices]) -> None:
    """Raises ConfigError when a limit on money stands beside a model whose price is not known."""
    unknown = [p for p in prices if p.kind == "unknown"]
    money = [name for name in limits if name.rpartition(":")[2] == "usd"]
    if money and unknown:
        first = unknown[0]
        raise ConfigError(
            f"the budget limits {money[0]}, and what {first.model} costs is not known "
            f"({first.source}); give its price: {GIVE}; or limit tokens instead"
        )


def prices_text(prices: Prices) -> str:
    """`openai/gpt-5-mini: 0.25 USD in, 2.00 USD out, 0.025 USD cached per million tokens (...)`."""
    if prices.kind == "local":
        return f"{prices.model}: local, costs nothing here ({prices.source})"
    if prices.kind == "unknown":
        return f"{prices.model}: price unknown ({prices.source}); to have it counted: {GIVE}"
    rate = prices.rates[0]
    parts = [(rate.input, "in"), (rate.output, "out"), (rate.cached, "cached")]
    listed = ", ".join(f"{usd_text(amount)} {name}" for amount, name in parts)
    more = ", more for long prompts" if len(prices.rates) > 1 else ""
    return f"{prices.model}: {listed} per million tokens{more} ({prices.source})"


def today() -> datetime:
    """Now, in UTC: the day whose prices a run goes by."""
    return datetime.now(UTC)
