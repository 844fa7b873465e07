"""What an author is told about a source."""

from __future__ import annotations

from typing import Any, get_args

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


@pytest.mark.parametrize(
    ("installed", "name", "words"),
    [
        ((), "scipy", "scipy is not installed here; use math, statistics and view's helpers"),
        (("numpy",), "sklearn.svm", "sklearn is not installed here; use numpy instead"),
        (("numpy", "scipy"), "foo", "types, typing, warnings, numpy, scipy"),
        (("numpy",), "torch.nn", "torch.nn may not be imported; use numpy"),
        ((), "optuna", "use view.rng, view.from_unit()"),
        ((), "concurrent.futures", "no thread can be started"),
        ((), "bilevel.loop", "import from bilevel.mechanism, bilevel.model, bilevel.space"),
    ],
)
def test_what_to_use_instead_is_there(
    installed: tuple[str, ...], name: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda lib: lib if lib in installed else None)
    assert words in policy.refused(name)
    assert not any(policy.refused(lib) for lib in (*installed, "math", "bilevel.model"))


def test_the_modules_to_load_are_read_by_pattern() -> None:
    source = "import numpy as np, os\n  from scipy import stats, optimize\ndef broken(:"
    found = policy.modules(source)
    assert {"numpy", "numpy.linalg", "scipy.stats", "scipy.optimize"} <= set(found)
    assert "os" not in found
    assert policy.modules("import math") == ()


HELD = {
    "system": "linux",
    "attempts": {"open": "", "fork": ""},
    "landlock": "",
    "outside": {"file": "", "socket": ""},
}


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, "strict+landlock+bwrap"),
        ({"outside": None}, "strict+landlock"),
        ({"outside": {"file": "", "socket": "it was reached"}}, "strict+landlock"),
        ({"outside": {"file": ""}}, "strict+landlock"),
        ({"landlock": "open went through"}, "strict+bwrap"),
        ({"landlock": "open went through", "outside": None}, "strict"),
        ({"system": "darwin"}, "seatbelt"),
        ({"system": "darwin", "attempts": {"open": "", "fork": "fork went through"}}, "weak"),
        ({"attempts": {"open": "", "fork": "fork went through"}}, "weak"),
        ({"attempts": {"open": ""}}, "weak"),
        ({"attempts": {}}, "weak"),
    ],
)
def test_the_level_follows_from_the_attempts_alone(changes: dict[str, Any], level: str) -> None:
    assert policy.level({**HELD, **changes}, ("open", "fork"), ("file", "socket")) == level


def test_a_level_is_described_in_one_line_that_says_what_is_not_denied() -> None:
    for level in get_args(policy.Level):
        words = policy.describe(level)
        assert "\n" not in words
        assert ("Not denied" in words) == (level != "weak")
        assert ("Landlock" in words, "bubblewrap" in words) == (
            "landlock" in level,
            "bwrap" in level,
        )
    assert "can read and change your files" in policy.describe("weak")
