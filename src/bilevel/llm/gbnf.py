"""A JSON schema as a grammar of llama.cpp, narrower than the one that its server makes.

The server's leaves numbers unbounded and lets a model spend a third of its tokens on line breaks.
Under this one JSON stands on one line, lists of texts apart, and numbers lie within their bounds,
written without exponents. The notation is that of `grammars/README.md` in llama.cpp's repository.

A model that would have gone on otherwise (with a line break after a bracket, a number after a
colon) has written a token of the bracket or the blank alone. Then a quote must follow, and the
tokens that begin with one are mostly a quote and a slash or a bracket: of eight texts of
Qwen2.5-Coder-1.5B five or six began so, and went on as nonsense. Hence a list of texts may break
its line, and a text of a least length, which is prose, begins with a letter. A capital one is
worse: three of seven texts then were a heading of the prompt or no word ("Round 1: explore").
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from bilevel.protocols import Schema

DIGITS = 6  # significant ones that are told apart at the smaller end of a range
REPEATS = 1000  # of a character in a row; llama.cpp refused a grammar with 4000
STRING = r"""
line ::= "\n" " "{0,16}
first ::= [A-Za-z]
char ::= [^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})
number ::= "-"? ("0" | [1-9] [0-9]{0,15}) ("." [0-9]{1,15})? ([eE] [-+]? [0-9]{1,3})?
"""


class Inexpressible(ValueError):
    """The schema says something that `gbnf` has no words for."""


def gbnf(schema: Schema) -> str:
    """The grammar of all texts that fit the schema. Raises Inexpressible."""
    rules: dict[str, str] = {}
    root = _value(schema, rules)
    named = "".join(f"{name} ::= {body}\n" for body, name in rules.items())
    return f"root ::= {root}\n{named}{STRING.lstrip()}"


def _value(schema: Schema, rules: dict[str, str]) -> str:
    """An expression for the schema; what it is made of becomes rules, equal parts one rule."""
    if "const" in schema:
        return _literal(schema["const"])
    if "enum" in schema:
        return _either([_literal(value) for value in schema["enum"]])
    known = _KINDS.get("anyOf" if "anyOf" in schema else str(schema.get("type")))
    if known is None or "pattern" in schema:
        raise Inexpressible(f"no grammar is known for {json.dumps(schema)[:80]}")
    body = known(schema, rules)
    return rules.setdefault(body, f"r{len(rules)}")


def _object(schema: Schema, rules: dict[str, str]) -> str:
    fields = schema.get("properties", {})
    if list(schema.get("required", ())) != list(fields):
        raise Inexpressible("an object some of whose properties may be missing")
    parts = []
    for place, (name, value) in enumerate(fields.items()):
        before = f"{', ' if place else ''}{json.dumps(name, ensure_ascii=False)}: "
        parts.append(f"{_quoted(before)} {_value(value, rules)}")
    return " ".join(['"{"', *parts, '"}"'])


def _array(schema: Schema, rules: dict[str, str]) -> str:
    least, most = schema.get("minItems", 0), schema.get("maxItems")
    item = _value(schema["items"], rules)
    if most == 0:
        return '"[" "]"'
    texts = _is_text(schema["items"])
    comma, line = ('"," (" " | line)', "line? ") if texts else ('", "', "")
    more = f"({comma} {item}){{{max(least - 1, 0)},{'' if most is None else most - 1}}}"
    items = f"{line}{item} {more} {line}".rstrip()
    return f'"[" {items if least else f"({items})?"} "]"'


def _is_text(schema: Schema) -> bool:
    parts = schema.get("anyOf") or schema.get("enum") or (schema.get("const"),)
    return schema.get("type") == "string" or any(
        _is_text(part) if isinstance(part, dict) else isinstance(part, str) for part in parts
    )


def _string(schema: Schema, rules: dict[str, str]) -> str:
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    parts = []
    if least:
        parts, least, most = ["first"], least - 1, None if most is None else most - 1
    while max(least, most or 0) > REPEATS:
        parts.append(f"char{{{min(least, REPEATS)},{REPEATS}}}")
        least, most = max(least - REPEATS, 0), None if most is None else most - REPEATS
    parts.append(f"char{{{least},{'' if most is None else most}}}")
    return rf'"\"" {" ".join(parts)} "\""'


def _any_of(schema: Schema, rules: dict[str, str]) -> str:
    return _either([_value(part, rules) for part in schema["anyOf"]])


def _number(schema: Schema, rules: dict[str, str]) -> str:
    if "minimum" not in schema or "maximum" not in schema:
        return "number"
    low, high = (Decimal(repr(float(schema[bound]))) for bound in ("minimum", "maximum"))
    return between(low, high, _places(low, high))


def _integer(schema: Schema, rules: dict[str, str]) -> str:
    if "minimum" not in schema or "maximum" not in schema:
        return '"-"? ("0" | [1-9] [0-9]{0,18})'
    return between(Decimal(schema["minimum"]), Decimal(schema["maximum"]), 0)


_KINDS: dict[str, Callable[[Schema, dict[str, str]], str]] = {
    "anyOf": _any_of,
    "object": _object,
    "array": _array,
    "string": _string,
    "number": _number,
    "integer": _integer,
    "boolean": lambda schema, rules: '"true" | "false"',
    "null": lambda schema, rules: '"null"',
}


def between(low: Decimal, high: Decimal, places: int) -> str:
    """An expression for the decimals from low to high with at most `places` after the point.

    Raises Inexpressible where there are none.
    """
    unit = Decimal(1).scaleb(-places)
    least = int((low / unit).to_integral_value(ROUND_CEILING))
    most = int((high / unit).to_integral_value(ROUND_FLOOR))
    if least > most:
        raise Inexpressible(f"no number of {places} places lies from {low} to {high}")
    found = []
    if least < 0:
        found.append(f'"-" {_magnitudes(max(1, -most), -least, places)}')
    if most >= 0:
        found.append(_magnitudes(max(0, least), most, places))
    return _either(found)


def _places(low: Decimal, high: Decimal) -> int:
    """Places after the point that tell DIGITS digits apart at the smaller end of the range."""
    sizes = [float(abs(size)) for size in (low, high, high - low) if size]
    fine = DIGITS - 1 - min((math.floor(math.log10(size)) for size in sizes), default=0)
    return max(fine, 0) if low != high else max(0, -int(low.normalize().as_tuple().exponent))


def _magnitudes(least: int, most: int, places: int) -> str:
    """Numbers without a sign from least to most units of the last place."""
    found = []
    shortest, longest = (len(str(n).zfill(places + 1)) for n in (least, most))
    for length in range(shortest, longest + 1):
        low = least if length == shortest else 10 ** (length - 1)
        high = most if length == longest else 10**length - 1
        digits = str(low).zfill(length), str(high).zfill(length)
        found.append(_whole(*digits, length - places))
    return _either(found)


def _whole(low: str, high: str, left: int) -> str:
    """Digits from low to high, of which `left` stand before the point."""
    if left:
        return _branches(low, high, lambda a, b: _whole(a, b, left - 1))
    if not low:
        return ""
    fraction = f'"." {_fraction(low, high)}'
    return fraction if low.strip("0") else f"({fraction})?"


def _fraction(low: str, high: str) -> str:
    """One digit or more after the point; where zeros could follow they can be left out."""
    if not low.strip("0") and not high.strip("9"):
        return f"[0-9]{{1,{len(low)}}}"

    def rest(a: str, b: str) -> str:
        if not a:
            return ""
        return _fraction(a, b) if a.strip("0") else f"({_fraction(a, b)})?"

    return _branches(low, high, rest)


def _branches(low: str, high: str, rest: Callable[[str, str], str]) -> str:
    """By its first digit: the lowest, the highest, and those after which all digits may come.

    An end after which all may come counts among the last, so a digit more adds a part, and does not
    double the grammar.
    """
    first, last, more = int(low[0]), int(high[0]), len(low) - 1
    zeros, nines, found = "0" * more, "9" * more, []
    if first == last:
        return f'"{first}" {rest(low[1:], high[1:])}'.rstrip()
    if low[1:] != zeros:
        found.append(f'"{first}" {rest(low[1:], nines)}')
        first += 1
    if high[1:] != nines:
        found.append(f'"{last}" {rest(zeros, high[1:])}')
        last -= 1
    if first <= last:
        found.append(f"[{first}-{last}] {rest(zeros, nines)}")
    return _either([part.rstrip() for part in found])


def _either(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"({' | '.join(parts)})"


def _literal(value: object) -> str:
    return _quoted(json.dumps(value, ensure_ascii=False))


def _quoted(text: str) -> str:
    """A text that stands as it is; JSON has no control characters in it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
