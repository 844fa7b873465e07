"""When and how far the prompt cache must be cut back, so that it leaves no mark on a reply.

llama.cpp keeps the longest prefix that a request shares with the last one. Two things in it would
show: tokens that were written, not read, and a rest so short that it is read by other sums (under
8 tokens with K-quants, measured; the model's own marks at a prompt's end are about 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from bilevel.model import Message

MARGIN = 64  # characters; more than 8 tokens of any text but blanks


def unwinding(last: Sequence[Message], new: Sequence[Message]) -> list[Message]:
    """The prompt that cuts the cache of `last` back far enough for `new`; empty if it need not be.

    It is a beginning of what both share, so that the server reads little for it.
    """
    shared = _shared(last, new)
    goes_on = shared == _length(last)
    if not last or not (goes_on or _length(new) - shared < MARGIN):
        return []
    return _beginning(last, max(0, shared - MARGIN))


def _length(talk: Sequence[Message]) -> int:
    return sum(len(m.content) for m in talk)


def _shared(last: Sequence[Message], new: Sequence[Message]) -> int:
    """Characters of content up to the first difference."""
    count = 0
    for a, b in zip(last, new, strict=False):
        if a.role != b.role:
            break
        count += sum(1 for _ in takewhile(_same, zip(a.content, b.content, strict=False)))
        if a.content != b.content:
            break
    return count


def _same(pair: tuple[str, str]) -> bool:
    return pair[0] == pair[1]


def _beginning(talk: Sequence[Message], length: int) -> list[Message]:
    """The first `length` characters of a talk, back to where they end inside a question."""
    kept: list[Message] = []
    for message in talk:
        kept.append(replace(message, content=message.content[:length]))
        if length <= len(message.content):
            break
        length -= len(message.content)
    while len(kept) > 1 and kept[-1].role == "assistant":
        kept.pop()
        kept[-1] = replace(kept[-1], content=kept[-1].content[:-MARGIN])
    return kept
