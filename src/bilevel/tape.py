"""LLM calls recorded and found again by their request, never by their order."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from typing import Literal

from bilevel.errors import TapeMiss
from bilevel.model import Call, Message, Reply
from bilevel.protocols import LLM, Schema

Level = Literal["1", "1.5", "2"]


def request_key(
    model: str, messages: Sequence[Message], schema: Schema | None, seed: int, max_tokens: int
) -> str:
    """sha256 of all that a completion depends on."""
    request = [model, [asdict(m) for m in messages], schema, seed, max_tokens]
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def _whole(reply: Reply) -> Reply:
    """The reply without halves of surrogate pairs, which a server can send and no file can hold."""
    text, reasoning = (t.encode("utf-8", "replace").decode() for t in (reply.text, reply.reasoning))
    return replace(reply, text=text, reasoning=reasoning)


class Tape:
    """Answers from the record where it has the request; asks the LLM, and records, where not.

    The n-th equal request gets the n-th recorded answer. Without an LLM a request that was never
    recorded raises TapeMiss. `record` is called before the reply is used, so that a reply once
    paid for is never asked for again.
    """

    def __init__(
        self,
        model: str,
        llm: LLM | None,
        recorded: Iterable[Call] = (),
        record: Callable[[Call], object] = lambda _: None,
    ) -> None:
        self.model = model
        self._llm = llm
        self._record = record
        self._replies: dict[str, list[Reply]] = {}
        self._asked: Counter[str] = Counter()
        for call in recorded:
            self._replies.setdefault(call.key, []).append(call.reply)

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
        step: int,
        level: Level,
        purpose: str,
    ) -> Reply:
        """The recorded or the fresh reply. Raises LLMError as the LLM does, or TapeMiss."""
        key = request_key(self.model, messages, schema, seed, max_tokens)
        known, asked = self._replies.setdefault(key, []), self._asked[key]
        if asked == len(known):
            if self._llm is None:
                raise TapeMiss(
                    f"step {step} asks for a completion ({purpose}) that the run never recorded; "
                    f"its prompt ends: {messages[-1].content[-200:]!r}"
                )
            reply = _whole(self._llm.complete(messages, schema, seed=seed, max_tokens=max_tokens))
            self._record(
                Call(key, step, level, purpose, tuple(messages), json.dumps(schema), seed,
                     max_tokens, reply)
            )  # fmt: skip
            known.append(reply)
        self._asked[key] += 1
        return known[asked]
