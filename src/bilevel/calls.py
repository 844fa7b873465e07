"""What is said to a model and what it answers, as the log keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Prompt:
    """What is said to the LLM. cut: what was left out of it for its length, "" for nothing."""

    messages: tuple[Message, ...]
    cut: str = ""


TOO_LONG = "context"  # how a reply ended, where the model could not read the prompt and answer it
UNUSABLE = "unusable"  # where it is paid for and holds nothing to use


@dataclass(frozen=True)
class Reply:
    """A completion. Tokens are the server's counts; `tokens_cached` of `tokens_in` were reused.

    finish: why it ended; of one that ended as TOO_LONG or UNUSABLE the text says what was wrong.

    model: as the server names it. attempts: requests that it took, 0 for a reply taken over from
    another run. temperature: as it was sent, None if it was left to the server. form: in which way
    the server was held to the schema, "" where it was not or is not known. request_id: the
    provider's. taken: the run whose tape gave the reply, "" for one of the model itself. cost: in
    US dollars, where whoever answered says it itself, else None. counted: whether it tells its
    tokens; where not, they are unknown and stand as 0.
    """

    text: str
    model: str
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    seconds: float = 0.0
    reasoning: str = ""
    finish: str = "stop"
    attempts: int = 1
    temperature: float | None = None
    form: str = ""
    request_id: str = ""
    taken: str = ""
    cost: float | None = None
    counted: bool = True

    @property
    def answers(self) -> bool:
        """Whether there is an answer in it."""
        return self.finish not in (TOO_LONG, UNUSABLE)


@dataclass(frozen=True)
class Call:
    """An LLM call with everything needed to replay it. key: hash of the request, see tape.py.

    model: which of the run's models was asked, by the run's name for it; "" in logs of before.
    cut: what was left out of the messages for their length, "" for nothing.
    """

    key: str
    step: int
    level: Literal["1", "1.5", "2"]
    purpose: str
    messages: tuple[Message, ...]
    schema: str
    seed: int
    max_tokens: int
    reply: Reply
    model: str = ""
    cut: str = ""
