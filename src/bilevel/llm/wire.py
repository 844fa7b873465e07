"""What goes over the wire to an OpenAI-compatible server: address, headers, message forms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

import httpx2
import openai

from bilevel.errors import ConfigError
from bilevel.model import Message
from bilevel.protocols import Schema


def parse_url(base_url: str) -> httpx2.URL:
    try:
        url = httpx2.URL(base_url.rstrip("/"))
    except httpx2.InvalidURL as error:
        raise ConfigError(f"the base URL cannot be read: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(
            f"the base URL {url.copy_with(userinfo=b'')} is none; give one like "
            "https://api.example.com/v1"
        )
    return url


def make_client(url: httpx2.URL, key: str | None, timeout: float) -> openai.OpenAI:
    headers: dict[str, object] = {"Authorization": f"Bearer {key or 'none'}"}
    if url.host != "api.openai.com":
        # The SDK would send what OPENAI_ORG_ID and OPENAI_PROJECT_ID hold to any host.
        headers |= {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
    # A proxy of the environment must not come between us and this machine.
    own = url.host in ("localhost", "127.0.0.1", "::1")
    limits = httpx2.Timeout(timeout, connect=min(timeout, 10.0))
    return openai.OpenAI(
        base_url=url,
        api_key=key or "none",
        max_retries=0,
        timeout=limits,
        default_headers=cast(Mapping[str, str], headers),
        http_client=openai.DefaultHttpxClient(timeout=limits, trust_env=not own),
    )


def plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in messages]


def in_words(messages: Sequence[Message], schema: Schema) -> dict[str, Any]:
    """JSON mode: the schema goes first, for it stays the same and can be cached."""
    rule = f"Answer with one JSON object that fits this JSON schema:\n{json.dumps(schema)}"
    talk = plain(messages)
    if talk and talk[0]["role"] == "system":
        talk[0]["content"] += f"\n\n{rule}"
    else:
        talk.insert(0, {"role": "system", "content": rule})
    return {"messages": talk, "response_format": {"type": "json_object"}}


def retry_after(headers: httpx2.Headers) -> float:
    """Seconds that a Retry-After header asks for, in either of its forms; 0 without one."""
    asked = headers.get("retry-after", "").strip()
    if asked.replace(".", "", 1).isdigit():
        return float(asked)
    try:
        until = parsedate_to_datetime(asked)
    except ValueError:
        return 0.0
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())
