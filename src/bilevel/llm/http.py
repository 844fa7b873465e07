"""A client for any server that speaks OpenAI's chat completions.

OpenAI, DeepSeek, Gemini, OpenRouter, Ollama, LM Studio, vLLM and llama.cpp all do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, Unpack, cast

import httpx2
import openai
from pydantic import ValidationError

from bilevel.llm.ask import Ask
from bilevel.llm.completion import Completion, Counted
from bilevel.llm.faults import Refused, Retry, disguised
from bilevel.llm.forms import LENGTHS, TOOL, Manner, narrow, told_schema
from bilevel.llm.gbnf import gbnf
from bilevel.llm.remote import Common, RemoteLLM
from bilevel.llm.wire import Streamed, plain, plain_faults
from bilevel.model import Reply

# 2**32 - 1 would be llama.cpp's "random", and more does not fit it.
SEEDS = 2**31


class HttpLLM(RemoteLLM):
    """A model of an OpenAI-compatible server.

    token_limit: under which name the server takes the limit. extra_body: fields that only this
    server knows. without: fields that it does not.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        key: str | None = None,
        *,
        token_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens",
        extra_body: Mapping[str, object] | None = None,
        without: frozenset[str] = frozenset(),
        **common: Unpack[Common],
    ) -> None:
        super().__init__(base_url, model, key, **common)
        self._token_limit = token_limit
        self._extra_body = dict(extra_body or {})
        self._without = without
        self._client = openai.OpenAI(
            base_url=self.url,
            api_key=key or "none",
            max_retries=0,
            timeout=self._http.timeout,
            default_headers=_headers(self.url, key),
            http_client=self._http,
        )

    def _request(self, ask: Ask, manner: Manner) -> dict[str, Any]:
        request: dict[str, Any] = {"seed": ask.seed % SEEDS}
        if self._temperature is not None:
            request["temperature"] = self._temperature
        limit = "max_completion_tokens" if "max_tokens" in manner.without else self._token_limit
        request[limit] = ask.max_tokens + self.room
        left_out = self._without | manner.without
        request = {name: value for name, value in request.items() if name not in left_out}
        extra = self._extra_body | _grammar(ask, manner)
        request |= {"extra_body": extra, "messages": plain(ask.messages)}
        return request | _formatted(ask, manner)

    @contextmanager
    def _post(self, request: Mapping[str, Any]) -> Iterator[Streamed]:
        create = self._client.chat.completions.with_streaming_response.create
        with (
            plain_faults(openai, self._timeout, self._clean),
            create(model=self.model, **request) as response,
        ):
            yield response

    def _read(self, body: bytes) -> Reply:
        problem: Retry | Refused | None
        try:
            reply = Completion.model_validate_json(body).reply()
        except ValidationError:
            problem = disguised(body, self._clean)
            if problem is None:
                raise
        else:
            if reply.finish != "error":
                return reply
            problem = Retry("the model's provider failed midway through the reply")
        raise problem

    def _tokens(self, body: Any) -> tuple[int, int, int]:
        return Counted.model_validate(body).tokens()

    def _spare(self, names: Callable[[str], bool]) -> Iterator[str]:
        yield from filter(names, ("seed", "temperature"))
        # OpenAI's models that think: "Use 'max_completion_tokens' instead."
        if names("max_completion_tokens") and self._token_limit == "max_tokens":
            yield "max_tokens"


def _grammar(ask: Ask, manner: Manner) -> dict[str, str]:
    """The field that only llama.cpp's server knows, and that therefore goes in the extra body."""
    if ask.schema is None or manner.form != "gbnf":
        return {}
    return {"grammar": gbnf(ask.schema)}


def _formatted(ask: Ask, manner: Manner) -> dict[str, Any]:
    """The fields that hold the model to the schema."""
    schema, form = ask.schema, manner.form
    if schema is None or form == "gbnf":
        return {}
    if form in ("json_schema", "narrow_schema"):
        sent = narrow(schema, LENGTHS) if form == "narrow_schema" else schema
        strict = {"name": TOOL, "schema": sent, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": strict}}
    if form == "tool":
        function = {"name": TOOL, "description": "Gives the answer.", "parameters": schema}
        return {
            "tools": [{"type": "function", "function": function}],
            "tool_choice": {"type": "function", "function": {"name": TOOL}},
        }
    told: dict[str, Any] = {"messages": plain(told_schema(ask.messages, schema))}
    return told | ({"response_format": {"type": form}} if form == "json_object" else {})


def _headers(url: httpx2.URL, key: str | None) -> Mapping[str, str]:
    headers: dict[str, object] = {"Authorization": f"Bearer {key or 'none'}"}
    if url.host != "api.openai.com":
        # The SDK would send what OPENAI_ORG_ID and OPENAI_PROJECT_ID hold to any host.
        headers |= {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
    return cast(Mapping[str, str], headers)
