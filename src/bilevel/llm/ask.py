"""One completion on its way: what it asks for, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bilevel.model import TOO_LONG, UNUSABLE, Message, Reply
from bilevel.protocols import Schema

REFUSALS = ("refusal", "content_filter")


@dataclass
class Ask:
    """A request for a completion. sent: requests made over HTTP."""

    messages: Sequence[Message]
    schema: Schema | None
    seed: int
    max_tokens: int
    sent: int = 0


def judged_by_text(reply: Reply) -> Reply:
    """The reply, which says in words where it holds no answer; a model may refuse without any."""
    if reply.finish == TOO_LONG:
        return replace(reply, text=full(reply))
    if reply.text.strip() or not reply.answers:
        return reply
    if reply.finish in REFUSALS:
        return replace(reply, text="(the model refused, without a word)")
    return replace(reply, text=_emptiness(reply), finish=UNUSABLE)


def full(reply: Reply) -> str:
    """What is to be said where the context ended before the reply did."""
    return (
        f"the context was full after {reply.tokens_in} tokens of prompt and {reply.tokens_out} of "
        "reply; use a model or a server setting with a longer context"
    )


def _emptiness(reply: Reply) -> str:
    held = "thoughts only" if reply.reasoning else "no text"
    limit = "; max_tokens is too small, give it room to think: ?thoughts=8192 at the end of --llm"
    cut = limit if reply.finish == "length" else ""
    return f"the reply holds {held} (finish: {reply.finish}){cut}"
