"""A language model on this machine's CPU, with no key: xllamacpp in a child process.

A reply depends on model, messages, schema, seed and temperature alone, so that a resumed run
takes the decisions of one that never stopped. As llama.cpp stands it also depends on what the
prompt cache held: the same sums run in another order when another number of tokens is read at
once. The server's settings (`server.py`) make that independent of the number from 8 tokens on,
and `unwinding.py` keeps less than that, and whatever was written, out of the cache.
Measured with both models of the registry, warm against cold cache and 1 against 2 threads: log
probabilities equal to the last bit. What remains: a prompt of over 2048 tokens whose length
leaves 1 to 7 when divided by 2048.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import httpx2
import psutil

from bilevel.errors import LLMRejected, LLMUnavailable, MissingExtra, WeightsError
from bilevel.llm import weights
from bilevel.llm.ask import full
from bilevel.llm.http import HttpLLM
from bilevel.llm.launch import ModelServer
from bilevel.llm.naming import TEMPERATURE, label
from bilevel.llm.registry import DEFAULT
from bilevel.llm.unwinding import unwinding
from bilevel.llm.wire import plain
from bilevel.model import TOO_LONG, Message, Reply
from bilevel.protocols import Schema

log = logging.getLogger(__name__)
MOST_THREADS = 16
SLOTS = 3  # prompts kept read: of proposals, of research, and of the writing of mechanisms
QUOTA = Path("/sys/fs/cgroup/cpu.max")


class EmbeddedLLM:
    """A model of the registry, or any .gguf file, served by a child process while this one lives.

    The weights are fetched here; the server starts with the first completion.
    threads: `cores()` unless given. context: tokens of prompt and reply together. timeout:
    seconds for one completion. patience: seconds for the server to start.
    Raises MissingExtra, WeightsError, or ConfigError for an unknown name.
    """

    def __init__(
        self,
        model: str | Path = DEFAULT,
        *,
        threads: int | None = None,
        context: int = 8192,
        temperature: float = TEMPERATURE,
        timeout: float = 900.0,
        patience: float = 180.0,
        progress: weights.Progress | None = None,
    ) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise MissingExtra(
                "the embedded LLM needs xllamacpp, which is not installed; "
                "get it: pip install 'bilevel[local]'"
            )
        path = _file(model)
        self.path = weights.pull(str(model), progress) if path is None else path
        self.model = str(model) if path is None else path.stem
        self.name = label(f"{self.model}@embedded", temperature)
        self._threads = threads or cores()
        self._context = context
        self._temperature = temperature
        self._timeout = timeout
        self._patience = patience
        self._server: ModelServer | None = None
        self._clients: list[HttpLLM] = []
        self._last: dict[int, tuple[Message, ...]] = {}  # by slot, the one used last at the end

    @property
    def pid(self) -> int | None:
        """Process id of the server, None while there is none."""
        return None if self._server is None else self._server.pid

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        """One completion; a server that dies over it is started again, once.

        One that the context has no room to end in is TOO_LONG. Raises ContextTooLong (a prompt
        beyond the context), LLMUnavailable.
        """
        start = time.monotonic()
        talk = tuple(messages)
        for attempt in (1, 2):
            server = self._running()
            slot = self._slot(talk)
            last = self._last.pop(slot, ())
            beginning = unwinding(last, talk)
            try:
                if beginning:
                    self._read(server, beginning, slot)
                self._last[slot] = talk
                reply = self._clients[slot].complete(talk, schema, seed=seed, max_tokens=max_tokens)
            except LLMRejected:  # The talk was not read, and what was read before stays.
                self._last[slot] = tuple(beginning) or last
                raise
            except LLMUnavailable:
                if not server.ended(within=1.0):
                    raise
                self._lost(server, again=attempt == 1)
                continue
            if reply.finish == "length" and reply.tokens_in + max_tokens > self._context:
                reply = replace(reply, finish=TOO_LONG, text=full(reply))
            return replace(reply, seconds=time.monotonic() - start, attempts=attempt)
        raise AssertionError("the second loss of the server raises")

    def close(self) -> None:
        """End the server. May be called twice."""
        for client in self._clients:
            client.close()
        if self._server is not None:
            self._server.stop()
        self._server, self._clients, self._last = None, [], {}

    def _running(self) -> ModelServer:
        if self._server is None:
            self._server = ModelServer(
                self.path, self.model, self._threads, self._context, self._patience, SLOTS
            )
            self._clients = [self._client(self._server, slot) for slot in range(SLOTS)]
        return self._server

    def _client(self, server: ModelServer, slot: int) -> HttpLLM:
        return HttpLLM(
            f"{server.url}/v1",
            self.model,
            server.key,
            timeout=self._timeout,
            attempts=2,
            busy_attempts=2,
            temperature=self._temperature,
            extra_body={"cache_prompt": True, "id_slot": slot},
            forms=("gbnf", "json_schema"),
            name=self.name,
        )

    def _slot(self, talk: Sequence[Message]) -> int:
        """The slot whose last prompt began with the same message; else a free, or the oldest."""
        for slot, last in self._last.items():
            if last[:1] == tuple(talk[:1]):
                return slot
        free = [slot for slot in range(SLOTS) if slot not in self._last]
        return free[0] if free else next(iter(self._last))

    def _lost(self, server: ModelServer, *, again: bool) -> None:
        """Clear up after a dead server. Raises LLMUnavailable unless it may start again."""
        how = server.tail()
        self.close()
        if not again:
            raise LLMUnavailable(
                f"the server of {self.model} ended twice over one request ({how}); "
                "see that memory suffices, or use a smaller model"
            )
        log.warning(
            "the server of %s ended during a request (%s); starting it again", self.model, how
        )

    def _read(self, server: ModelServer, beginning: Sequence[Message], slot: int) -> None:
        """Leave in a slot's prompt cache no more than `beginning`. Raises LLMUnavailable."""
        body = {
            "messages": plain(beginning),
            "max_tokens": 1,
            "cache_prompt": True,
            "id_slot": slot,
        }
        try:
            httpx2.post(
                f"{server.url}/v1/chat/completions",
                json=body,
                headers={"Authorization": f"Bearer {server.key}"},
                timeout=self._timeout,
                trust_env=False,
            ).raise_for_status()
        except httpx2.HTTPError as error:
            raise LLMUnavailable(
                f"the server of {self.model} could not wind back its prompt cache: {error}"
            ) from None


def cores() -> int:
    """Cores this process may use, at most 16: physical ones, and no more than a cgroup's quota.

    More threads gain little, since writing a token waits for memory. Linux only counts what the
    process may use; elsewhere all cores count.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    counts = [allowed or 1, psutil.cpu_count(logical=False) or allowed or 1, MOST_THREADS]
    if QUOTA.exists():
        quota, period = QUOTA.read_text().split()
        if quota != "max":
            counts.append(math.ceil(int(quota) / int(period)))
    return max(1, min(counts))


def _file(model: str | Path) -> Path | None:
    """The .gguf file that `model` names, None for a name of the registry."""
    path = Path(model).expanduser()
    if path.suffix != ".gguf" and path.name == str(model):
        return None
    if not path.is_file():
        raise WeightsError(f"there is no file {path}; give the path of a .gguf, or a model's name")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise WeightsError(f"{path} is not in the GGUF format; give one that is")
    return path
