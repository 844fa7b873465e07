"""What an author is told about a source."""

from __future__ import annotations

import pytest

from bilevel.sandbox import policy

GOOD = """
from __future__ import annotations
import math, random
from collections import Counter
from bilevel.mechanism import Mechanism, View
from bilevel.model import Draft, Move

class Good(Mechanism):
    def __init__(self) -> None:
        self.n = 0

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        self.n += 1
        return moves
"""


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def test_a_good_source_has_no_problem() -> None:
    assert policy.lint(GOOD) == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (changed("import math", "import os"), "line 3: os may not be imported; there are no files"),
        (changed("import math", "import time"), "a hook has no clock; count with view.step"),
        (changed("import math", "import foo.bar"), "foo.bar may not be imported; allowed are abc"),
        (changed("import math", "import pandas"), "use view.scored() and the statistics module"),
        (changed("bilevel.model", "bilevel.loop"), "import from bilevel.mechanism, bilevel.model"),
        (changed("from collections", "from .x"), "imports are absolute"),
        (changed("self.n = 0", "self.n = open('x')"), "line 10: open may not be used; there are"),
        (changed("self.n = 0", "self.n = random.random()"), "use view.rng.random"),
        (changed("self.n = 0", "self.n = ().__class__.__bases__"), "__bases__ may not be used"),
        (changed("self.n += 1", "global N"), "use attributes of self"),
        (changed("(Mechanism)", ""), "one class must derive from Mechanism"),
        (GOOD + "class B(Mechanism):\n    pass\n", "line 15: one class must derive from Mechanism"),
        (changed("def plan(", "def propose("), "Good has no hook; write plan, screen or accept"),
        (
            changed("self, view: View, moves", "self, moves"),
            "must be `def plan(self, view, moves)`",
        ),
        (changed("__init__(self)", "__init__(self, config)"), "__init__ takes no arguments"),
        (changed("def plan(", "def plan(("), "line 12: not Python: "),
        ("x = '\0'", "not Python: "),
        ("x = " + "(" * 5000 + ")" * 5000, "not Python: "),
        ("#" * 70_000, "the source is over 65536 bytes"),
    ],
)
def test_problems_are_named_with_a_remedy(source: str, words: str) -> None:
    problems = policy.lint(source)
    assert any(words in problem for problem in problems), problems


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (problem,) = policy.lint(changed("import math", "import numpy as np"))
    assert problem == (
        "line 3: numpy is not installed here; use math, statistics and view's helpers instead"
    )


def test_the_modules_to_load_are_read_by_pattern() -> None:
    source = "import numpy as np, os\n  from scipy import stats, optimize\ndef broken(:"
    found = policy.modules(source)
    assert {"numpy", "numpy.linalg", "scipy.stats", "scipy.optimize"} <= set(found)
    assert "os" not in found
    assert policy.modules("import math") == ()


def test_the_level_follows_from_the_attempts_alone() -> None:
    expected = {"open": None, "fork": None}
    held = {"open": "", "fork": ""}
    assert policy.level(held, expected, "") == "strict+landlock"
    assert policy.level(held, expected, "open went through") == "strict"
    assert policy.level({**held, "fork": "fork went through"}, expected, "") == "weak"
    assert policy.level({"open": ""}, expected, "") == "weak"
    assert policy.level({}, expected, "") == "weak"
