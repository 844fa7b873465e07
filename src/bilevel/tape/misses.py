"""Why a tape has no answer: how the request differs from the nearest one that was recorded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import takewhile

from bilevel.model import Call, Message
from bilevel.protocols import Schema

__all__ = ["explain"]

LINE_CHARS = 160
BEFORE_CHARS = 40


def explain(
    calls: Sequence[Call],
    model: str,
    messages: Sequence[Message],
    schema: Schema | None,
    seed: int,
    max_tokens: int,
) -> str:
    """How the request differs from the nearest recorded one, the first differing line of both.

    The nearest is one with the request's seed, which stands for its step and purpose, if there is
    one; of several, or of all, the one whose prompt is the same for longest.
    """
    if not calls:
        return f"the record holds no call at all; the prompt ends: {messages[-1].content[-200:]!r}"
    asked = _text(messages)
    alike = [c for c in calls if c.seed == seed] or calls
    near = max(alike, key=lambda c: _common(_text(c.messages), asked))
    where = f"nearest is the recorded call of step {near.step} ({near.purpose})"
    recorded = _text(near.messages)
    if recorded != asked:
        return f"{where}, whose prompt differs first in {_difference(recorded, asked)}"
    differs = [
        f"its {name} was {old}, now it is {new}"
        for name, old, new in (
            ("model", near.model or model, model),
            ("seed", near.seed, seed),
            ("schema", near.schema, json.dumps(schema)),
            ("max_tokens", near.max_tokens, max_tokens),
        )
        if old != new
    ]
    if not differs:
        return f"{where}, the very same request, which was made less often or of another model"
    return f"{where} with the same prompt, but {'; '.join(differs)}"


def _text(messages: Sequence[Message]) -> str:
    """The messages as one text, of which each line says by itself where it stands."""
    return "\n".join(f"[{m.role}]\n{m.content}" for m in messages)


def _common(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    return sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(one, other, strict=False)))


def _difference(recorded: str, asked: str) -> str:
    old, new = recorded.split("\n"), asked.split("\n")
    alike = takewhile(lambda both: both[0] == both[1], zip(old, new, strict=False))
    number = sum(1 for _ in alike)
    lines = [part[number] if number < len(part) else None for part in (old, new)]
    at = _common(lines[0] or "", lines[1] or "")
    return f"line {number + 1}:\nrecorded: {_cut(lines[0], at)}\nnow:      {_cut(lines[1], at)}"


def _cut(line: str | None, at: int) -> str:
    """The part of a line around `at`."""
    if not line:
        return "(no such line)" if line is None else "(an empty line)"
    begin = 0 if len(line) <= LINE_CHARS else max(0, at - BEFORE_CHARS)
    before, after = "..." * (begin > 0), "..." * (begin + LINE_CHARS < len(line))
    return f"{before}{line[begin : begin + LINE_CHARS]}{after}"
