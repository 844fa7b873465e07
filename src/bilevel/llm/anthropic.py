"""A client for Anthropic's Messages API, through its own SDK.

Its OpenAI-compatible URL heeds neither schemas nor tools strictly, so it is no way to go.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Unpack

from pydantic import BaseModel

from bilevel.errors import MissingExtra
from bilevel.llm.ask import Ask
from bilevel.llm.forms import BOUNDS, TOOL, Form, Manner, narrow, told_schema
from bilevel.llm.remote import Common, RemoteLLM
from bilevel.llm.wire import Streamed, plain, plain_faults
from bilevel.model import TOO_LONG, Reply

try:
    import anthropic
except ImportError as missing:
    raise MissingExtra(
        "Anthropic's models need its library, which is not installed; "
        "get it: pip install 'bilevel[anthropic]'"
    ) from missing

FORMS: tuple[Form, ...] = ("narrow_schema", "tool", "text")
FINISHES = {"max_tokens": "length", "model_context_window_exceeded": TOO_LONG, "refusal": "refusal"}


class _Block(BaseModel):
    type: str
    text: str = ""
    thinking: str = ""
    input: dict[str, Any] | None = None


class _Usage(BaseModel):
    """Tokens in are told apart by whether they were reused, kept for reuse, or neither."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class Counted(BaseModel):
    """What a body says it took. Unknown fields are ignored."""

    usage: _Usage = _Usage()

    def tokens(self) -> tuple[int, int, int]:
        """Tokens in, out, and of those in the reused ones."""
        cached = self.usage.cache_read_input_tokens or 0
        new = self.usage.input_tokens + (self.usage.cache_creation_input_tokens or 0)
        return new + cached, self.usage.output_tokens, cached


class Body(Counted):
    """A message."""

    content: list[_Block]
    model: str = ""
    stop_reason: str | None = None

    def reply(self) -> Reply:
        """Its text, or what it would call a tool with. Thoughts are set apart."""
        texts = [block.text for block in self.content if block.type == "text"]
        calls = [block.input for block in self.content if block.type == "tool_use"]
        thoughts = [block.thinking for block in self.content if block.type == "thinking"]
        if calls:
            thoughts, texts = [*thoughts, *texts], [json.dumps(calls[0], ensure_ascii=False)]
        read, wrote, cached = self.tokens()
        return Reply(
            text="".join(texts),
            model=self.model,
            tokens_in=read,
            tokens_out=wrote,
            tokens_cached=cached,
            reasoning="\n".join(filter(None, thoughts)),
            finish=FINISHES.get(self.stop_reason or "", "stop"),
        )


class AnthropicLLM(RemoteLLM):
    """A model of Anthropic's.

    There are no seeds: the same request may be answered differently. The temperature is left to
    the service unless one is given. It does not think before it answers, as it is not asked to.
    """

    def __init__(
        self, base_url: str, model: str, key: str | None = None, **common: Unpack[Common]
    ) -> None:
        common.setdefault("forms", FORMS)
        common.setdefault("temperature", None)
        super().__init__(base_url, model, key, **common)
        self._client = anthropic.Anthropic(
            base_url=self.url,
            api_key=key or "none",
            max_retries=0,
            timeout=self._http.timeout,
            http_client=self._http,
        )

    def _request(self, ask: Ask, manner: Manner) -> dict[str, Any]:
        told = ask.schema is not None and manner.form in ("json_object", "text")
        messages = told_schema(ask.messages, ask.schema) if told and ask.schema else ask.messages
        request: dict[str, Any] = {
            "max_tokens": ask.max_tokens + self.room,
            "messages": plain([m for m in messages if m.role != "system"]),
        }
        system = "\n\n".join(m.content for m in messages if m.role == "system")
        if system:
            request["system"] = system
        if self._temperature is not None and "temperature" not in manner.without:
            # The SDK knows it no more, as newer models refuse it; older ones take it.
            request["extra_body"] = {"temperature": self._temperature}
        return request | _formatted(ask, manner)

    @contextmanager
    def _post(self, request: Mapping[str, Any]) -> Iterator[Streamed]:
        create = self._client.messages.with_streaming_response.create
        with (
            plain_faults(anthropic, self._timeout, self._clean),
            create(model=self.model, **request) as response,
        ):
            yield response

    def _read(self, body: bytes) -> Reply:
        return Body.model_validate_json(body).reply()

    def _tokens(self, body: Any) -> tuple[int, int, int]:
        return Counted.model_validate(body).tokens()

    def _spare(self, names: Callable[[str], bool]) -> Iterator[str]:
        yield from filter(names, ("temperature",))


def _formatted(ask: Ask, manner: Manner) -> dict[str, Any]:
    """The fields that hold the model to the schema."""
    if ask.schema is None:
        return {}
    if manner.form in ("json_schema", "narrow_schema"):
        schema = narrow(ask.schema, BOUNDS)
        return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
    if manner.form == "tool":
        tool = {"name": TOOL, "description": "Gives the answer.", "input_schema": ask.schema}
        return {"tools": [tool], "tool_choice": {"type": "tool", "name": TOOL}}
    return {}
