"""Which words of a guidance are values, and what is left without them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilevel.model import Param, Space
from bilevel.steering_words import values_in, without_values

SPACE = Space(
    (
        Param("ADAM_BETAS[0]", "float", 0.8, low=0.5, high=0.99),
        Param("x1", "float", 0.5, low=0.0, high=1.0),
        Param("BATCH_2", "int", 4096, low=256, high=65536, log=True, step=2),
        Param("PATTERN", "choice", "SSSL", choices=("SSSL", "SL", "L")),
        Param("DECAY", "choice", "linear", choices=("linear", "cosine2")),
        Param("TIED", "choice", True, choices=(True, False)),
    )
)


@pytest.mark.parametrize(
    ("text", "values", "left"),
    [
        ("Lower BATCH_2 to 2**14.", ("2**14",), "Lower BATCH_2."),
        ("Lower BATCH_2 to 2^14, then x1.", ("2^14",), "Lower BATCH_2, then x1."),
        ("Lower BATCH_2 to 2 ** 14", ("2", "14"), "Lower BATCH_2"),
        ("x1=0.25 is good", ("0.25",), "x1 is good"),
        ("Raise x1 by 10%, slowly", ("10%",), "Raise x1, slowly"),
        ("Raise ADAM_BETAS[0] from 0.8 to 0.9.", ("0.8", "0.9"), "Raise ADAM_BETAS[0]."),
        ("Try x1 between 1e-3 and 5.0E-2", ("1e-3", "5.0E-2"), "Try x1"),
        ("Try x1 in 0.1-0.3 (near .2)", ("0.1-0.3", ".2"), "Try x1 in"),
        ("Go below −0.5 or ½", ("−0.5", "1⁄2"), "Go"),
        ("Go ten times over ２**８", ("2**8",), "Go ten times"),
        ("Keep 1,024 tokens, as in #12", ("1,024", "#12"), "Keep tokens, as in"),
        ("Set PATTERN to 'L'", ("'L'",), "Set PATTERN"),
        ('Set DECAY to "linear" now', ('"linear"',), "Set DECAY now"),
        ("Use SSSL or SL for PATTERN", ("SSSL", "SL"), "Use for PATTERN"),
        ("Leave TIED at True", ("True",), "Leave TIED"),
        ("From 0.1 on", ("0.1",), "on"),
        ("0.5", ("0.5",), ""),
    ],
)
def test_values_are_found_and_cut(text: str, values: tuple[str, ...], left: str) -> None:
    assert values_in(SPACE, text) == values
    assert without_values(SPACE, text) == left


@pytest.mark.parametrize(
    "text",
    [
        "Raise ADAM_BETAS[0], then x1 and BATCH_2; leave PATTERN.",
        "Halve BATCH_2 once more, and try x1 in the other direction.",
        "A linear decay seems right; L2 and beta1 are no parameters here.",
        "Test both sides of two parameters that were never tried.",
    ],
)
def test_names_directions_and_words_stay(text: str) -> None:
    assert values_in(SPACE, text) == ()
    assert without_values(SPACE, text) == text


PIECES = st.sampled_from(
    ["x1", "ADAM_BETAS[0]", "BATCH_2", "2", "**", "^", " ", " to ", ".", ",", "'", '"', "L",
     "SSSL", "1e", "-", "(", ")", "=", "²", "raise", "True", "%", "[", "]", "#"]
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(PIECES, max_size=14).map("".join))
def test_nothing_that_counts_as_a_value_is_left(text: str) -> None:
    assert values_in(SPACE, without_values(SPACE, text)) == ()


POINTS = Space(
    tuple(Param(f"{x}{n}", "float", 0.5, 0.0, 1.0) for n in (1, 2, 11) for x in "uv")[1:]
)


@pytest.mark.parametrize(
    ("text", "values", "left"),
    [
        ("Move point 11 off the line of points 1 and 2.", (), None),
        ("Try Points 1, 2, or #11, not point 2 alone", (), None),
        ("Move point 11 up to 0.9", ("0.9",), "Move point 11 up"),
        ("Raise v11 to 1, away from point 2.", ("1",), "Raise v11, away from point 2."),
        ("Move point 12 and point 1.5", ("12", "1.5"), "Move point and point"),
        ("Move point 1 or its image, point 7", (), None),
        ("Move point 2 to 0.5", ("0.5",), "Move point 2"),
        ("Move point 2 to 1", ("1",), "Move point 2"),
    ],
)
def test_the_number_of_a_thing_that_has_several_parameters_is_no_value(
    text: str, values: tuple[str, ...], left: str | None
) -> None:
    assert values_in(POINTS, text) == values
    assert without_values(POINTS, text) == (left or text)


def test_a_number_at_the_end_of_one_name_only_is_a_value() -> None:
    space = Space((Param("x1", "float", 0.5, 0.0, 1.0), Param("x2", "float", 0.5, 0.0, 1.0)))
    assert values_in(space, "Move point 1") == ("1",)


def test_a_space_without_choices_and_odd_text_do_no_harm() -> None:
    space = Space((Param("A", "float", 0.5, low=0.0, high=1.0),))
    assert without_values(space, "raise\x1b[31m A\n\ud800 by 0.1") == "raise [ A"
    assert values_in(space, "") == ()
