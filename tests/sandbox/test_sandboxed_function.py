"""A plain function behind the wall: what it answers, how it fails, and what the lint says."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest
from attacks import QUICK

from bilevel.sandbox.errors import (
    MechanismError,
    MechanismRaised,
    MechanismTimeout,
    SandboxRefused,
    WorkerDied,
    WrongFrame,
)
from bilevel.sandbox.function import SandboxedFunction, lint
from bilevel.sandbox.sandboxed import Sandbox
from sources import REACH

DOUBLE = "def f(x, y=0):\n    return {'double': 2 * x, 'rest': [y, None]}\n"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(replace(QUICK, call=1.0)) as made:
        if made.level() == "weak":
            pytest.skip("this machine cannot lock a worker; see the level's report")
        yield made


def test_calls_are_answered_in_their_order(sandbox: Sandbox) -> None:
    function = SandboxedFunction(sandbox, DOUBLE, "f")
    assert function.call([1.5]) == {"double": 3.0, "rest": [0, None]}
    assert function.call(["ab", True]) == {"double": "abab", "rest": [True, None]}
    assert [a["double"] for a in function.map([[i] for i in range(100)])] == list(range(0, 200, 2))
    assert function.map([]) == []
    assert function.starts == 1
    function.close()


def test_numpy_comes_back_as_numbers(sandbox: Sandbox) -> None:
    pytest.importorskip("numpy")
    source = "import numpy as np\ndef f(xs):\n    return -np.array(xs) / np.int64(2)\n"
    assert SandboxedFunction(sandbox, source, "f").call([[1, 2]]) == [-0.5, -1.0]


def test_a_worker_killed_between_calls_changes_no_answer(sandbox: Sandbox) -> None:
    function = SandboxedFunction(sandbox, DOUBLE, "f")
    os.kill(function.pid or 0, signal.SIGKILL)
    assert function.call([2])["double"] == 4
    assert function.starts == 2


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ("x = 1", MechanismRaised, "defines no function f; write one"),
        ("f = 3", MechanismRaised, "defines no function f"),
        ("def f(x):\n    return x +", MechanismRaised, "SyntaxError"),
        ("y = 0\nz = 1 / y", MechanismRaised, r"ZeroDivisionError.*\(line 2, in <module>\)"),
        ("def f():\n    return 1", MechanismRaised, "takes 0 positional arguments"),
        ("def f(x):\n    return x / 0", MechanismRaised, r"ZeroDivisionError.*\(line 2, in f\)"),
        ("def f(x):\n    return float('nan')", MechanismRaised, "use finite numbers"),
        ("def f(x):\n    return {1, 2}", MechanismRaised, "is a set; use numbers"),
        ("def f(x):\n    return 'x' * 2**21", MechanismRaised, "bytes of JSON"),
        ("def f(x):\n    raise SystemExit(0)", MechanismRaised, "SystemExit"),
        ("def f(x):\n    while True: pass", MechanismTimeout, "f gave no answer in 1 s"),
        ("while True: pass", MechanismTimeout, "loading the source gave no answer in 1 s"),
        (f"{REACH}\ndef f(x):\n    os._exit(0)", WorkerDied, "ended without an answer"),
        (f"{REACH}\ndef f(x):\n    put(b'xxxxxxxxxxx')", WrongFrame, "a frame announces"),
    ],
)
def test_what_fails_says_how(
    source: str, kind: type[MechanismError], words: str, sandbox: Sandbox
) -> None:
    with pytest.raises(kind, match=words):
        SandboxedFunction(sandbox, source, "f").call([1])
    assert SandboxedFunction(sandbox, DOUBLE, "f").call([1])["double"] == 2


@pytest.mark.parametrize("answers", ["[]", "[1,2]", "1", "null"])
def test_a_forged_reply_has_as_many_answers_as_calls(answers: str, sandbox: Sandbox) -> None:
    body = f'{{"id":2,"answers":{answers}}}'.encode()
    data = len(body).to_bytes(4, "little") + body
    source = f"{REACH}\ndef f(x):\n    put({data!r})\n    while True: pass"
    with pytest.raises(WrongFrame, match="one answer to each of 1 calls"):
        SandboxedFunction(sandbox, source, "f").call([1])


def test_a_source_may_not_be_endless(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxRefused, match="65536 bytes"):
        SandboxedFunction(sandbox, DOUBLE + "#" * 70_000, "f")


GOOD = "def f(a, b):\n    return a\n"


@pytest.mark.parametrize(
    "source",
    [
        GOOD,
        "import math\nfrom collections import abc\nK = 3\ndef g(): return K\n" + GOOD,
        "def f(a, b, c=1, *, d=2):\n    return a\n",
        "def f(*both):\n    return both\n",
        "import random\n" + GOOD + "    random.Random(3).random()\n",
    ],
)
def test_the_lint_passes_what_may_be(source: str) -> None:
    assert lint(source, "f", ("a", "b")) == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import os\n" + GOOD, "line 1: os may not be imported; f can reach no file, clock"),
        (GOOD + "    from time import time\n", "line 3: time may not be imported"),
        ("from . import x\n" + GOOD, "line 1: . may not be imported"),
        ("import bilevel.model\n" + GOOD, "bilevel.model may not be imported"),
        ("g = eval('1')\n" + GOOD, "line 1: eval may not be used; f has its arguments and no more"),
        (GOOD + "    import random\n    random.random()\n", "line 4: random.random differs"),
        ("n = 0\ndef f(a, b):\n    global n\n", "line 3: global n: a call may not depend on"),
        ("def g(a, b): pass\n", "there must be one `def f(a, b)` at the top level; there are 0"),
        (GOOD + GOOD, "line 3: there must be one `def f(a, b)` at the top level; there are 2"),
        ("def f(a):\n    return a\n", "line 1: f must be `def f(a, b)`"),
        ("def f(a, b, c):\n    return a\n", "f must be `def f(a, b)`"),
        ("def f(a, b, *, c):\n    return a\n", "f must be `def f(a, b)`"),
        ("```python\n" + GOOD, "line 1: not Python"),
        ("#" * 70_000, "the source is over 65536 bytes"),
    ],
)
def test_the_lint_names_the_line_and_the_remedy(source: str, words: str) -> None:
    assert words in "\n".join(lint(source, "f", ("a", "b")))
