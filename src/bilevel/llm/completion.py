"""What an OpenAI-compatible server sends back, as far as bilevel reads it."""

from __future__ import annotations

import re

from pydantic import BaseModel, Field

from bilevel.model import Reply

_THOUGHT = re.compile(r"\s*<think>(.*?)(?:</think>\s*|\Z)", re.DOTALL)


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None  # DeepSeek, llama.cpp, vLLM
    reasoning: str | None = None  # OpenRouter, Ollama


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Details(BaseModel):
    cached_tokens: int | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    prompt_cache_hit_tokens: int | None = None  # DeepSeek


class _Timings(BaseModel):
    """llama.cpp: `prompt_n` counts the tokens that were read, `cache_n` those that were reused."""

    cache_n: int = 0
    prompt_n: int = 0
    predicted_n: int = 0


class Completion(BaseModel):
    """The body of a chat completion. Unknown fields are ignored."""

    choices: list[_Choice] = Field(min_length=1)
    model: str | None = None
    usage: _Usage | None = None
    timings: _Timings | None = None

    def reply(self, model: str, seconds: float, attempts: int) -> Reply:
        """The first choice. Its thoughts, tagged or in a field of their own, are set apart."""
        message = self.choices[0].message
        text = message.content or message.refusal or ""
        thought = message.reasoning_content or message.reasoning or ""
        tagged = _THOUGHT.match(text)
        if tagged:
            thought = "\n".join(filter(None, [thought, tagged[1].strip()]))
            text = text[tagged.end() :]
        read, written, cached = self._tokens()
        return Reply(
            text=text,
            model=self.model or model,
            tokens_in=read,
            tokens_out=written,
            tokens_cached=cached,
            seconds=seconds,
            reasoning=thought,
            finish="refusal" if message.refusal else self.choices[0].finish_reason or "stop",
            attempts=attempts,
        )

    def _tokens(self) -> tuple[int, int, int]:
        """Tokens in, out, and of those in the reused ones; 0 where the server does not say."""
        usage, timings = self.usage or _Usage(), self.timings or _Timings()
        details = usage.prompt_tokens_details or _Details()
        told = (details.cached_tokens, usage.prompt_cache_hit_tokens, timings.cache_n)
        cached = next((n for n in told if n is not None), 0)
        read = usage.prompt_tokens
        written = usage.completion_tokens
        return (
            timings.cache_n + timings.prompt_n if read is None else read,
            timings.predicted_n if written is None else written,
            cached,
        )
