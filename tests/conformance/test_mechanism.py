"""The suite passes what keeps to the contract, and says precisely what does not."""

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from bilevel.conformance.mechanism import MOST, TOYS, check_mechanism, examine
from bilevel.errors import MissingExtra
from bilevel.mechanism import Mechanism, View
from bilevel.mechanisms import load, names
from bilevel.model import Move, Trial
from bilevel.sandbox.errors import SandboxRefused
from bilevel.sandbox.host import Limits
from bilevel.sandbox.sandboxed import Sandbox, SandboxedMechanism

HEAD = """
from bilevel.mechanism import Mechanism
from bilevel.model import Draft, Move
"""
ARGUMENTS = {"plan": "view, moves", "screen": "view, drafts", "accept": "view, trial, keep"}
START = "**view.incumbent.values"


def source(hook: str, body: str, top: str = "", init: str = "pass") -> str:
    """A mechanism whose hook runs `body`, in line 11 where `top` is one line."""
    lines = "\n".join(f"        {line}" for line in body.splitlines())
    return (
        f"{HEAD}{top}\n\nclass Mine(Mechanism):\n    def __init__(self):\n        {init}\n\n"
        f"    def {hook}(self, {ARGUMENTS[hook]}):\n{lines}\n"
    )


def plan(body: str, top: str = "", init: str = "pass") -> str:
    return source("plan", body, top, init)


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], type[Mechanism]]:
    """The class of a source, imported as a module of this process."""

    def made(text: str) -> type[Mechanism]:
        path = tmp_path / "mine.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location("mine", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "mine", module)
        spec.loader.exec_module(module)
        return module.Mine

    return made


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(Limits(call=1.0)) as made:
        yield made


HEAVY = {"gp": 2, "random_search": 2, "tpe": 4, "centaur": 4}  # steps, for they take long


@pytest.mark.parametrize("name", names())
def test_every_shipped_mechanism_conforms(name: str) -> None:
    try:
        load(name)
    except MissingExtra as error:
        pytest.skip(str(error))
    assert [*map(str, check_mechanism(lambda: load(name), steps=HEAVY.get(name, 8)))] == []


@pytest.mark.parametrize("name", ["islands", "tabu"])
def test_conforms_behind_the_wall_as_well(name: str, sandbox: Sandbox) -> None:
    text = (Path(sys.modules["bilevel.mechanisms"].__path__[0]) / f"{name}.py").read_text()
    assert [*map(str, check_mechanism(lambda: sandbox.load(text)))] == []


def test_the_identity_conforms() -> None:
    found = examine(Mechanism)
    assert found.problems == []
    assert found.decisions > 3 * 12 * len(TOYS) * 0.8
    assert 0 < found.slowest < 5
    assert found.slowest_hook in ARGUMENTS


