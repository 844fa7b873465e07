"""The ways in which `llm_speed.py` asks the embedded LLM: requests, cache, threads, settings."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx2
import llm_server
from llm_requests import Request, offhand, unheld

from bilevel.llm import launch
from bilevel.llm.embedded import EmbeddedLLM
from bilevel.llm.http import HttpLLM
from bilevel.llm.launch import ModelServer
from bilevel.model import Message

SPECULATIVE = "common_speculative_type.COMMON_SPECULATIVE_TYPE_NGRAM_"
ATTENTION = "llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED"


@dataclass(frozen=True)
class Way:
    """One way of asking. put: makes the request of the recorded one. cached: prompts' beginnings.

    same: whether the request is the shipped one, so that the replies can be compared. settings,
    environment: see `llm_server.py`.
    """

    what: str
    put: Callable[[Request], Request] = lambda request: request
    same: bool = True
    cached: bool = True
    threads: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


def _ngram(kind: str, **sizes: int) -> dict[str, Any]:
    settings: dict[str, Any] = {"speculative.types": [f"{SPECULATIVE}{kind.upper()}"]}
    return settings | {f"speculative.ngram_{kind}.{name}": n for name, n in sizes.items()}


def _cache(kind: str) -> dict[str, Any]:
    return {f"cache_type_{part}": f"ggml_type.GGML_TYPE_{kind}" for part in "kv"}


WAYS = {
    "shipped": Way("as shipped"),
    "naive": Way("what changes first, free text, no cache", offhand, same=False, cached=False),
    "uncached": Way("no prefix cache", cached=False),
    "unheld": Way("no schema, the form told in words", unheld, same=False),
    "threads-1": Way("1 thread", threads=1),
    "threads-2": Way("2 threads", threads=2),
    "batch-512": Way("read 512 tokens at a time", settings={"n_batch": 512, "n_ubatch": 512}),
    "batch-128": Way("read 128 tokens at a time", settings={"n_batch": 128, "n_ubatch": 128}),
    "ngram-simple": Way(
        "drafts of 6 after 3 tokens seen in the prompt",
        settings=_ngram("simple", size_n=3, size_m=6),
    ),
    "ngram-mod": Way(
        "drafts of up to 6 after 4 tokens seen in any request",
        settings=_ngram("mod", n_match=4, n_min=1, n_max=6),
    ),
    "kv-q8": Way(
        "K and V cached as q8_0, flash attention",
        settings=_cache("Q8_0") | {"flash_attn_type": ATTENTION},
    ),
    "kv-f32": Way("K and V cached as f32", settings=_cache("F32")),
    "flash": Way("flash attention", settings={"flash_attn_type": ATTENTION}),
    "repacked": Way("repacked weights", settings={"no_extra_bufts": False}),
}
# Those whose figures are wanted each time; the others take a name in --ways.
USUAL = [name for name in WAYS if name not in ("batch-128", "kv-f32", "flash", "repacked")]


@dataclass(frozen=True)
class Counts:
    """What a server did since it started: tokens of prompts that it computed, tokens it wrote."""

    read: int
    read_seconds: float
    written: int
    written_seconds: float

    def since(self, before: Counts) -> Counts:
        return Counts(
            self.read - before.read,
            self.read_seconds - before.read_seconds,
            self.written - before.written,
            self.written_seconds - before.written_seconds,
        )


class Varied(EmbeddedLLM):
    """The embedded LLM, asked another way."""

    def __init__(self, model: str, way: Way) -> None:
        super().__init__(model, threads=way.threads)
        self._way = way

    def counts(self) -> Counts:
        server = self._running()
        answer = httpx2.get(
            f"{server.url}/metrics",
            headers={"Authorization": f"Bearer {server.key}"},
            trust_env=False,
        ).raise_for_status()
        lines = (line.split() for line in answer.text.splitlines() if not line.startswith("#"))
        found = {name.removeprefix("llamacpp:"): float(value) for name, value in lines}
        return Counts(
            int(found["prompt_tokens_total"]),
            found["prompt_seconds_total"],
            int(found["tokens_predicted_total"]),
            found["tokens_predicted_seconds_total"],
        )

    def _client(self, server: ModelServer, slot: int) -> HttpLLM:
        client = super()._client(server, slot)
        client._extra_body["cache_prompt"] = self._way.cached
        return client

    def _read(self, server: ModelServer, beginning: Sequence[Message], slot: int) -> None:
        if self._way.cached:
            super()._read(server, beginning, slot)


@contextmanager
def varied(model: str, way: Way) -> Iterator[Varied]:
    """The model, asked that way, with its server for as long as it is used."""
    changes = {"settings": dict(way.settings), "environment": dict(way.environment)}
    script = Path(llm_server.__file__)
    with (
        patch.object(launch, "SCRIPT", script),
        patch.dict(os.environ, {llm_server.VARIABLE: json.dumps(changes)}),
        closing(Varied(model, way)) as llm,
    ):
        yield llm
