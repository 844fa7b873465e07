"""From what a user writes (`--llm`) to a model that answers."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from bilevel.errors import ConfigError
from bilevel.llm import keys, options
from bilevel.llm.limits import Limiter
from bilevel.llm.memory import Memory, default_path
from bilevel.llm.naming import TEMPERATURE
from bilevel.llm.options import Options
from bilevel.llm.others import NAMES, other
from bilevel.llm.providers import PROVIDERS, Provider
from bilevel.llm.registry import DEFAULT
from bilevel.llm.weights import Progress
from bilevel.protocols import LLM

CUSTOM_KEY = "BILEVEL_API_KEY"


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
    with `base_url` the model's name as that server knows it; for those on servers with options, as
    `PROVIDER/MODEL?rpm=60`; or what `others.py` knows. temperature, timeout, threads: None for the
    usual ones. progress: told of the fetch. Keys come from the environment or the keyring;
    PROVIDER_BASE_URL in the environment gives another address.
    Raises ConfigError (unknown spec, missing key), MissingExtra, WeightsError.
    """
    if base_url is None and (found := other(spec, timeout)) is not None:
        return found
    if base_url is None and re.match(r"embedded([:/]|$)", spec):
        from bilevel.llm.embedded import EmbeddedLLM

        return EmbeddedLLM(
            spec[len("embedded") + 1 :] or DEFAULT,
            threads=threads,
            temperature=TEMPERATURE if temperature is None else temperature,
            timeout=900.0 if timeout is None else timeout,
            progress=progress,
        )
    spec, chosen = options.split(spec, environ)
    if temperature is not None:
        chosen = chosen.model_copy(update={"temperature": temperature})
    if timeout is not None:
        chosen = chosen.model_copy(update={"timeout": timeout})
    at = spec.find("@http")
    if base_url is None and at > 0:
        spec, base_url = spec[:at], spec[at + 1 :]
    if base_url is not None:
        return _server(Provider(base_url), spec, chosen, environ)
    provider, model = _parse(spec, environ)
    return _server(provider, model, chosen, environ)


def _parse(spec: str, environ: Mapping[str, str]) -> tuple[Provider, str]:
    name, _, model = spec.partition("/")
    provider = PROVIDERS.get(name)
    if provider is None:
        near = difflib.get_close_matches(name, ["embedded", *PROVIDERS, *NAMES], n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(
            f"there is no LLM {spec!r}; {hint}give embedded, embedded:MODEL, PROVIDER/MODEL "
            f"with one of {', '.join(PROVIDERS)}, MODEL@URL, or one of {', '.join(NAMES)}"
        )
    if not (model or provider.model):
        raise ConfigError(f"{name} serves many models; say which, as in {name}/MODEL")
    elsewhere = environ.get(f"{name.upper()}_BASE_URL")
    if elsewhere:
        provider = replace(provider, base_url=elsewhere)
    return provider, model or provider.model


def _server(provider: Provider, model: str, chosen: Options, environ: Mapping[str, str]) -> LLM:
    names = provider.keys or (CUSTOM_KEY,)
    key = keys.find(names, environ)
    if provider.keys and key is None:
        host = urlsplit(provider.base_url).hostname
        raise ConfigError(
            f"{host} needs a key, and {' or '.join(names)} is not set; set it "
            f"({keys.how_to_set(names)}), or use --llm embedded, which needs none"
        )
    from bilevel.llm.remote import Common

    common = Common(
        key_from=f"{key.name} (in the {key.where})" if key else names[0],
        timeout=provider.timeout if chosen.timeout is None else chosen.timeout,
        temperature=provider.temperature if chosen.temperature is None else chosen.temperature,
        forms=provider.forms,
        room=provider.room if chosen.thoughts is None else chosen.thoughts,
        memory=Memory(default_path()),
        limiter=Limiter(chosen.rates),
    )
    value = key.value if key else None
    if provider.api == "anthropic":
        from bilevel.llm.anthropic import AnthropicLLM

        return AnthropicLLM(provider.base_url, model, value, **common)
    from bilevel.llm.http import HttpLLM

    return HttpLLM(
        provider.base_url,
        model,
        value,
        token_limit=provider.token_limit,
        without=provider.without,
        **common,
    )