# What the author wrote; the hook, the toy, the line and the words that must come.
WRONG = {
    "returns nothing": (
        plan("pass"),
        "plan", "one number", None, "plan must return a list of Move, not a None", "`return moves`",
    ),
    "returns a dict": (
        plan("return {'X': 0.5}"),
        "plan", "one number", None, "must return a list of Move, not a dict", "`return moves`",
    ),
    "knows a name": (
        plan("rate = view.incumbent.values['LR']\nreturn moves"),
        "plan", "one number", 11, "KeyError: 'LR'", "names differ from task to task",
    ),
    "plans an unknown name": (
        plan(f"return [Move(values={{{START}, 'LR': 1.0}})]"),
        "plan", "one number", None, "there is no parameter 'LR'; known are X", "view.open()",
    ),
    "leaves the range": (
        plan(f"n = view.ranged()[0]\nreturn [Move(values={{{START}, n: 500}})]"),
        "plan", "one number", None, "X is 500 but its range is 0 to 1", "view.from_unit(",
    ),
    "leaves the grid": (
        plan(
            "return [Move(values={" + START + ", n: view.space[n].low + 1}) "
            "for n in view.ranged() if view.space[n].step] or moves"
        ),
        "plan", "whole numbers", None, "HEADS is 3 but moves in steps of 2", "view.neighbours(",
    ),
    "changes what is frozen": (
        plan(
            "v = {n: view.from_unit(n, view.rng.random()) for n in view.space.names}\n"
            "return [Move(values=v), *moves]"
        ),
        "plan", "all but four parameters frozen", None, "is frozen at", "view.open()",
    ),
    "starts from a best with other frozen values": (
        plan(
            "n, v = view.ranged(), dict(view.best.values)\n"
            "return [Move(values={**v, n[-1]: view.from_unit(n[-1], view.rng.random())})] "
            "if view.frozen and n else moves"
        ),
        "plan", "an incumbent that is not the best, frozen late", None, "is frozen at",
        "view.incumbent.values",
    ),
    "focuses on what is frozen": (
        plan("return [m.edit(focus=view.space.names) for m in moves]"),
        "plan", "all but four parameters frozen", None, "DECAY is frozen or unknown", "view.open()",
    ),
    "compares the score of a failure": (
        plan("best = max(view.trials, key=lambda t: t.score)\nreturn moves"),
        "plan", "trials that crash, time out or are invalid", 11, "'NoneType' and 'float'",
        "use view.scored()",
    ),
    "divides by the spread": (
        plan("s = [t.score for t in view.scored()]\nx = 1 / (max(s) - min(s))\nreturn moves"),
        "plan", "one number", 12, "ZeroDivisionError", "test the divisor",
    ),
    "divides by the noise": (
        source("accept", "return keep or (trial.score or 0) / view.noise > 2"),
        "accept", "one number", 11, "'float' and 'NoneType'", "view.noise can be None",
    ),
    "needs two trials": (
        plan("import statistics\nstatistics.stdev(t.score for t in view.scored())\nreturn moves"),
        "plan", "one number", 12, "at least two data points", "test the length first",
    ),
    "looks for the trial before": (
        plan("last = view.trials[1:][-1]\nreturn moves"),
        "plan", "one number", 11, "IndexError", "lists can be empty",
    ),
    "takes an id for a place": (
        source("accept", "return keep or view.trials[trial.id - 1].kept"),
        "accept", "one number on a log scale", 11, "IndexError", "id is not its place in a list",
    ),
    "takes the first move": (
        plan("return [moves[0]]"),
        "plan", "a layer below that plans and keeps worse trials", 11, "IndexError",
        "give back what came in",
    ),
    "asks for the baseline's draft": (
        plan("tags = [t.draft.move.tag for t in view.trials]\nreturn moves"),
        "plan", "one number", 11, "no attribute 'move'", "the baseline's draft is None",
    ),
    "computes with a text": (
        plan("total = sum(view.incumbent.values.values())\nreturn moves"),
        "plan", "choices", 11, "unsupported operand", "view.unit(name, value)",
    ),
    "asks for a helper that is not there": (
        plan("past = view.history\nreturn moves"),
        "plan", "one number", 11, "'View' object has no attribute 'history'", "mean .trials?",
    ),
    "misspells a helper": (
        plan("past = view.score()\nreturn moves"),
        "plan", "one number", 11, "no attribute 'score'", "did you mean .scored?",
    ),
    "uses an attribute that was never set": (
        plan("self.count += 1\nreturn moves"),
        "plan", "one number", 11, "no attribute 'count'", "self.count = ...",
    ),
    "makes up a field": (
        plan("return [Move(params={'X': 1})]"),
        "plan", "one number", 11, "unexpected keyword argument 'params'", "a Move has parents,",
    ),
    "calls a helper wrongly": (
        plan("view.neighbours('X')\nreturn moves"),
        "plan", "one number", 11, "missing 1 required positional argument",
        ".neighbours(values, name, reach)",
    ),
    "forgets an import": (
        plan("return [m for m in moves if isinstance(m, Trial)]"),
        "plan", "one number", 11, "'Trial' is not defined", "from bilevel.model import Trial",
    ),
    "names a trial that is not there": (
        plan("return [Move(parents=(99,))]"),
        "plan", "one number", None, "(99,) are not all", "parents=(view.incumbent.id,)",
    ),
    "gives a trial for its id": (
        plan("return [Move(parents=(view.best,))]"),
        "plan", "one number", None, "Move.parents", "parents=(view.incumbent.id,)",
    ),
    "forgets a comma": (
        plan("return [Move(focus=(view.open()[0]))]"),
        "plan", "one number", None, "Move.focus must be a tuple", "focus=(name,)",
    ),
    "changes a move in place": (
        plan("for m in moves:\n    m.note = 'be bold'\nreturn moves"),
        "plan", "one number", 12, "cannot assign to field 'note'", "move.edit(",
    ),
    "changes a trial in place": (
        plan("view.incumbent.values['X'] = 0.1\nreturn moves"),
        "plan", "one number", 11, "read-only", "{**values, name: value}",
    ),
    "invents a draft": (
        source("screen", "d = drafts[0]\nreturn [Draft(99, d.step, d.move, d.values)]"),
        "screen", "one number", None, "may not invent", "only drafts that came in",
    ),
    "repeats a draft": (
        source("screen", "return drafts + drafts"),
        "screen", "one number", None, "may not invent or repeat", "each once",
    ),
    "edits without a reason": (
        source(
            "screen",
            "v = {**drafts[0].values, 'X': 0.25}\n"
            "return [Draft(drafts[0].id, drafts[0].step, drafts[0].move, v)] "
            "if 'X' in view.space.names else drafts",
        ),
        "screen", "one number", None, "other values and no word why", "draft.edit(",
    ),
    "sorts drafts": (
        source("screen", "return sorted(drafts)"),
        "screen", "a layer below that plans and keeps worse trials", 11, "'Draft' and 'Draft'",
        "key=lambda",
    ),
    "answers with a number": (
        source("accept", "return 1"),
        "accept", "one number", None, "must return a bool, not a int", "`return keep`",
    ),
    "draws from its own generator": (
        plan("return [m.edit(note=str(R.random())) for m in moves]", "import random; R = random"),
        "plan", "one number", None, "asked the same once more", "randomness from view.rng only",
    ),
    "counts in a global": (
        plan("S.append(1)\nreturn [m.edit(note=str(len(S))) for m in moves]", "S = []"),
        "plan", "one number", None, "asked the same once more", "in attributes of self",
    ),
    "counts in a class attribute what only accept shows": (
        source("accept", "self.n.append(1)\nself.m = len(self.n)\nreturn keep")
        .replace("    def __init__", "    n = []\n\n    def __init__"),
        "accept", "one number", None, "it left in self", "class attributes",
    ),
    "keeps a set": (
        plan("self.seen.add(view.step)\nreturn moves", init="self.seen = set()"),
        "__init__", "any space", None, "self.seen is a set", "a sorted list for a set",
    ),
    "keeps numbers as keys": (
        plan("self.seen[view.step] = 1\nreturn moves", init="self.seen = {}"),
        "plan", "one number", None, "self.seen has the key 0", "use str(0)",
    ),
    "keeps a trial": (
        plan("self.last = view.best\nreturn moves"),
        "plan", "one number", None, "self.last is a Trial", "trial.id for a trial",
    ),
    "keeps an infinity": (
        plan("self.best = -float('inf')\nreturn moves"),
        "plan", "one number", None, "self.best is -inf", "None for unknown",
    ),
    "plans nothing": (
        plan("return []"),
        "plan", "one number", None, "no move 10 steps running", "return moves",
    ),
    "plans nothing after a while": (
        plan("return moves if len(view.trials) < 9 else []"),
        "plan", "ten parameters of all kinds", None, "no move 10 steps running", "return moves",
    ),
    "drops every draft": (
        source("screen", "return []"),
        "screen", "one number", None, "dropped every draft 10 steps running", "drafts[:1]",
    ),
    "plans what was tried": (
        plan("return [Move(values=view.space.defaults())]"),
        "plan", "one number", None, "no new draft 10 steps running (it repeats #0", "view.tried(",
    ),
    "calls itself": (
        plan("return self.plan(view, moves)"),
        "plan", "one number", 11, "RecursionError", "must not call itself",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_with_its_place_and_remedy(
    case: str, plain: Callable[[str], type[Mechanism]]
) -> None:
    text, hook, where, line, seen, remedy = WRONG[case]
    toys = [toy.name for toy in TOYS]
    upto = toys.index(where) + 1 if where in toys else 0
    first, *others = check_mechanism(plain(text), spaces=TOYS[:upto])
    assert (first.hook, first.where, first.line) == (hook, where, line)
    assert seen in first.words
    assert remedy in first.words
    assert len({p.words for p in others} | {first.words}) == len(others) + 1
    assert len(others) < MOST


# The same behind the wall, where the words come from the worker; and what only a process can do.
BEHIND = {
    "raises": (plan("return [m.nope for m in moves]"), "line 11: plan, ", "a Move has parents"),
    "returns nothing": (plan("pass"), "plan, with one number: plan must", "`return moves`"),
    "keeps a set": (
        plan("self.seen = {1}\nreturn moves"), "plan, with one number: self['seen'] is a set",
        "a sorted list",
    ),
    "keeps numbers as keys": (
        plan("self.seen = {1: 2}\nreturn moves"), "has the key 1;", "use str(1)",
    ),
    "edits in place": (
        source("screen", "for d in drafts:\n    for n in view.ranged():\n        "
               "d.values[n] = view.from_unit(n, view.rng.random())\nreturn drafts"),
        "screen, with one number: draft 0 came back with other values", "draft.edit(",
    ),
    "remembers in its process": (
        plan("S.setdefault(view.step, len(S))\nreturn [m.edit(note=str(S[view.step])) "
             "for m in moves]", "S = {}"),
        "in a new process that was given its state", "in attributes of self",
    ),
    "hangs": (plan("while True:\n    pass"), "plan gave no answer in 1 s", "does not end"),
    "leaves": (plan("raise SystemExit(1)"), "line 11: plan, ", "a hook ends by returning"),
    "does not load": (plan("return moves", "X = 1 / 0"), "line 4: __init__, with any space", "0"),
    "wants arguments": (
        plan("return moves").replace("(self):", "(self, k):"),
        "__init__, with any space", "__init__ takes no arguments but self",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BEHIND)
def test_what_is_wrong_behind_the_wall(case: str, sandbox: Sandbox) -> None:
    text, seen, remedy = BEHIND[case]
    first = str(check_mechanism(lambda: sandbox.load(text), spaces=TOYS[:3])[0])
    assert seen in first
    assert remedy in first


def test_new_workers_are_started_and_none_is_left(sandbox: Sandbox) -> None:
    made: list[SandboxedMechanism] = []

    def make() -> Mechanism:
        made.append(sandbox.load(plan("return moves")))
        return made[-1]

    (frozen,) = [t for t in TOYS if t.kills]
    assert check_mechanism(make, spaces=[frozen]) == []
    assert sum(m.starts for m in made) == 2 + 4
    assert [m.pid for m in made] == [None, None]


def test_a_machine_that_fails_is_not_the_mechanisms_problem() -> None:
    class Refused(Mechanism):
        def plan(self, view: View, moves: list[Move]) -> list[Move]:
            raise SandboxRefused("a worker did not start")

    with pytest.raises(SandboxRefused, match="did not start"):
        check_mechanism(Refused)


class Slow(Mechanism):
    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        until = time.process_time() + 0.05
        while time.process_time() < until:
            pass
        return moves


def test_a_slow_hook_is_found_without_waiting_for_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bilevel.conformance.mechanism.SLOW", 0.05)
    found = examine(Slow)
    (problem,) = found.problems
    assert (problem.hook, problem.where) == ("plan", "one number")
    assert "95 % of its calls must take under 0.05 s" in problem.words
    assert found.decisions <= 9


def test_problems_are_few_and_each_rule_is_named_once() -> None:
    class Crooked(Mechanism):
        def plan(self, view: View, moves: list[Move]) -> list[Move]:
            raise [KeyError, IndexError, ValueError][(view.step + len(view.space)) % 3]("x")

        def accept(self, view: View, trial: Trial, keep: bool) -> bool:
            raise [OSError, ZeroDivisionError, RuntimeError][trial.id % 3]("x")

    assert len(check_mechanism(Crooked)) == MOST


class Onlooker(Mechanism):
    """Changes nothing; notes what a mechanism gets to see."""

    views: ClassVar[list[View]] = []
    trials: ClassVar[list[tuple[Trial, bool]]] = []

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        self.views.append(view)
        return moves

    def accept(self, view: View, trial: Trial, keep: bool) -> bool:
        self.trials.append((trial, keep and trial.score != view.best.score))
        self.views.append(view)
        return keep


def test_the_toys_hold_what_runs_hold() -> None:
    assert check_mechanism(Onlooker) == []
    views, trials = Onlooker.views, [t for t, _ in Onlooker.trials]
    drafts = [t.draft for t in trials if t.draft is not None]
    assert {p.kind for v in views for p in v.space} == {"float", "int", "choice", "text"}
    assert any(len(v.trials) == 1 for v in views)
    assert {t.status for t in trials} == {"ok", "crash", "timeout", "invalid"}
    assert {v.noise for v in views} > {None, 0.0}
    assert {v.slots for v in views} == {1, 3}
    assert {len(v.open()) for v in views if len(v.space) == 10} == {10, 4, 6}
    assert any(v.best != v.incumbent for v in views)
    assert any(keep and t.score is not None and t.id % 3 == 0 for t, keep in Onlooker.trials)
    assert any(d.move.seed > 0 for d in drafts)
    assert any(d.move.focus for d in drafts)
    assert any(d.move.values for d in drafts)


def test_the_same_is_found_again() -> None:
    def bad() -> Mechanism:
        class Bad(Mechanism):
            def plan(self, view: View, moves: list[Move]) -> list[Move]:
                return [Move(focus=(view.rng.choice(view.space.names),))]

        return Bad()

    assert check_mechanism(bad) == check_mechanism(bad) != []
