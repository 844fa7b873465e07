"""What a small LLM wraps around a class or forgets is mended, and nothing else is touched."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilevel import mechanisms
from bilevel.gate.normalise import normalise

SOURCES = Path(__file__).parents[1] / "sources"
CLASS = '''from bilevel.mechanism import Mechanism, View
from bilevel.model import Move


class Rotate(Mechanism):
    """Changes one parameter after the other."""

    def __init__(self):
        super().__init__()
        self.turn = 0  # of the rotation

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        names = view.open()
        self.turn = (self.turn + 1) % len(names)
        return [m.edit(focus=(names[self.turn],)) for m in moves]
'''
HEAD = "from bilevel.mechanism import Mechanism\n\n\n"
HOOK = "    def plan(self, view, moves):\n        return moves\n"


def in_class(line: str, head: str = HEAD) -> str:
    return f"{head}class A(Mechanism):\n    def plan(self, view, moves):\n        {line}\n"


@pytest.mark.parametrize(
    "wrapped",
    [
        f"Sure! Here is the class:\n\n```python\n{CLASS}```\nIt rotates the focus.",
        f"```\n{CLASS}\n```",
        f"~~~py\n{CLASS}~~~",
        f"```python\n{CLASS}",
        f"{CLASS}```\n\nThis class rotates. It has one hook.",
        f"{CLASS}\nThis class rotates, doesn't it?\nIt has one hook.",
        f"Here you go:\n{CLASS}",
        f"Here's the class\nfrom the idea above:\n\n{CLASS}<|im_end|>",
        f"<think>class A: maybe\n```python\nclass B: pass\n```</think>\n{CLASS}",
        CLASS.replace("\n", "\r\n"),
        "\ufeff" + CLASS,
        CLASS.replace("    ", "\t"),
        "\n\n" + "\n".join(f"    {line}" if line else "" for line in CLASS.split("\n")),
        CLASS.replace('"""', "“““").replace("“““", '"""').replace(" ", "\u00a0", 1),
        f"Example:\n```python\nprint(1)\n```\nThe class:\n```python\n{CLASS}```\n"
        "Use:\n```python\nRotate().plan(view, moves)\n```",
        f"At first:\n```python\n{CLASS.replace('Rotate', 'Old')}```\nNow:\n```python\n{CLASS}```",
        f"{CLASS}\n\nif __name__ == '__main__':\n    print(Rotate())\n",
        f"{CLASS}\n\n# Example usage\nmechanism = Rotate()\nprint(mechanism.plan(None, []))\n",
        f"{CLASS}\n\ndef main():\n    return Rotate()\n\nmain()\n",
        f"{CLASS}\n\ndef test_rotate():\n    assert Rot",
        f"{CLASS}\n    def screen(self, view, drafts):\n        # The best of the dra",
        CLASS.replace("from bilevel.model import Move\n\n", "import os, sys\n"),
        f"{CLASS}\nfrom __future__ import annotations\n",
        CLASS.replace("from bilevel.mechanism", "from mechanism"),
        CLASS.replace("bilevel.model", "bilevel.core.types"),
        CLASS.replace("from bilevel.model import Move", "from .model import Move, History"),
        CLASS.replace("import Mechanism, View", "import Mechanism, View, Move").replace(
            "from bilevel.model import Move\n", "from bilevel.mechanisms import Move\n"
        ),
        CLASS.replace("\n\nclass Rotate", "\n\nclass Move:\n    parents: tuple\n\n\nclass Rotate"),
    ],
)
def test_what_is_wrapped_around_a_class_goes(wrapped: str) -> None:
    def plain(text: str) -> str:
        return "\n".join(line for line in text.split("\n") if line.strip())

    found = normalise(wrapped)
    body, imports = plain(found).partition("class Rotate")[::2]
    assert f"class Rotate{imports}" == "class Rotate" + plain(CLASS).partition("class Rotate")[2]
    names = {
        a.name for n in ast.walk(ast.parse(body)) if isinstance(n, ast.ImportFrom) for a in n.names
    }
    assert names - {"annotations"} == {"Mechanism", "View", "Move"}
    compile(found, "found", "exec", dont_inherit=True)


@pytest.mark.parametrize(
    "text",
    [
        CLASS,
        *(p.read_text(encoding="utf-8") for p in sorted((SOURCES / "paper").glob("*.py"))),
        *(mechanisms.source(name).source for name in mechanisms.names()),
    ],
)
def test_a_source_in_order_is_left_as_it_is(text: str) -> None:
    assert normalise(text) == text


@pytest.mark.parametrize(
    ("line", "imported"),
    [
        ("return [Move(m.parents) for m in moves]", "from bilevel.model import Move"),
        ("return [replace(m, note='go') for m in moves]", "from dataclasses import replace"),
        ("return moves * int(math.sqrt(4))", "import math"),
        ("return moves * int(sqrt(4))", "from math import sqrt"),
        ("return moves * int(statistics.mean([2]))", "import statistics"),
        ("return moves * len(Counter([1]))", "from collections import Counter"),
        ("return moves * int(np.ceil(1.5))", "import numpy as np"),
        ("count: Optional[int] = 2; return moves * count", "from typing import Optional"),
        ("return sorted(moves, key=lambda m: json.dumps(m.note))", "import json"),
    ],
)
def test_missing_imports_come(line: str, imported: str) -> None:
    found = normalise(in_class(line))
    assert imported in found.split("\n")
    assert line in found


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (in_class("return moves * random.randint(1, 2)"), "moves * view.rng.randint(1, 2)"),
        (in_class("return [m for m in moves if random.random()]"), "if view.rng.random()]"),
        (CLASS.replace("-> list[Move]", "-> MoveList"), "moves: list[Move]):"),
        (CLASS.replace("moves: list[Move]", "moves: Moves"), "moves) -> list[Move]:"),
        (CLASS.replace("view: View", 'view: "SearchView"'), "view, moves: list[Move]"),
        (in_class("best: Config = view.best; return moves"), "best = view.best"),
        ("class A:\n" + HOOK, "class A(Mechanism):"),
        ("class A():\n" + HOOK, "from bilevel.mechanism import Mechanism"),
    ],
)
def test_what_has_one_meaning_only_is_mended(before: str, after: str) -> None:
    assert after in normalise(before)


@pytest.mark.parametrize(
    "text",
    [
        in_class("return moves * random.Random(1).randint(1, 2)", "import random\n" + HEAD),
        in_class("return helper(moves)"),
        in_class("return view.history"),
        f"{HEAD}class A(Mechanism):\n{HOOK}\n\nclass B(Mechanism):\n{HOOK}",
        f"{HEAD}LIMIT = 3\n\n\nclass A(Mechanism):\n{HOOK}".replace("moves\n", "moves[:LIMIT]\n"),
        f"{HEAD}class A(Mechanism):\n{HOOK}".replace("moves\n", "least(moves)\n")
        + "\n\ndef least(moves):\n    return moves[:LIMIT]\n\n\nLIMIT = 1\n",
        f"import os\n{in_class('return moves * len(os.name)')}",
    ],
)
def test_what_is_wrong_or_used_stays(text: str) -> None:
    assert normalise(text) == text


def test_a_second_class_is_not_cut_off_for_a_mistake_in_it() -> None:
    text = f"{HEAD}class A(Mechanism):\n{HOOK}\n\nclass B(Mechanism):\n    def plan(self, view:\n"
    assert "class B(Mechanism):" in normalise(text)


def test_a_mistake_in_the_middle_is_not_mended_by_dropping_what_follows() -> None:
    text = (
        f"{HEAD}class A(Mechanism):\n    def accept(self, view, trial, keep)\n        x\n\n{HOOK}"
    )
    assert normalise(text) == text


def test_prose_alone_and_nothing_stay_what_they_are() -> None:
    assert normalise("I would keep a tabu list.\n") == "I would keep a tabu list.\n"
    assert normalise(" \n\n") == ""
    assert normalise("x" * 10**6) == "x" * 10**6


PIECES = st.sampled_from(
    [
        *CLASS.split("\n"), "```python", "```", "~~~", "Sure!", "import os", "import math", "\t",
        "from mechanism import Mechanism", "class Move:", "    pass", "class A:", "x: Foo = 1",
        "if __name__ == '__main__':", "    print(math.pi)", "</think>", '"""', "é = '\u2028'",
        "from __future__ import annotations", "    def accept(self, view: V, trial, keep) -> Bool:",
        "        return random.random() < 1",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=25).map("\n".join) | st.text(max_size=60))
def test_twice_is_as_once(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once


@given(st.integers(0, len(CLASS)), st.integers(0, len(CLASS)))
def test_twice_is_as_once_for_any_part_of_a_class(start: int, end: int) -> None:
    once = normalise(CLASS[start:end])
    assert normalise(once) == once
