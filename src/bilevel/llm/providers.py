"""Services and local servers that are known by name: where they are and what they take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bilevel.llm.forms import FORMS, USUAL, Form
from bilevel.llm.naming import TEMPERATURE

# Services take the narrow form of a schema; what more it says is checked here anyway.
NARROW: tuple[Form, ...] = USUAL[1:]
THINKING_TOKENS = 4096
LOCAL_SECONDS = 600.0


@dataclass(frozen=True)
class Provider:
    """A service or local server. keys: names of its key, the first the usual one; () if none.

    model: what to ask for when none is named. temperature: None leaves it to the service. forms:
    how it can be held to a schema, strongest first. without: fields of requests that it refuses.
    room: tokens for thoughts, which services count as reply. timeout: seconds for one attempt.
    """

    base_url: str
    keys: tuple[str, ...] = ()
    model: str = ""
    api: Literal["openai", "anthropic"] = "openai"
    temperature: float | None = TEMPERATURE
    token_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    forms: tuple[Form, ...] = USUAL
    without: frozenset[str] = frozenset()
    room: int = 0
    timeout: float = 180.0


PROVIDERS: Mapping[str, Provider] = {
    # Its reasoning models refuse a temperature, and `max_tokens` by that name.
    "openai": Provider(
        "https://api.openai.com/v1",
        ("OPENAI_API_KEY",),
        temperature=None,
        token_limit="max_completion_tokens",
        forms=NARROW,
        room=THINKING_TOKENS,
    ),
    "anthropic": Provider(
        "https://api.anthropic.com",
        ("ANTHROPIC_API_KEY",),
        api="anthropic",
        temperature=None,
        forms=("narrow_schema", "tool", "text"),
    ),
    # "This response_format type is unavailable now", it says to a schema.
    "deepseek": Provider(
        "https://api.deepseek.com/v1",
        ("DEEPSEEK_API_KEY",),
        "deepseek-chat",
        forms=("tool", "json_object", "text"),
        room=THINKING_TOKENS,
    ),
    # The OpenAI-compatible endpoint: no further library, and schemas, tools and usage all there.
    "gemini": Provider(
        "https://generativelanguage.googleapis.com/v1beta/openai",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        forms=NARROW,
        without=frozenset({"seed"}),
        room=THINKING_TOKENS,
    ),
    "openrouter": Provider(
        "https://openrouter.ai/api/v1",
        ("OPENROUTER_API_KEY",),
        forms=NARROW,
        room=THINKING_TOKENS,
    ),
    "ollama": Provider("http://localhost:11434/v1", timeout=LOCAL_SECONDS),
    "lmstudio": Provider("http://localhost:1234/v1", timeout=LOCAL_SECONDS),
    "vllm": Provider("http://localhost:8000/v1", timeout=LOCAL_SECONDS),
    "llamacpp": Provider(
        "http://localhost:8080/v1", model="default", forms=FORMS, timeout=LOCAL_SECONDS
    ),
}
