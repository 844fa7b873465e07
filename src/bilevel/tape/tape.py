"""LLM calls recorded and found again by their request, never by their order."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain, count
from typing import Literal

from bilevel.budget.budget import Besides, Budget, denied, schema_text
from bilevel.ensemble import Cast, Several
from bilevel.errors import ContextTooLong, LLMUnavailable, TapeMiss
from bilevel.model import TOO_LONG, UNUSABLE, Ask, Call, Denial, Message, Prompt, Record, Reply
from bilevel.prompts import unmarked
from bilevel.protocols import LLM, Schema
from bilevel.tape.leave import Leave, given
from bilevel.tape.misses import explain

Level = Literal["1", "1.5", "2"]
TRIES = 3  # paid replies without anything to use, after which a run pauses


def request_key(
    model: str, messages: Sequence[Message], schema: Schema | None, seed: int, max_tokens: int
) -> str:
    """sha256 of all that a completion depends on."""
    request = [model, [asdict(m) for m in messages], schema, seed, max_tokens]
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class _Request:
    model: str
    prompt: Prompt
    schema: Schema | None
    seed: int
    max_tokens: int
    step: int
    level: Level
    purpose: str

    @property
    def key(self) -> str:
        return request_key(
            self.model, self.prompt.messages, self.schema, self.seed, self.max_tokens
        )


def _whole(reply: Reply) -> Reply:
    """The reply without halves of surrogate pairs, which a server can send and no file can hold."""
    text, reasoning = (t.encode("utf-8", "replace").decode() for t in (reply.text, reply.reasoning))
    return replace(reply, text=text, reasoning=reasoning)


def _clean(prompt: Prompt) -> Prompt:
    talk = (replace(m, content=unmarked(m.content)) for m in prompt.messages)
    return replace(prompt, messages=tuple(talk))


def _size(messages: Iterable[Message]) -> int:
    return sum(len(m.content) for m in messages)


_Asker = tuple[str, bool]


def _asker(model: str, level: Level) -> _Asker:
    """Who asks a model: the inner loop's thread, or a session of Level 2, perhaps in another."""
    return model, level == "2"


