"""Online bin packing: the contract, the figures, and the ways of cheating that it refuses."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_script import run

from bilevel.conformance.task import TaskSuite
from bilevel.errors import InvalidCandidate
from bilevel.executors import folder
from bilevel.protocols import Task
from bilevel.sandbox.host import Limits
from bilevel.sandbox.sandboxed import Sandbox
from bilevel.space import Values
from bilevel.tasks import packing
from bilevel.tasks.function import CALL_FILE
from bilevel.tasks.loading import load_task
from bilevel.tasks.packing import instances, scorer
from bilevel.tasks.packing.instances import Instance

FOLDER = Path(packing.__file__).parent
BEST_FIT = "def priority(item, bins):\n    return [item - room for room in bins]\n"
FIRST_FIT = "def priority(item, bins):\n    return [0] * len(bins)\n"
WORST = "def priority(item, bins):\n    return list(range(len(bins)))\n"

# What the lint would name is reached without an import, as a hostile source does.
REACH = """
import typing
sys = typing.sys
os, builtins = sys.modules["os"], sys.modules["builtins"]
"""


class TestWeibull(TaskSuite):
    def task(self) -> Task:
        return load_task(FOLDER / "weibull.toml")

    def good(self) -> list[Values]:
        return [{"PRIORITY": FIRST_FIT}]


class TestOr(TestWeibull):
    def task(self) -> Task:
        return load_task(FOLDER / "or.toml")


SMALL = instances.weibull(1, 2, 60)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(Limits(call=1.0, cpu=20, memory=2**29)) as made:
        if made.level() == "weak":
            pytest.skip("this machine cannot lock a worker; see the level's report")
        yield made


@pytest.fixture
def excess(sandbox: Sandbox) -> Callable[[str], float]:
    """What a source scores on two small instances."""
    return lambda source: scorer.measure(sandbox, source, SMALL)["excess"]


@pytest.fixture(scope="module")
def honest(sandbox: Sandbox) -> float:
    """What best fit scores."""
    return scorer.measure(sandbox, BEST_FIT, SMALL)["excess"]


def priority(*body: str, top: str = "") -> str:
    """A source whose priority does this and then answers as best fit."""
    lines = "".join(f"    {line}\n" for part in body for line in part.splitlines())
    answer = "    return [item - room for room in bins]\n"
    return f"{top}\ndef priority(item, bins):\n{lines}{answer}"


@pytest.mark.parametrize("name", ["weibull", "or"])
def test_a_job_gives_best_fits_excess(name: str, tmp_path: Path) -> None:
    task = load_task(FOLDER / f"{name}.toml")
    made = {"weibull": instances.weibull(7, 5, 1000), "or": instances.uniform(7, 5, 500)}[name]
    found = task.read(run(task.job(task.space.defaults(), 7), tmp_path))
    assert found.status == "ok"
    assert found.metrics == scorer.evaluate(BEST_FIT, made)


def test_a_job_copies_nothing_of_the_package(tmp_path: Path) -> None:
    task = load_task(FOLDER / "or.toml")
    folder.make(tmp_path / "work", task.job(task.space.defaults(), 1), tmp_path)
    assert [p.name for p in (tmp_path / "work").iterdir()] == [CALL_FILE]


def test_the_sizes_are_as_published() -> None:
    sizes = [s for i in instances.weibull(3, 5, 5000) for s in i.items]
    # The mean of a Weibull of shape 3 is its scale times gamma(4/3) = 0.893.
    assert sum(sizes) / len(sizes) == pytest.approx(45 * 0.893, abs=0.5)
    assert min(sizes) >= 1
    assert max(sizes) == 100
    assert {s for i in instances.uniform(3, 5, 500) for s in i.items} == set(range(20, 101))
    assert instances.weibull(3, 2, 50) == instances.weibull(3, 2, 50)
    assert instances.weibull(3, 2, 50) != instances.weibull(4, 2, 50)
    assert Instance((50, 50, 1), 100).lower_bound == 2


def fits(calls: list[scorer.Call], best: bool) -> list[list[int]]:
    return [[item - room if best else 0 for room in bins] for item, bins in calls]


@pytest.mark.parametrize(
    ("made", "first", "best"),
    # FunSearch, Nature 2024, table 1; its instances are others, hence the tolerance.
    [(instances.weibull(0, 3, 5000), 4.23, 3.98), (instances.uniform(0, 20, 500), 5.74, 5.37)],
    ids=["weibull 5k", "OR3"],
)
def test_first_and_best_fit_are_near_the_published(
    made: list[Instance], first: float, best: float
) -> None:
    least = sum(i.lower_bound for i in made)
    for published, is_best in ((first, False), (best, True)):
        used, _ = scorer.pack(lambda calls, b=is_best: fits(calls, b), made)  # type: ignore[misc]
        assert 100 * (used / least - 1) == pytest.approx(published, abs=0.35)


def test_no_priorities_overfill_a_bin_or_lose_an_item() -> None:
    rng = random.Random(5)
    for _ in range(20):
        made = instances.uniform(rng.randrange(99), 3, 40)
        used, log = scorer.pack(
            lambda calls: [[rng.gauss(0, 1) for _ in bins] for _, bins in calls], made
        )
        assert used >= sum(i.lower_bound for i in made)
        assert sorted(item for (item, _), _ in log) == sorted(s for i in made for s in i.items)
        assert all(bins[choice] >= item for (item, bins), choice in log)
        assert all(min(bins) >= item and bins[-1] == 150 for (item, bins), _ in log)


def test_a_tie_goes_to_the_first() -> None:
    used, log = scorer.pack(lambda calls: fits(calls, False), [Instance((60, 60, 30, 30), 100)])
    assert used == 2
    assert log[2] == ((30, [40, 40, 100]), 0)
    assert log[3] == ((30, [40, 100]), 0)


def test_another_heuristic_has_another_excess(
    excess: Callable[[str], float], honest: float
) -> None:
    assert excess(WORST) > 100 > excess(FIRST_FIT) >= honest > 0


NUMBERS = "finite"
REFUSED: dict[str, tuple[str, str]] = {
    "nan": ("return [float('nan')] * len(bins)", NUMBERS),
    "infinity": ("return [1e999] * len(bins)", NUMBERS),
    "too few": ("return [1.0] * (len(bins) - 1)", "returned 0 numbers for 1 bins"),
    "too many": ("return [1.0] * (len(bins) + 1)", "returned 2 numbers for 1 bins"),
    "texts": ("return ['9'] * len(bins)", "returned '9' among its numbers"),
    "bools": ("return [True] * len(bins)", "returned True among its numbers"),
    "nested": ("return [[1]] * len(bins)", r"returned \[1\] among its numbers"),
    "nothing": ("return None", "returned a NoneType; return a list"),
    "one number": ("return 1.0", "returned a float; return a list"),
    "its own score": ("return {'excess': 0}", "returned a dict; return a list"),
    "a class of its own": ("class L(list): pass\nreturn L(bins)", "is a L; use numbers"),
    "a huge number": ("return [10**400] * len(bins)", "an integer of over 64 bits"),
    "huge output": ("return [0.0] * 10**7", "too large"),
    "huge print": ("print('x' * 10**7, flush=True)", "File too large"),
    "hang": ("while True: pass", "priority gave no answer in 1 s"),
    "exit": ("raise SystemExit(0)", "SystemExit"),
    "raise": ("return [1 / 0]", r"ZeroDivisionError: division by zero \(line 2, in priority\)"),
    "import": ("import os", "line 2: os may not be imported; priority can reach no file"),
    "chance": ("import random\nreturn [random.random() for b in bins]", "random.random differs"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_answer_is_refused_in_words(name: str, excess: Callable[[str], float]) -> None:
    body, words = REFUSED[name]
    source = priority(body).lstrip()
    with pytest.raises(InvalidCandidate, match=words):
        excess(source)


REMEMBERS = "chose another bin for item"
HOSTILE: dict[str, tuple[str, str]] = {
    "exit at once": (priority("os._exit(0)", top=REACH), "its process ended"),
    "all memory": (priority("x = bytearray(2**33)"), "MemoryError"),
    "a forged frame": (
        priority(
            "for n in range(3, 9):\n    try: os.write(n, b'\\x02\\0\\0\\0{}')\n"
            "    except OSError: pass",
            top=REACH,
        ),
        "frame|number|asked",
    ),
    "the result file": (priority("open('run.log', 'w')"), "open may not be used"),
    "the result file unseen": (
        priority("builtins.open('bilevel_call.json', 'w')", top=REACH),
        "PermissionError",
    ),
    "the parent's memory": (
        priority("os.open(f'/proc/{os.getppid()}/mem', 0)", top=REACH),
        "PermissionError",
    ),
    "killing the scorer": (priority("os.kill(os.getppid(), 9)", top=REACH), "PermissionError"),
    "memory of the items": (
        "seen = []\ndef priority(item, bins):\n    seen.append(item)\n"
        "    return [room if len(seen) % 2 else -room for room in bins]\n",
        REMEMBERS,
    ),
    "memory in a module": (
        "import math\ndef priority(item, bins):\n    math.n = getattr(math, 'n', 0) + 1\n"
        "    return [room if math.n % 2 else -room for room in bins]\n",
        REMEMBERS,
    ),
    "the clock": (
        priority(
            "sign = 1 - sys.modules['time'].perf_counter_ns() // 1000 % 2 * 2\n"
            "return [sign * b for b in bins]",
            top=REACH,
        ),
        REMEMBERS,
    ),
    "chance unseen": (
        priority(
            "r = sys.modules['random'].random\nreturn [r() for b in bins]", top=REACH
        ),
        REMEMBERS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_source_is_refused(name: str, excess: Callable[[str], float]) -> None:
    source, words = HOSTILE[name]
    with pytest.raises(InvalidCandidate, match=words):
        excess(source)


USELESS = {
    "the clock is set back": "sys.modules['time'].time = sys.modules['time'].monotonic = lambda: 0",
    "builtins are replaced": "builtins.sum = builtins.max = builtins.sorted = lambda *_: 0",
    "math is replaced": "sys.modules['math'].isfinite = lambda _: True",
    "modules are replaced": "for name in ('json', 'random'): sys.modules[name] = None",
    "bins are emptied": "answer = [item - b for b in bins]\nbins[:] = [10**6]\nreturn answer",
    "a forged line": "print('\\n---\\nMETRIC excess=0', flush=True)",
    "a forged line on each descriptor": "os.write(1, b'METRIC excess=0\\n')",
    "the instance in this process": (
        "gc = sys.modules['importlib'].import_module('gc')\n"
        "held = [x for x in gc.get_objects() if type(x) in (list, tuple) and len(x) == 60]\n"
        "if any(all(type(i) is int for i in x) for x in held): raise RuntimeError('found it')"
    ),
    "the instance in a frame": (
        "frame = sys._getframe()\n"
        "while frame:\n"
        "    if {'made', 'log', 'rooms'} & set(frame.f_locals): raise RuntimeError('found it')\n"
        "    frame = frame.f_back"
    ),
    "the host's package": (
        "if any('tasks' in n or 'seeds' in n for n in sys.modules if 'bilevel' in n):\n"
        "    raise RuntimeError('found it')"
    ),
}


@pytest.mark.parametrize("name", USELESS)
def test_tampering_changes_nothing(
    name: str, excess: Callable[[str], float], honest: float
) -> None:
    assert excess(priority(USELESS[name], top=REACH)) == honest


def test_numpy_may_be_used_and_tampered_with(excess: Callable[[str], float], honest: float) -> None:
    pytest.importorskip("numpy")
    top = "import numpy as np\nnp.max = np.isfinite = lambda *_: True\n"
    assert excess(priority("return item - np.array(bins)", top=top)) == honest


def test_a_cache_is_no_memory(excess: Callable[[str], float], honest: float) -> None:
    source = (
        "from functools import lru_cache\n@lru_cache(None)\ndef gap(item, room):\n"
        "    return item - room\n"
        "def priority(item, bins):\n    return [gap(item, room) for room in bins]\n"
    )
    assert excess(source) == honest


def test_repeated_calls_are_the_same_calls() -> None:
    used, log = scorer.pack(lambda calls: fits(calls, True), instances.uniform(2, 3, 200))
    asked: list[Any] = []

    def ask(calls: list[scorer.Call]) -> list[list[int]]:
        asked.append(calls)
        return fits(calls, True)

    scorer.check(ask, log)
    flat = [call for calls in asked for call in calls]
    assert flat != [call for call, _ in log]
    assert sorted(flat) == sorted(call for call, _ in log)
    assert used > 0


FORGED = "\n---\nMETRIC excess=0\n--- the values are refused: no\nexcess: 0\n"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (priority(f"raise ValueError({FORGED!r})"), "ValueError"),
        (priority("import os"), "line 3: os may not be imported"),
        ("print('METRIC excess=0')", "there must be one `def priority(item, bins)`"),
    ],
)
def test_a_job_says_why_a_source_is_invalid(source: str, words: str, tmp_path: Path) -> None:
    task = load_task(FOLDER / "or.toml")
    found = task.read(run(task.job({"PRIORITY": source}, 1), tmp_path))
    assert (found.status, found.value, dict(found.metrics)) == ("invalid", None, {})
    if words != "ValueError":
        assert words in found.error


def test_a_forged_line_does_not_reach_the_jobs_output(tmp_path: Path) -> None:
    task = load_task(FOLDER / "or.toml")
    body = "print('METRIC excess=0', flush=True)\nprint('excess: 0', file=sys.stderr, flush=True)"
    source = priority(body, top=REACH)
    result = run(task.job({"PRIORITY": source}, 1), tmp_path)
    assert result.output.count("excess") == 1
    assert task.read(result).metrics == scorer.evaluate(BEST_FIT, instances.uniform(1, 5, 500))
