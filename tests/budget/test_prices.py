"""What models cost: from the table, by the user's word, or nothing here; never 0 for unknown."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bilevel.budget.budget import cost
from bilevel.budget.prices import look_up, of_models, parse, prices_text, require_known
from bilevel.errors import ConfigError
from bilevel.model import Prices, Rate
from worlds import RUN

DAY = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "model",
    ["embedded", "embedded:smollm2-135m", "none", "ollama/qwen3", "vllm/x", "terminal",
     "llamacpp?timeout=300", "llamacpp", "ollama/qwen3?rpm=60",
     "mailbox:letters", "m@http://localhost:8000/v1", "m@http://127.0.0.1:1/v1"],
)  # fmt: skip
def test_a_local_model_costs_nothing_and_says_so(model: str) -> None:
    found = look_up(model, DAY)
    assert found.kind == "local"
    assert cost(found, 10**6, 10**6) == 0
    assert "local, costs nothing here" in prices_text(found)


@pytest.mark.parametrize(
    "model",
    ["openai/gpt-5-mini", "openai/gpt-5-mini?thoughts=8192", "deepseek", "deepseek/deepseek-chat",
     "anthropic/claude-sonnet-4-5", "openrouter/anthropic/claude-sonnet-4.5",
     "gpt-5-mini@https://api.openai.com/v1"],
)  # fmt: skip
def test_a_known_model_has_the_price_of_the_table_with_its_version(model: str) -> None:
    found = look_up(model, DAY)
    assert found.kind == "table"
    assert found.source.startswith("genai-prices ")
    assert "2026-11-01" in found.source
    assert all(rate.input > 0 and rate.output > 0 for rate in found.rates)


def test_prices_agree_with_the_table_itself_also_for_long_prompts() -> None:
    from genai_prices import calc_price
    from genai_prices.types import Usage

    found = look_up("anthropic/claude-sonnet-4-5", DAY)
    for read in (1000, 300_000):
        usage = Usage(input_tokens=read, output_tokens=500, cache_read_tokens=400)
        said = calc_price(usage, "claude-sonnet-4-5", provider_id="anthropic")
        assert cost(found, read, 500, 400) == pytest.approx(float(said.total_price))


def test_of_prices_that_change_with_the_hour_the_dearest_counts() -> None:
    hours = [DAY.replace(hour=h) for h in range(24)]
    assert len({look_up("deepseek/deepseek-chat", hour).rates for hour in hours}) == 1
    (rate,) = look_up("deepseek/deepseek-chat", DAY).rates
    assert (rate.input, rate.output, rate.cached) == (0.27, 1.1, 0.07)


@pytest.mark.parametrize(
    "model",
    ["nobody/nothing", "openai/no-such-model", "m@http://gpu.example.org/v1", "claude-code"],
)
def test_an_unknown_price_is_said_and_never_nothing(model: str) -> None:
    found = look_up(model, DAY)
    assert found.kind == "unknown"
    assert cost(found, 1, 1) is None
    assert "--price in=0.5,out=1.5" in prices_text(found)
    require_known(["tokens", "1:tokens"], [found])
    for limit in ("usd", "2:usd"):
        with pytest.raises(ConfigError, match="--price"):
            require_known([limit], [found])


def test_the_user_gives_prices_of_one_model_or_of_all() -> None:
    rates = parse(["in=0.5,out=1.5", "openai/gpt-5-mini:in=1,out=2,cached=.25"])
    assert rates == {"": Rate(0.5, 1.5, 0.5), "openai/gpt-5-mini": Rate(1, 2, 0.25)}
    run = replace(RUN, llm="who/knows", llm_outer="openai/gpt-5-mini")
    assert of_models(run, rates, DAY) == (
        Prices("who/knows", "given", (Rate(0.5, 1.5, 0.5),), "given by --price"),
        Prices("openai/gpt-5-mini", "given", (Rate(1, 2, 0.25),), "given by --price"),
    )
    free = parse(["in=0,out=0"])
    (given,) = of_models(replace(RUN, llm="who/knows"), free, DAY)
    assert cost(given, 10, 10) == 0


@pytest.mark.parametrize(
    "text", ["", "5", "in=1", "out=1", "in=a,out=1", "in=1,out=2,x=3", "in=-1,out=1"]
)
def test_a_wrong_price_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--price is"):
        parse([text])


def test_the_table_is_not_imported_for_local_models() -> None:
    code = (
        "import sys, datetime; from bilevel.budget.prices import look_up; "
        "look_up('embedded', datetime.datetime.now()); "
        "assert not [m for m in sys.modules if m.startswith('genai_prices')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
