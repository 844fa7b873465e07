"""LLM calls recorded and found again by their request, never by their order."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from typing import Literal

from bilevel.budget import Budget, denied, schema_text
from bilevel.ensemble import Cast, Several
from bilevel.errors import TapeMiss
from bilevel.misses import explain
from bilevel.model import Call, Denial, Message, Record, Reply
from bilevel.prompts import unmarked
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

    The n-th equal request gets the n-th recorded answer: equal ones are told apart by their order
    among themselves. Without an LLM a request that was never recorded raises TapeMiss. `record` is
    called before the reply is used, so that a reply once paid for is never asked for again.
    cast: says which model is asked, where there are several. budget: asked before each call.
    denials: calls that a run that is replayed did not make.
    """

    def __init__(
        self,
        model: str,
        llm: LLM | None,
        recorded: Iterable[Call] = (),
        record: Callable[[Record], object] = lambda _: None,
        cast: Cast | None = None,
        budget: Budget | None = None,
        denials: Iterable[Denial] = (),
    ) -> None:
        self.model = model
        self._cast = cast
        self._llm = llm
        self._record = record
        self._replies: dict[str, list[Reply]] = {}
        self._asked: Counter[str] = Counter()
        self._calls = list(recorded)
        for call in self._calls:
            self._replies.setdefault(call.key, []).append(call.reply)
        self._budget = budget
        # One that was made after all, as the run went on with more, was not denied.
        made = {(call.key, call.step) for call in self._calls}
        self._denied = {(d.key, d.step): d for d in denials if (d.key, d.step) not in made}

    def spend(self, calls: Iterable[Call]) -> None:
        """Count the calls of decisions that stand as answered: an equal request comes after."""
        self._asked.update(call.key for call in calls)

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
        """The recorded or a fresh reply. Raises LLMError as the LLM does, TapeMiss, OverBudget."""
        model = self.model if self._cast is None else self._cast.model(level, step)
        talk = tuple(replace(m, content=unmarked(m.content)) for m in messages)
        key = request_key(model, talk, schema, seed, max_tokens)
        if denial := self._denied.get((key, step)):
            self._record(denial)
            raise denied(denial)
        known, number = self._replies.get(key, []), self._asked[key]
        if number < len(known):
            reply = known[number]
        elif self._llm is None:
            how = explain(self._calls, model, talk, schema, seed, max_tokens)
            raise TapeMiss(
                f"step {step} asks for a completion ({purpose}) that the run never recorded: {how}"
            )
        else:
            llm = self._llm.member(model) if isinstance(self._llm, Several) else self._llm
            room = getattr(llm, "room", 0)  # only models that think have any
            self._begin(key, step, level, purpose, talk, schema, max_tokens, room)
            reply = _whole(llm.complete(talk, schema, seed=seed, max_tokens=max_tokens))
            asked = json.dumps(schema)
            self._record(
                Call(key, step, level, purpose, talk, asked, seed, max_tokens, reply, model)
            )
        self._asked[key] += 1
        return reply

    def _begin(
        self,
        key: str,
        step: int,
        level: Level,
        purpose: str,
        talk: Sequence[Message],
        schema: Schema | None,
        max_tokens: int,
        room: int,
    ) -> None:
        """Log that a call begins, or that a limit forbids it; then raises OverBudget."""
        if self._budget is None:
            return
        text = schema_text(schema)
        asked = self._budget.ask(key, step, level, purpose, talk, text, max_tokens, room)
        if asked is not None:
            self._record(asked)
        if isinstance(asked, Denial):
            raise denied(asked)
