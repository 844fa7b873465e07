"""A language model that says what a test tells it to. Its name marks every record it touches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bilevel.errors import LLMUnavailable
from bilevel.model import Message, Reply
from bilevel.protocols import Schema

Script = Callable[[Sequence[Message], Schema | None, int], str]


class ScriptedLLM:
    """Answers with texts in order, or with what a function makes of messages, schema and seed.

    An exception among the texts is raised in its turn. `calls` keeps the messages of each call.
    Tokens are words, so that budgets can be tested.
    """

    def __init__(self, replies: Sequence[str | Exception] | Script, name: str = "") -> None:
        self.name = f"scripted:{name}" if name else "scripted"
        self.calls: list[tuple[Message, ...]] = []
        self.closed = False
        self._replies = replies

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        """The next text. Raises LLMUnavailable when there is none left, or the scripted error."""
        self.calls.append(tuple(messages))
        words = self._next(messages, schema, seed).split(" ")
        return Reply(
            text=" ".join(words[:max_tokens]),
            model=self.name,
            tokens_in=sum(len(m.content.split()) for m in messages),
            tokens_out=min(len(words), max_tokens),
            finish="length" if len(words) > max_tokens else "stop",
        )

    def _next(self, messages: Sequence[Message], schema: Schema | None, seed: int) -> str:
        if callable(self._replies):
            return self._replies(messages, schema, seed)
        number = len(self.calls)
        if number > len(self._replies):
            raise LLMUnavailable(
                f"call {number} but the script has {len(self._replies)} replies; write more"
            )
        reply = self._replies[number - 1]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self) -> None:
        self.closed = True
