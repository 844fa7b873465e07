"""Texts of several lines in a prompt: as they are, fenced, after the line that names them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bilevel.model import Space, Values

FENCE = "```"


def fenced(name: str, text: str) -> str:
    """The text between two fences, the first with its name; no line of the text can end it."""
    body = text.removesuffix("\n")
    inside = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(len(FENCE), inside + 1)
    return f"{fence}{name}\n{body}\n{fence}"


def below(space: Space, names: Iterable[str], values: Values) -> str:
    """What follows a line that names these parameters: those texts, each fenced; or ""."""
    return "".join(f"\n{fenced(n, str(values[n]))}" for n in names if space[n].multiline)