class Tape:
    """Answers from the record where it has the request; asks the LLM, and records, where not.

    The n-th equal request gets the n-th recorded answer: equal ones are told apart by their order
    among themselves. Without an LLM a request that was never recorded raises TapeMiss. `record` is
    called before the reply is used, so that a reply once paid for is never asked for again.
    cast: says which model is asked, where there are several. budget: asked before each call.
    denials: calls that a run that is replayed did not make.

    A session of Level 2 in another thread goes by a tape `apart`. The two never ask the same, for
    their seeds differ; nothing that one is told changes what the other asks.
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
        self._refused: dict[_Asker, list[int]] = {}  # sizes of prompts that were too long
        self._calls = list(recorded)
        for call in self._calls:
            self._replies.setdefault(call.key, []).append(call.reply)
        self._budget = budget
        # One that was made after all, as the run went on with more, was not denied.
        made = {(call.key, call.step) for call in self._calls}
        self._denied = {(d.key, d.step): d for d in denials if (d.key, d.step) not in made}
        self._before: Callable[[], None] = lambda: None
        self._turn = threading.Condition()
        self._asking: set[str] = set()  # keys of calls that are under way

    def apart(self, record: Callable[[Record], object], before: Callable[[], None]) -> Tape:
        """The same tape for another thread. before: called ahead of each completion."""
        other = copy.copy(self)
        other._record, other._before = record, before
        return other

    def spend(self, calls: Iterable[Call]) -> None:
        """Count the calls of decisions that stand as answered: an equal request comes after."""
        for call in calls:
            self._asked[call.key] += 1
            asker = _asker(call.model or self.model, call.level)
            self._learn(asker, call.messages, call.reply)

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
        shorter: Iterable[Prompt] = (),
    ) -> Reply:
        """The recorded or a fresh reply, to the first prompt that is not too long for the model.

        shorter: what is asked in place of `messages` then, each with less in it than the one
        before. What is as long as a prompt that the model refused is not asked, but for the last.
        Raises LLMError as the LLM does, ContextTooLong where the last is too long, LLMUnavailable
        where TRIES paid replies were of no use, TapeMiss, OverBudget.
        """
        self._before()
        model = self.model if self._cast is None else self._cast.model(level, step)
        first = Prompt(tuple(messages))
        request = _Request(model, first, schema, seed, max_tokens, step, level, purpose)
        for prompt in self._fitting(_asker(model, level), map(_clean, chain([first], shorter))):
            request = replace(request, prompt=prompt)
            reply, fresh = self._reply(request)
            if reply.finish != TOO_LONG:
                return reply
        while not fresh:  # The run paused over it since then, and the server may take more now.
            request = replace(request, seed=request.seed + 1)
            reply, fresh = self._reply(request)
            if reply.finish != TOO_LONG:
                return reply
        cut = request.prompt.cut or "nothing in it can be"
        raise ContextTooLong(f"{reply.text} (the shortest prompt was asked: {cut})")

    def _fitting(self, asker: _Asker, prompts: Iterable[Prompt]) -> Iterator[Prompt]:
        """Those that are shorter than any that was refused, and the last in any case."""
        last = asked = None
        for last in prompts:
            size = _size(last.messages)
            if size < min(self._refused.get(asker, ()), default=math.inf):
                asked = last
                yield last
        if last is not None and last is not asked:
            yield last

    def _learn(self, asker: _Asker, messages: Iterable[Message], reply: Reply) -> None:
        """Keep which lengths the model refused, as far as no answer says otherwise."""
        size, refused = _size(messages), self._refused.setdefault(asker, [])
        if reply.finish == TOO_LONG:
            refused.append(size)
        elif reply.answers:
            refused[:] = [known for known in refused if known > size]

    def _reply(self, request: _Request) -> tuple[Reply, bool]:
        """A reply that can be used or was too long, and whether it was asked for just now.

        Another seed may bring an answer where there was none.
        """
        tried = 0
        for number in count():
            asked = replace(request, seed=request.seed + number)
            reply, fresh = self._one(asked)
            if reply.finish != UNUSABLE:
                break
            tried += fresh
            if tried == TRIES:
                raise LLMUnavailable(
                    f"{request.model} gave nothing to use in {TRIES} replies, which are paid for: "
                    f"{reply.text}; see to that, then resume the run"
                )
        return reply, fresh

    def _one(self, request: _Request) -> tuple[Reply, bool]:
        """The recorded or a fresh reply to this, whatever it holds, and whether it is fresh."""
        key = request.key
        if denial := self._denied.get((key, request.step)):
            self._record(denial)
            raise denied(denial)
        known, number = self._replies.get(key, []), self._asked[key]
        fresh = number >= len(known)
        reply = self._fresh(request, key) if fresh else known[number]
        self._asked[key] += 1
        self._learn(_asker(request.model, request.level), request.prompt.messages, reply)
        return reply, fresh

    def _fresh(self, request: _Request, key: str) -> Reply:
        """The LLM's reply, recorded; or that the prompt is too long."""
        model, talk, schema = request.model, request.prompt.messages, request.schema
        seed, most, step = request.seed, request.max_tokens, request.step
        if self._llm is None:
            how = explain(self._calls, model, talk, schema, seed, most)
            raise TapeMiss(
                f"step {step} asks for a completion ({request.purpose}) that the run never "
                f"recorded: {how}"
            )
        llm = self._llm.member(model) if isinstance(self._llm, Several) else self._llm
        room = getattr(llm, "room", 0)  # only models that think have any
        level, purpose, cut = request.level, request.purpose, request.prompt.cut
        text = json.dumps(schema)
        with self._begun(request, key, room), given(self._leave(request, key, room)):
            try:
                reply = _whole(llm.complete(talk, schema, seed=seed, max_tokens=most))
            except ContextTooLong as error:
                reply = Reply(str(error), "", finish=TOO_LONG)
            self._record(Call(key, step, level, purpose, talk, text, seed, most, reply, model, cut))
        return reply

    @contextmanager
    def _begun(self, request: _Request, key: str, room: int) -> Iterator[None]:
        """A call that is under way, on record; or that a limit forbids: then raises OverBudget.

        While another thread's call is under way, which counts at its most, its reply is waited for
        before a limit is held to forbid this one.
        """
        with self._turn:
            asked = self._ask(request, key, room)
            while self._asking and isinstance(asked, Denial) and not asked.limit.endswith("wall"):
                self._turn.wait()
                asked = self._ask(request, key, room)
            if asked is not None:
                self._record(asked)
            if isinstance(asked, Denial):
                raise denied(asked)
            self._asking.add(key)
        try:
            yield
        finally:
            with self._turn:
                self._asking.remove(key)
                self._turn.notify_all()

    def _leave(self, request: _Request, key: str, room: int) -> Leave:
        """What a call that is under way may do besides."""

        def again(lost: bool) -> None:
            with self._turn:
                asked = self._ask(request, key, room, "" if lost else "again")
                if asked is not None and (lost or isinstance(asked, Denial)):
                    self._record(asked)
            if isinstance(asked, Denial):
                raise denied(asked)

        def more(talk: Sequence[Message]) -> bool:
            with self._turn:
                longer = replace(request, prompt=Prompt(tuple(talk)))
                asked = self._ask(longer, key, room, "more")
                if isinstance(asked, Ask):
                    self._record(asked)
            return not isinstance(asked, Denial)

        return Leave() if self._budget is None else Leave(self._budget.left, again, more)

    def _ask(
        self, request: _Request, key: str, room: int, besides: Besides = ""
    ) -> Ask | Denial | None:
        if self._budget is None:
            return None
        talk, schema = request.prompt.messages, schema_text(request.schema)
        level, purpose, most = request.level, request.purpose, request.max_tokens
        return self._budget.ask(
            key, request.step, level, purpose, talk, schema, most, room, besides
        )
