"""What an OpenAI-compatible server sends back, as far as bilevel reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from bilevel.model import Reply

# Thoughts come first, between tags; where the prompt opened the first tag, only the second is left.
_TAGS = (("<think>", "</think>"), ("<thinking>", "</thinking>"), ("[THINK]", "[/THINK]"))
_THOUGHT = re.compile(
    r"\s*(?:" + "|".join(rf"{re.escape(a)}(.*?)(?:{re.escape(b)}|\Z)" for a, b in _TAGS) + r")\s*",
    re.DOTALL,
)
_OPENED_BEFORE = re.compile(r"(.*?)</think>\s*", re.DOTALL)


class _Part(BaseModel):
    """Of a text in parts: Mistral's thoughts are such parts again, under `thinking`."""

    text: str = ""
    thinking: list[_Part] = []


class _Function(BaseModel):
    arguments: str | dict[str, Any] = ""


class _ToolCall(BaseModel):
    function: _Function = _Function()


class _Message(BaseModel):
    content: str | list[_Part] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None  # DeepSeek, llama.cpp, vLLM
    reasoning: str | None = None  # OpenRouter, Ollama, LM Studio
    tool_calls: list[_ToolCall] | None = None


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


class Counted(BaseModel):
    """What a body says it took. Unknown fields are ignored."""

    usage: _Usage | None = None
    timings: _Timings | None = None

    def tokens(self) -> tuple[int, int, int]:
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


class Completion(Counted):
    """The body of a chat completion."""

    choices: list[_Choice] = Field(min_length=1)
    model: str | None = None

    def reply(self) -> Reply:
        """The first choice: its text, or what it would call a tool with. Thoughts are set apart."""
        choice = self.choices[0]
        message = choice.message
        written, parts = _joined(message.content)
        text, tagged = split_thoughts(written)
        if message.tool_calls:
            called = message.tool_calls[0].function.arguments
            tagged, text = f"{tagged}\n{text}", called if isinstance(called, str) else _json(called)
        thoughts = (message.reasoning_content or message.reasoning or "", parts, tagged)
        done = "stop" if choice.finish_reason in (None, "tool_calls") else choice.finish_reason
        read, wrote, cached = self.tokens()
        return Reply(
            text=text or message.refusal or "",
            model=self.model or "",
            tokens_in=read,
            tokens_out=wrote,
            tokens_cached=cached,
            reasoning="\n".join(filter(None, (thought.strip() for thought in thoughts))),
            finish="refusal" if message.refusal else done,
        )


def split_thoughts(text: str) -> tuple[str, str]:
    """The text without the tagged thoughts at its beginning, and these."""
    tagged = _THOUGHT.match(text)
    if tagged:
        thought = next(group for group in tagged.groups() if group is not None)
    else:
        tagged = _OPENED_BEFORE.match(text)
        if tagged is None or "<think>" in tagged[1]:
            return text, ""
        thought = tagged[1]
    return text[tagged.end() :], thought.strip()


def _joined(content: str | Sequence[_Part] | None) -> tuple[str, str]:
    """Text and thoughts of a message's content, whichever way it comes."""
    if content is None or isinstance(content, str):
        return content or "", ""
    thoughts = [_joined(part.thinking)[0] for part in content]
    return "".join(part.text for part in content), "\n".join(filter(None, thoughts))


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
