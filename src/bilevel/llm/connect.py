"""From what a user writes (`--llm`) to a model that answers."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bilevel.errors import ConfigError
from bilevel.llm.naming import TEMPERATURE
from bilevel.llm.registry import DEFAULT
from bilevel.llm.weights import Progress
from bilevel.protocols import LLM

CUSTOM_KEY = "BILEVEL_API_KEY"


@dataclass(frozen=True)
class Provider:
    """A service or local server. key: the environment variable of its key, "" if it needs none.

    model: what to ask for when none is named. temperature: None leaves it to the service.
    """

    base_url: str
    key: str = ""
    model: str = ""
    temperature: float | None = TEMPERATURE
    token_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"


PROVIDERS: Mapping[str, Provider] = {
    # Its reasoning models refuse a temperature, and `max_tokens` by that name.
    "openai": Provider(
        "https://api.openai.com/v1",
        "OPENAI_API_KEY",
        temperature=None,
        token_limit="max_completion_tokens",
    ),
    "deepseek": Provider("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", "deepseek-chat"),
    "openrouter": Provider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "ollama": Provider("http://localhost:11434/v1"),
    "vllm": Provider("http://localhost:8000/v1"),
    "llamacpp": Provider("http://localhost:8080/v1", model="default"),
}


def connect(
    spec: str = "embedded",
    *,
    base_url: str | None = None,
    temperature: float | None = None,
    timeout: float | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    environ: Mapping[str, str] = os.environ,
) -> LLM:
    """The model that `spec` names; weights are fetched when it is an embedded one.

    spec: `embedded`, `embedded:MODEL` or `embedded:FILE.gguf`; `PROVIDER/MODEL`; `MODEL@URL`, or
    with `base_url` the model's name as that server knows it. temperature, timeout, threads: None
    for the usual ones. progress: told of the fetch. Keys come from the environment alone.
    Raises ConfigError (unknown spec, missing key), MissingExtra, WeightsError.
    """
    at = spec.find("@http")
    if base_url is None and at > 0:
        spec, base_url = spec[:at], spec[at + 1 :]
    kind, _, embedded = spec.partition(":")
    if base_url is None and kind == "embedded":
        from bilevel.llm.embedded import EmbeddedLLM

        return EmbeddedLLM(
            embedded or DEFAULT,
            threads=threads,
            temperature=TEMPERATURE if temperature is None else temperature,
            timeout=900.0 if timeout is None else timeout,
            progress=progress,
        )
    provider, model = _parse(spec) if base_url is None else (Provider(base_url), spec)
    return _http(provider, model, temperature, timeout, environ)


def _parse(spec: str) -> tuple[Provider, str]:
    name, _, model = spec.partition("/")
    provider = PROVIDERS.get(name)
    if provider is None:
        near = difflib.get_close_matches(name, ["embedded", *PROVIDERS], n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(
            f"there is no LLM {spec!r}; {hint}give embedded, embedded:MODEL, PROVIDER/MODEL "
            f"with one of {', '.join(PROVIDERS)}, or MODEL@URL"
        )
    if not (model or provider.model):
        raise ConfigError(f"{name} serves many models; say which, as in {name}/MODEL")
    return provider, model or provider.model


def _http(
    provider: Provider,
    model: str,
    temperature: float | None,
    timeout: float | None,
    environ: Mapping[str, str],
) -> LLM:
    from bilevel.llm.http import HttpLLM

    key = environ.get(provider.key or CUSTOM_KEY)
    if provider.key and not key:
        raise ConfigError(
            f"{provider.base_url} needs a key, and {provider.key} is not set; set it "
            f"(export {provider.key}=...), or use --llm embedded, which needs none"
        )
    return HttpLLM(
        provider.base_url,
        model,
        key or None,
        key_from=provider.key or CUSTOM_KEY,
        timeout=180.0 if timeout is None else timeout,
        temperature=provider.temperature if temperature is None else temperature,
        token_limit=provider.token_limit,
    )
