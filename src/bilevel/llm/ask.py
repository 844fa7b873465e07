"""One completion on its way: what it asks for, and what it has taken so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bilevel.llm.faults import Empty
from bilevel.model import Message, Reply
from bilevel.protocols import Schema

REFUSALS = ("refusal", "content_filter")


@dataclass
class Ask:
    """A request for a completion. sent: requests made over HTTP, empty: those of no use.

    wasted: tokens in, out and cached of replies that could not be used, and are paid for.
    """

    messages: Sequence[Message]
    schema: Schema | None
    seed: int
    max_tokens: int
    sent: int = 0
    empty: int = 0
    wasted: tuple[int, int, int] = (0, 0, 0)

    def waste(self, reply: Reply) -> None:
        read, written, cached = self.wasted
        self.wasted = (
            read + reply.tokens_in, written + reply.tokens_out, cached + reply.tokens_cached
        )  # fmt: skip
        self.empty += 1

    def whole(self, reply: Reply, seconds: float) -> Reply:
        """The reply with all that it took."""
        read, written, cached = self.wasted
        return replace(
            reply,
            tokens_in=reply.tokens_in + read,
            tokens_out=reply.tokens_out + written,
            tokens_cached=reply.tokens_cached + cached,
            seconds=seconds,
            attempts=self.sent,
        )


def usable(reply: Reply) -> Reply:
    """The reply with a text. Raises Empty where it has none, unless the model would not."""
    if reply.text.strip():
        return reply
    if reply.finish not in REFUSALS:
        raise Empty(_emptiness(reply))
    return replace(reply, text="(the model refused, without a word)")


def _emptiness(reply: Reply) -> str:
    held = "thoughts only" if reply.reasoning else "no text"
    limit = "; max_tokens is too small, give it room to think: ?thoughts=8192 at the end of --llm"
    cut = limit if reply.finish == "length" else ""
    return f"the reply holds {held} (finish: {reply.finish}){cut}"
