"""A schema in llama.cpp's grammar: what it lets through is what fits, in its bounds."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilevel.llm.gbnf import Inexpressible, between, gbnf
from bilevel.protocols import Schema

BOUND = st.integers(-20_000, 20_000)


def regex(expression: str) -> re.Pattern[str]:
    """An expression of numbers as Python's regular expression: quotes and blanks go."""
    assert re.fullmatch(r'[-0-9."|()\[\]{},? ]+', expression)
    return re.compile(re.sub(r'[" ]', "", expression.replace('"."', r"\.")))


@given(BOUND, BOUND, BOUND, st.integers(0, 4))
def test_a_number_passes_exactly_where_it_lies_between_the_bounds(
    one: int, other: int, number: int, places: int
) -> None:
    low, high = sorted((one, other))
    least, most = (Decimal(n).scaleb(-places) for n in (low, high))
    pattern = regex(between(least, most, places))
    for near in {low - 1, low, low + 1, number, high - 1, high, high + 1}:
        written = f"{Decimal(near).scaleb(-places):f}"
        assert bool(pattern.fullmatch(written)) == (low <= near <= high), written
        short = written.rstrip("0").rstrip(".") if "." in written else written
        assert bool(pattern.fullmatch(short)) == (low <= near <= high), short


def test_numbers_are_written_as_json_has_them() -> None:
    pattern = regex(between(Decimal("-3.5"), Decimal("120"), 3))
    for text in ("0", "0.5", "-3.5", "-3.499", "7", "99.999", "120", "120.000"):
        assert pattern.fullmatch(text), text
        assert isinstance(json.loads(text), int | float)
    for text in ("00", "01", ".5", "5.", "+5", "1e2", "120.001", "-3.501", "1.2345", "--3", ""):
        assert not pattern.fullmatch(text), text


def test_bounds_with_more_places_than_are_written_are_kept_to_from_within() -> None:
    pattern = regex(between(Decimal("0.84549999"), Decimal("0.84900001"), 4))
    assert [t for t in ("0.8454", "0.8455", "0.849", "0.8491") if pattern.fullmatch(t)] == [
        "0.8455",
        "0.849",
    ]
    with pytest.raises(Inexpressible, match="no number of 2 places"):
        between(Decimal("0.001"), Decimal("0.009"), 2)


@pytest.mark.parametrize("bounds", [(1e-9, 3e-9), (-1e-7, 5.0), (0.5, 0.5), (0.0, 0.0), (1, 1e9)])
def test_a_range_of_any_size_has_numbers(bounds: tuple[float, float]) -> None:
    low, high = bounds
    said = gbnf({"type": "number", "minimum": low, "maximum": high})
    body = re.search(r"^r0 ::= (.*)$", said, re.M)
    assert body
    pattern = regex(body.group(1))
    for number in {low, high, (low + high) / 2}:
        assert pattern.fullmatch(f"{Decimal(repr(float(number))).normalize():f}"), number


def test_a_range_of_many_digits_adds_parts_and_does_not_double_the_grammar() -> None:
    def size(most: int) -> int:
        return len(gbnf({"type": "integer", "minimum": -3 * most - 1, "maximum": 2 * most + 7}))

    assert size(10**12) < 4_000
    assert size(10**12) - size(10**11) < 2 * (size(10**6) - size(10**5))


def test_equal_parts_are_one_rule_and_a_text_keeps_its_quotes() -> None:
    place: Schema = {
        "type": "object",
        "properties": {'na"me': {"const": 'say "\\n"'}},
        "required": ['na"me'],
    }
    said = gbnf({"anyOf": [place, {"type": "array", "items": place, "minItems": 1, "maxItems": 3}]})
    assert said.count("say") == 1
    assert r'"\"na\\\"me\": " "\"say \\\"\\\\n\\\"\""' in said
    assert '"[" r0 (", " r0){0,2} "]"' in said


@pytest.mark.parametrize(
    "item",
    [
        {"type": "string"},
        {"enum": [1, "one"]},
        {"const": "one"},
        {"anyOf": [{"type": "number"}, {"const": "one"}]},
    ],
)
def test_a_list_with_texts_may_break_its_line_and_no_other(item: Schema) -> None:
    said = gbnf({"type": "array", "items": item, "minItems": 1, "maxItems": 2})
    (found,) = (line for line in said.splitlines() if '"["' in line)
    assert '"[" line? ' in found
    assert ' ("," (" " | line) ' in found
    assert found.endswith('){0,1} line? "]"')
    assert '\nline ::= "\\n" " "{0,16}\n' in said


def test_a_list_of_numbers_stands_on_one_line() -> None:
    said = gbnf({"type": "array", "items": {"type": "number"}})
    assert '"[" (r0 (", " r0){0,})? "]"' in said


@pytest.mark.parametrize(
    ("lengths", "said"),
    [
        ({}, "char{0,}"),
        ({"maxLength": 9}, "char{0,9}"),
        ({"minLength": 8, "maxLength": 1000}, "first char{7,999}"),
        ({"minLength": 8, "maxLength": 2500}, "first char{7,1000} char{0,1000} char{0,499}"),
        ({"minLength": 2002}, "first char{1000,1000} char{1000,1000} char{1,}"),
        ({"minLength": 1500, "maxLength": 1500}, "first char{1000,1000} char{499,499}"),
    ],
)
def test_prose_begins_with_a_letter_and_a_long_text_is_told_in_parts(
    lengths: dict[str, int], said: str
) -> None:
    grammar = gbnf({"type": "string", **lengths})
    assert f'r0 ::= "\\"" {said} "\\""' in grammar
    assert "\nfirst ::= [A-Za-z]\n" in grammar


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "a+"},
        {"type": "object", "properties": {"x": {"type": "null"}}, "required": []},
        {"oneOf": []},
    ],
)
def test_what_it_has_no_words_for_is_said(schema: Schema) -> None:
    with pytest.raises(Inexpressible):
        gbnf(schema)
