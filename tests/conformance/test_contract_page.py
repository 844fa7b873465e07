"""The contract's page is true: its names are the code's, and its examples conform."""

import inspect
import re
from collections.abc import Iterator

import pytest

from bilevel.conformance.mechanism import check_mechanism
from bilevel.conformance.remedies import KNOWN, members
from bilevel.mechanism import View
from bilevel.model import Draft, Move, Param, Trial
from bilevel.prompts import render
from bilevel.sandbox.policy import HOOKS, lint
from bilevel.sandbox.sandboxed import Sandbox

PAGE = render("contract")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as made:
        yield made


def paragraph(name: str) -> str:
    """What the page says of one class: the line that names it, and the list below."""
    start = PAGE.index(f"**{name}**")
    ends = [PAGE.find(end, start + 1) for end in ("\n**", "\n\n", "\n- `view.space[")]
    return PAGE[start : min(e for e in ends if e > 0)]


def test_it_is_one_page() -> None:
    assert len(PAGE.splitlines()) <= 60
    assert len(PAGE) < 6000
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_its_examples_are_short_and_conform(number: int, sandbox: Sandbox) -> None:
    example = EXAMPLES[number]
    assert len(example.splitlines()) < 15
    assert lint(example) == []
    assert [*map(str, check_mechanism(lambda: sandbox.load(example)))] == []


def test_hooks_stand_there_with_their_signatures() -> None:
    for hook, arguments in HOOKS.items():
        assert f"def {hook}(self, {arguments[0]}: View" in PAGE
        found = re.search(rf"def {hook}\(self, (.*?)\) ->", EXAMPLES[0])
        assert found is not None
        assert tuple(a.partition(":")[0] for a in found[1].split(", ")) == arguments


def test_every_member_of_the_view_is_named() -> None:
    said = paragraph("View")
    for name in members(View):
        assert f"`{name}`" in said or f"`view.{name}(" in said, f"{name} is not on the page"


@pytest.mark.parametrize("kind", [Move, Draft, Trial, Param])
def test_every_field_is_named_in_its_paragraph(kind: type) -> None:
    said = paragraph(kind.__name__)
    for name in [n for n in members(kind) if n in kind.__dataclass_fields__]:
        assert f"`{name}`" in said, f"{name} is not said to be of {kind.__name__}"


def test_every_name_on_the_page_exists() -> None:
    for owner, name in re.findall(r"\b(view|move|draft|trial|[dmt])\.([a-z_]+)", PAGE):
        kind = {"view": "View", "move": "Move", "m": "Move", "draft": "Draft", "d": "Draft"}
        there = members(KNOWN[kind.get(owner, "Trial")])
        assert name in there, f"{owner}.{name} is on the page but not in the code"
    for kind in (View, Move, Draft, Trial, Param):
        for name in re.findall(r"`([a-z_]+)`", paragraph(kind.__name__)):
            assert name in members(kind), f"a {kind.__name__} has no {name}"


def test_calls_name_as_many_arguments_as_there_are() -> None:
    calls = re.findall(r"`view\.([a-z_]+)\(([a-z, ]*)\)`", PAGE)
    assert len(calls) > 10
    for name, arguments in calls:
        inspect.signature(getattr(View, name)).bind(None, *filter(None, arguments.split(", ")))
