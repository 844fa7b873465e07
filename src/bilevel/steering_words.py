"""Guidance without values: which words of a text are values, and the text without them.

A value is a number in any spelling (0.04, 2**14, 2^14, 1e-3, 10%, 1,000, #12) or a choice of the
space. Directions and degrees in words ("raise", "halve") are none, nor are the names of
parameters, whatever digits they hold, nor is the number of a thing that has several parameters
("point 11" of u11 and v11).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from bilevel.space import Space

_NUMBER = r"(?<!\w)[-+.#=~<>≈≤≥−$]*\d(?:[\w.,*^/%:+\-–−⁄]*[\w%])?"
_BEFORE = (
    "to|by|at|of|from|between|around|about|near|below|above|under|over|than|with|like|is|be|or|and"
)
_THINGS = r"(?i:points?|circles?|nodes?|layers?|blocks?|stages?|groups?|items?|units?|parts?)"
_QUOTES = "\"'`“”‘’"


def values_in(space: Space, text: str) -> tuple[str, ...]:
    """The values that a text names, as it spells them, in order."""
    return tuple(m["value"] for m in _pattern(space).finditer(_normal(text)) if m["value"])


def without_values(space: Space, text: str) -> str:
    """The text with its values cut out, and the prepositions that led to them."""
    text = _normal(text)
    while values_in(space, text):
        text = _pattern(space).sub(lambda m: m[0] if m["name"] else " ", text)
        text = re.sub(rf"\(\s*[,;]*\s*\)|\[\s*[,;]*\s*\]|[{_QUOTES}]\s*[{_QUOTES}]", " ", text)
        text = re.sub(r"\s*[*^/×=]+\s*(?=\s|$)", " ", text)
        text = re.sub(r"\s+([.,;:!?)])", r"\1", " ".join(text.split()))
        text = re.sub(r"[,;:]+(?=[.,;:!?])", "", text).strip(" ,;:-–")
    return text if any(c.isalpha() for c in text) else ""


def plain(text: str) -> str:
    """Untrusted text as one line of printable characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _normal(text: str) -> str:
    # Superscripts, fractions and full-width digits become plain ones.
    return plain(unicodedata.normalize("NFKC", text))


def _pattern(space: Space) -> re.Pattern[str]:
    """Matches a name, kept as it is, or a value with the words that lead to it."""
    number = rf"{_any(_numbered(space))}(?![\w%]|[.,]\d)"
    things = rf"{_THINGS}\s+#?{number}(?:\s*(?:,|and|or|,\s*(?:and|or))\s*#?{number})*"
    names = f"(?:{_any(space.names)}|{things})"
    choices = {c for p in space for c in p.choices if isinstance(c, str) and c}
    flags = {w for p in space for c in p.choices if isinstance(c, bool) for w in _FLAGS[c]}
    # An ordinary word ("linear") may be said; it is a value where it is quoted.
    bare = {c for c in choices if len(c) > 1 and not (c.isalpha() and c.islower())} | flags
    value = "|".join(
        [
            rf"[{_QUOTES}]{_any(choices)}[{_QUOTES}]",
            rf"(?<!\w){_any(bare)}(?!\w)",
            _NUMBER,
        ]
    )
    lead = rf"(?:\b(?i:{_BEFORE})\s+)*"
    return re.compile(rf"(?<!\w)(?P<name>{names})(?!\w)|{lead}(?P<value>{value})")


def _numbered(space: Space) -> list[str]:
    """Numbers of things, where some have several parameters each, as u2 and v2 are of point 2."""
    ends = Counter(int(m[0]) for name in space.names if (m := re.search(r"\d{1,3}$", name)))
    shared = any(count > 1 for count in ends.values())
    return [str(number) for number in range(max(ends) + 1)] if shared else []


_FLAGS = {True: ("true", "True"), False: ("false", "False")}


def _any(words: Iterable[str]) -> str:
    """One of the words, the longest that fits; nothing at all for none."""
    listed = sorted(words, key=lambda w: (-len(w), w))
    return "(?:" + ("|".join(map(re.escape, listed)) or "(?!)") + ")"
