"""The clients of both kinds of API, made alike for tests that hold for either."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from fake_openai import Answer, FakeOpenAI, completion, message

from bilevel.llm.http import HttpLLM
from bilevel.llm.remote import RemoteLLM
from bilevel.model import Message, Reply

TALK = (Message("system", "Be brief."), Message("user", "Propose."))
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
KEY = "sk-planted-0123456789"

needs_anthropic = pytest.mark.skipif(
    importlib.util.find_spec("anthropic") is None,
    reason="needs anthropic: pip install 'bilevel[anthropic]'",
)


def openai_llm(root: str, **more: Any) -> RemoteLLM:
    return HttpLLM(f"{root}/v1", "m", **more)


def anthropic_llm(root: str, **more: Any) -> RemoteLLM:
    from bilevel.llm.anthropic import AnthropicLLM

    return AnthropicLLM(root, "m", **more)


@dataclass(frozen=True)
class Adapter:
    """A client and what its server says: a text, or a text cut short by the limit."""

    make: Callable[..., RemoteLLM]
    says: Callable[..., Answer]
    cut: Callable[..., Answer]
    path: str

    def client(self, fake: FakeOpenAI, **more: Any) -> "Client":
        return Client(self, fake.root, **more)


class Client:
    """Asks once, and sleeps on paper only."""

    def __init__(self, adapter: Adapter, root: str, **more: Any) -> None:
        self.slept: list[float] = []
        settings = {"timeout": 5, "attempts": 3, "sleep": self.slept.append, **more}
        settings.setdefault("busy_attempts", settings["attempts"])
        self.llm = adapter.make(root, **settings)

    def ask(self, schema: dict[str, Any] | None = None, seed: int = 7) -> Reply:
        try:
            return self.llm.complete(TALK, schema, seed=seed, max_tokens=50)
        finally:
            self.llm.close()


OPENAI = Adapter(
    openai_llm, completion, lambda t: completion(t, finish="length"), "/v1/chat/completions"
)
ANTHROPIC = Adapter(anthropic_llm, message, lambda t: message(t, stop="max_tokens"), "/v1/messages")
ADAPTERS = [
    pytest.param(OPENAI, id="openai"),
    pytest.param(ANTHROPIC, id="anthropic", marks=needs_anthropic),
]
