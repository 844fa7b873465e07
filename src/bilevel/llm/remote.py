"""A model behind an HTTP API: what all APIs share. `http.py` and `anthropic.py` say what differs.

A request is retried when the network or the server failed or the server is busy (`patience.py`),
never when the server refused it. What a server refuses is first tried in another form (`forms.py`),
and what then works is remembered. The key is sent and nowhere shown. Ctrl-C ends a waiting request
at once.
"""

from __future__ import annotations

import logging
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, TypedDict

import httpx2
from pydantic import ValidationError
from pydantic_core import from_json

from bilevel.errors import ConfigError, LLMUnavailable
from bilevel.llm.ask import Ask, judged_by_text
from bilevel.llm.faults import Hopeless, Refused, Retry, rejection, shown, too_long
from bilevel.llm.forms import USUAL, Form, Manner, heeds, lifted, suited
from bilevel.llm.limits import Limiter, Rates
from bilevel.llm.memory import Memory
from bilevel.llm.naming import TEMPERATURE, label
from bilevel.llm.patience import ATTEMPTS, BUSY_ATTEMPTS, Patience, doze
from bilevel.llm.wire import Streamed, http_client, parse_url, receive
from bilevel.model import UNUSABLE, Message, Reply
from bilevel.protocols import Schema

log = logging.getLogger(__name__)
LONGEST_WAIT = 120.0
UNHEEDED = 2  # replies in a row that show a schema was not enforced
CHARS_PER_TOKEN = 3.5  # of English and code; for rates only, the server counts


class Common(TypedDict, total=False):
    """What can be set for a model of any API.

    key_from: where the key came from, for messages. timeout: seconds for one attempt. attempts,
    busy_attempts: so many of a completion may fail, and find the server busy. temperature: None
    leaves it to the server. name: instead of MODEL@HOST. forms: ways to hold it to a schema,
    strongest first. room: tokens on top of a request's max_tokens, for the thoughts that such
    models count as reply. memory: keeps what was found out. limiter: gives turns. sleep: waits
    between attempts.
    """

    key_from: str
    timeout: float
    attempts: int
    busy_attempts: int
    temperature: float | None
    name: str
    forms: Sequence[Form]
    room: int
    memory: Memory | None
    limiter: Limiter | None
    sleep: Callable[[float], None]


