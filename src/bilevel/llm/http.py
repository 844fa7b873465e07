"""A client for any server that speaks OpenAI's chat completions.

DeepSeek, OpenAI, OpenRouter, Ollama, vLLM and llama.cpp all do. A request is retried when the
network or the server failed, never when the server refused it. The key is sent and nowhere shown.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import httpx2
import openai
import tenacity
from pydantic import ValidationError

from bilevel.errors import ConfigError, LLMRejected, LLMUnavailable
from bilevel.llm.completion import Completion
from bilevel.llm.naming import TEMPERATURE, label
from bilevel.llm.wire import in_words, make_client, parse_url, plain, retry_after
from bilevel.model import Message, Reply
from bilevel.protocols import Schema

log = logging.getLogger(__name__)
LARGEST_BODY = 8 * 2**20
LONGEST_WAIT = 120.0
RETRIED = {408, 429}
REMEDY = {
    400: "change the request or the model",
    402: "top up the account",
    404: "check the model's name, and the base URL (it usually ends in /v1)",
    413: "shorten the prompt",
}


class _Retry(Exception):
    """Worth another attempt. after: seconds that the server asks to wait."""

    def __init__(self, cause: str, after: float = 0.0) -> None:
        super().__init__(cause)
        self.after = after


class _Empty(_Retry):
    pass


class _Refused(Exception):
    def __init__(self, status: int, cause: str) -> None:
        super().__init__(cause)
        self.status = status


class HttpLLM:
    """A model behind a base URL.

    key_from: the environment variable that `key` came from, for messages. timeout: seconds for
    one attempt. attempts: at most this many requests a completion. temperature: None leaves it to
    the server. token_limit: under which name the server takes the limit. extra_body: fields that
    only this server knows. name: instead of MODEL@HOST. sleep: waits between attempts.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        key: str | None = None,
        *,
        key_from: str = "BILEVEL_API_KEY",
        timeout: float = 180.0,
        attempts: int = 5,
        temperature: float | None = TEMPERATURE,
        token_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens",
        extra_body: Mapping[str, object] | None = None,
        name: str = "",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        url = parse_url(base_url)
        if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
            raise ConfigError(f"the key in {key_from} has blanks or odd characters; set it again")
        self.model = model
        port = f":{url.port}" if url.port else ""
        self.name = name or label(f"{model}@{url.host}{port}", temperature)
        self._server = f"{url.scheme}://{url.host}{port}{url.path}"
        self._secrets = [s for s in (key, url.password) if s]
        self._key_from = key_from
        self._keyed = key is not None
        self._timeout = timeout
        self._attempts = attempts
        self._sleep = sleep
        self._format: Literal["json_schema", "json_object"] = "json_schema"
        self._fixed: dict[str, Any] = {"extra_body": dict(extra_body or {})}
        if temperature is not None:
            self._fixed["temperature"] = temperature
        self._token_limit = token_limit
        self._client = make_client(url, key, timeout)

    def __repr__(self) -> str:
        return f"HttpLLM({self.name!r})"

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        """One completion; `seconds` covers all attempts and the waits between them.

        Raises LLMRejected when the server refuses the request, LLMUnavailable when no attempt
        brought a usable answer.
        """
        start = time.monotonic()
        empty = 0
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._attempts),
            wait=_pause,
            retry=tenacity.retry_if_exception_type(_Retry),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            for attempt in retrying:
                with attempt:
                    try:
                        # A server that keeps to the seed would only be empty again.
                        body = self._ask(messages, schema, seed + empty, max_tokens)
                    except _Empty:
                        empty += 1
                        raise
                    number = attempt.retry_state.attempt_number
                    return body.reply(self.model, time.monotonic() - start, number)
        except _Retry as error:
            raise LLMUnavailable(
                f"{self.name} at {self._server} gave no answer in {self._attempts} attempts: "
                f"{error}; check that the server runs and can be reached, then resume the run"
            ) from None
        except _Refused as error:
            raise self._rejected(error) from None
        raise AssertionError("tenacity neither returned nor raised")

    def close(self) -> None:
        self._client.close()

    def _ask(
        self, messages: Sequence[Message], schema: Schema | None, seed: int, max_tokens: int
    ) -> Completion:
        # llama.cpp reads a seed as 32 bits, and the highest one as "random".
        request: dict[str, Any] = {"seed": seed % 2**31, self._token_limit: max_tokens}
        request |= self._fixed
        if schema is None:
            return self._send(request | {"messages": plain(messages)})
        if self._format == "json_object":
            return self._send(request | in_words(messages, schema))
        strict = {"name": "reply", "schema": schema, "strict": True}
        formatted = {"response_format": {"type": "json_schema", "json_schema": strict}}
        try:
            return self._send(request | formatted | {"messages": plain(messages)})
        except _Refused as error:
            if error.status != 400:
                raise
            refusal = error
        return self._without_schema(request | in_words(messages, schema), refusal)

    def _without_schema(self, request: dict[str, Any], refusal: _Refused) -> Completion:
        """The answer in JSON mode; only if that is taken was the schema what the server refused."""
        try:
            body = self._send(request)
        except _Refused as error:
            if error.status == 400:
                raise refusal from None
            raise
        self._format = "json_object"
        log.warning(
            "%s refuses response_format json_schema (%s); from now on it gets the schema in the "
            "prompt, which does not enforce it",
            self.name,
            refusal,
        )
        return body

    def _send(self, request: dict[str, Any]) -> Completion:
        """The parsed body of one request. Raises _Retry, _Refused or LLMUnavailable."""
        try:
            with self._client.chat.completions.with_streaming_response.create(
                model=self.model, **request
            ) as response:
                return self._parse(self._read(response), response.headers)
        except openai.APIStatusError as error:
            problem = self._status(error)
        except openai.APITimeoutError:
            problem = _Retry(f"no answer within {self._timeout:g} s")
        except (openai.APIConnectionError, httpx2.TransportError) as error:
            problem = _Retry(self._clean(f"{error.__cause__ or error}"))
        raise problem

    def _read(self, response: openai.APIResponse[Any]) -> bytes:
        """The whole body, bounded in bytes and in time."""
        deadline = time.monotonic() + self._timeout
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > LARGEST_BODY:
                raise _Retry(f"the answer is longer than {LARGEST_BODY:,} bytes")
            if time.monotonic() > deadline:
                raise _Retry(f"the answer was not complete within {self._timeout:g} s")
        return bytes(body)

    def _parse(self, body: bytes, headers: httpx2.Headers) -> Completion:
        kind = headers.get("content-type", "no content type")
        if not body:
            raise _Retry("the answer is empty")
        if "json" not in kind:
            raise _Retry(f"the answer is {kind}, not JSON; is {self._server} the API's base URL?")
        try:
            completion = Completion.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "body"
            shown = self._clean(body[:200].decode(errors="replace"))
            raise _Retry(
                f"the answer is no chat completion ({where}: {first['msg']}): {shown}"
            ) from None
        reply = completion.reply(self.model, 0.0, 1)
        if not reply.text.strip():
            held = "thoughts only" if reply.reasoning else "no text"
            limit = "; max_tokens is too small" if reply.finish == "length" else ""
            raise _Empty(f"the reply holds {held} (finish: {reply.finish}){limit}")
        return completion

    def _status(self, error: openai.APIStatusError) -> Exception:
        """What a status other than 2xx means: a retry, a refusal, or the end."""
        status = error.status_code
        detail = error.body if isinstance(error.body, dict) else {}
        cause = self._clean(f"{status}: {detail.get('message') or error.message}")
        if detail.get("code") == "insufficient_quota":
            return _Refused(402, cause)
        if status not in RETRIED and status < 500:
            return _Refused(status, cause)
        after = retry_after(error.response.headers)
        if after > LONGEST_WAIT:
            return LLMUnavailable(
                f"{self.name} asks to wait {after:.0f} s ({cause}), longer than the "
                f"{LONGEST_WAIT:.0f} s that a run waits; resume it later"
            )
        return _Retry(cause, after)

    def _rejected(self, error: _Refused) -> LLMRejected:
        remedy = REMEDY.get(error.status, "see the provider's documentation")
        if error.status in (401, 403):
            remedy = f"set {self._key_from} to a key that is valid there"
            if not self._keyed:
                remedy = f"no key was sent: {remedy}"
        return LLMRejected(f"{self.name} at {self._server} refused ({error}); {remedy}")

    def _clean(self, text: str) -> str:
        """A server's words: without secrets, on one line, not too long."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = " ".join(text.split())
        return text if len(text) <= 400 else text[:400] + " ..."


def _pause(state: tenacity.RetryCallState) -> float:
    """Seconds until the next attempt: exponential with jitter, or as the server asks."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.after if isinstance(error, _Retry) else 0.0
    return max(asked, tenacity.wait_random_exponential(multiplier=0.5, max=30)(state))