class RemoteLLM(ABC):
    """A model behind a base URL; see `Common` for what can be set."""

    def __init__(
        self,
        base_url: str,
        model: str,
        key: str | None = None,
        *,
        key_from: str = "BILEVEL_API_KEY",
        timeout: float = 180.0,
        attempts: int = ATTEMPTS,
        busy_attempts: int = BUSY_ATTEMPTS,
        temperature: float | None = TEMPERATURE,
        name: str = "",
        forms: Sequence[Form] = USUAL,
        room: int = 0,
        memory: Memory | None = None,
        limiter: Limiter | None = None,
        sleep: Callable[[float], None] = doze,
    ) -> None:
        self.url = parse_url(base_url)
        if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
            raise ConfigError(f"the key in {key_from} has blanks or odd characters; set it again")
        self.model = model
        port = f":{self.url.port}" if self.url.port else ""
        self.name = name or label(f"{model}@{self.url.host}{port}", temperature)
        self.server = f"{self.url.scheme}://{self.url.host}{port}{self.url.path}"
        self.room = room
        self._secrets = [s for s in (key, self.url.password) if s]
        self._key, self._key_from = key, key_from
        self._timeout = timeout
        self._attempts = attempts, busy_attempts
        self._temperature = temperature
        self._forms = list(forms)
        self._memory = memory
        self._limiter = limiter or Limiter(Rates())
        self._sleep = sleep
        known = memory.find(self.server, model) if memory else None
        self._proven = known is not None and known.form in self._forms
        self._manner = known if known and self._proven else Manner(self._forms[0])
        self._unheeded = 0
        self._http = http_client(self.url, timeout)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @abstractmethod
    def _request(self, ask: Ask, manner: Manner) -> dict[str, Any]:
        """The request's fields."""

    @abstractmethod
    def _post(self, request: Mapping[str, Any]) -> AbstractContextManager[Streamed]:
        """The answer, its body still to be read. Raises Retry, Refused or Hopeless."""

    @abstractmethod
    def _read(self, body: bytes) -> Reply:
        """The reply that a body holds. Raises ValidationError, Retry or Refused."""

    @abstractmethod
    def _tokens(self, body: Any) -> tuple[int, int, int]:
        """Tokens in, out and cached that a body tells, 0 where not. Raises ValidationError."""

    @abstractmethod
    def _spare(self, names: Callable[[str], bool]) -> Iterator[str]:
        """Fields of a request that can be left out. names: whether a refusal names a field."""

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        """One completion; `seconds` are those of all attempts, and the waits between.

        What was not paid for is tried again; what was comes back, be it UNUSABLE. Raises
        LLMRejected when the server refuses the request, ContextTooLong when it does so for the
        prompt's length, LLMUnavailable when no attempt brought an answer, OverBudget when the run's
        limits leave no room for the next one.
        """
        start = time.monotonic()
        ask = Ask(messages, schema, seed, max_tokens)
        patience = Patience(self.name, *self._attempts, self._sleep)
        try:
            reply = patience.retrying()(self._attempt, ask)
            return replace(reply, seconds=time.monotonic() - start, attempts=ask.sent)
        except Retry as error:
            raise LLMUnavailable(
                f"{self.name} at {self.server} gave no answer in {patience.made} attempts: "
                f"{error}; check that the server runs and can be reached, then resume the run"
            ) from None
        except Hopeless as error:
            raise LLMUnavailable(f"{self.name} at {self.server}: {error}") from None
        except Refused as error:
            where = f"{self.name} at {self.server}"
            raise rejection(error, where, self._key_from, self._key is not None) from None

    def close(self) -> None:
        self._http.close()

    def _attempt(self, ask: Ask) -> Reply:
        try:
            return self._negotiated(ask)
        except Retry as error:
            if error.after > LONGEST_WAIT:
                raise Hopeless(
                    f"it asks to wait {error.after:.0f} s ({error}), longer than the "
                    f"{LONGEST_WAIT:.0f} s that a run waits; resume it later"
                ) from None
            raise

    def _negotiated(self, ask: Ask) -> Reply:
        """The reply in the manner that is known to work, or in the next that does.

        Only if another is taken was the manner what the server refused.
        """
        first: Refused | None = None
        manner: Manner | None = self._manner
        while manner is not None:
            try:
                reply = self._send(ask, manner)
            except Refused as error:
                if not error.negotiable or too_long(error):
                    raise
                first = first or error
                manner = self._next(manner, error, ask.schema)
                continue
            if reply.answers:
                self._learn(manner, first, ask, reply)
            return reply
        assert first is not None
        raise first

    def _next(self, manner: Manner, error: Refused, schema: Schema | None) -> Manner | None:
        """What to try after a refusal; None when all was tried."""
        words = set(re.findall(r"\w+", str(error)))
        spare = [f for f in self._spare(words.__contains__) if f not in manner.without]
        if spare:
            return replace(manner, without=manner.without | set(spare))
        weaker = self._forms[self._forms.index(manner.form) + 1 :]
        return replace(manner, form=weaker[0]) if schema is not None and weaker else None

    def _send(self, ask: Ask, manner: Manner) -> Reply:
        """One request and its reply. Raises Retry, Refused or Hopeless."""
        manner = replace(manner, form=suited(manner.form, ask.schema))
        request = self._request(ask, manner)
        length = sum(len(message.content) for message in ask.messages)
        most = int(length / CHARS_PER_TOKEN) + ask.max_tokens + self.room
        ask.sent += 1
        body = bytearray()
        headers: Mapping[str, str] = {}
        with self._limiter.turn(most) as turn:
            try:
                with self._post(request) as response:
                    headers = response.headers
                    receive(response, body)
                    reply = self._parsed(bytes(body), response.headers)
            except Retry as error:
                reply = self._paid(bytes(body), error)
            turn.tokens = reply.tokens_in + reply.tokens_out or most
        return replace(
            judged_by_text(lifted(reply, ask.schema)),
            model=reply.model or self.model,
            temperature=None if "temperature" in manner.without else self._temperature,
            form="" if ask.schema is None else manner.form,
            request_id=headers.get("x-request-id", "") or headers.get("request-id", ""),
        )

    def _paid(self, body: bytes, error: Retry) -> Reply:
        """What a body that is no answer or breaks off took. Raises `error` if it does not tell."""
        try:
            tokens = self._tokens(from_json(body, allow_partial=True))
        except ValueError:
            tokens = (0, 0, 0)
        if not any(tokens):
            raise error
        return Reply(str(error), self.model, *tokens, finish=UNUSABLE)

    def _parsed(self, body: bytes, headers: httpx2.Headers) -> Reply:
        kind = headers.get("content-type", "no content type")
        if not body:
            raise Retry("the answer is empty")
        if "json" not in kind:
            raise Retry(f"the answer is {kind}, not JSON; is {self.server} the API's base URL?")
        try:
            return self._read(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "body"
            start = self._clean(body[:200].decode(errors="replace"))
            problem = f"the answer is no completion ({where}: {first['msg']}): {start}"
        raise Retry(problem)

    def _learn(self, manner: Manner, refusal: Refused | None, ask: Ask, reply: Reply) -> None:
        """Keep what worked, and step down from a form that is taken and not heeded."""
        if ask.schema is not None:
            self._unheeded = 0 if heeds(reply, ask.schema) else self._unheeded + 1
            weaker = [f for f in self._forms[self._forms.index(manner.form) + 1 :]
                      if manner.form == "gbnf" or not f.endswith("_schema")]  # fmt: skip
            if self._unheeded >= UNHEEDED and weaker:
                why = f"{self._unheeded} replies in a row did not fit the schema under it"
                self._settle(replace(manner, form=weaker[0]), why)
                self._unheeded = 0
                return
        if refusal is not None and not (self._proven and manner.form != self._manner.form):
            self._settle(manner, f"it refused: {refusal}")
        elif refusal is not None:
            log.info("%s refused this schema as %s (%s)", self.name, self._manner.form, refusal)
        elif not self._proven and ask.schema is not None and not self._unheeded:
            self._settle(manner, "it takes the strongest form that is known for it")
        self._proven |= ask.schema is not None and not self._unheeded

    def _settle(self, manner: Manner, why: str) -> None:
        """Ask in this manner from now on, in later runs too."""
        told = logging.INFO if manner.form == self._forms[0] else logging.WARNING
        without = f" without {', '.join(sorted(manner.without))}" if manner.without else ""
        log.log(told, "%s: schemas go as %s%s (%s)", self.name, manner.form, without, why)
        self._manner = manner
        if self._memory is not None:
            self._memory.keep(self.server, self.model, manner, why)

    def _clean(self, text: str) -> str:
        return shown(text, self._secrets)
