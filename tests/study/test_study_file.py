"""study.toml: what it says, and what is refused with which words."""

from pathlib import Path

import pytest
from studies import described, text

from bilevel.errors import ConfigError
from bilevel.study.file import load, parse
from bilevel.study.harness import blocks, plan_of

ROOT = Path(__file__).parents[2]


def test_arms_by_name_and_by_table(tmp_path: Path) -> None:
    names = ("A", "B", "C", "D", "sham", "restart", "tpe", "tabu+ucb1")
    file = described(tmp_path, *names)
    plan = plan_of(file, "task.toml")
    made = {c.strategy: plan.settings(c) for c in plan.cells() if c.seed == 0}
    outer = {name: (s.outer.steering, s.outer.research) for name, s in made.items()}
    assert [outer[n] for n in names] == [
        (False, "off"), (True, "off"), (True, "on"), (False, "on"), (True, "sham"),
        *[(False, "off")] * 3,
    ]  # fmt: skip
    assert made["C"].outer.every == made["sham"].outer.every == 2
    assert made["tabu+ucb1"].stack == ("tabu", "ucb1")
    assert made["restart"].states == {"restart_wipe": '{"BATCH": 4}'}
    assert {s.llm for s in made.values()} == {"scripted", "none"}
    assert made["tpe"].llm == "none"
    assert all(not s.remember and s.confirms == 1 for s in made.values())


def test_a_table_changes_what_it_sets(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("")
    more = """
[arm.C]
llm = "other"
outer = { candidates = 3 }
[arm.hand]
stack = ["tabu", "mine.py"]
constants = { tabu = { STEPS = 7 } }
"""
    file = parse(text("C", "hand") + more, tmp_path / "study.toml")
    plan = plan_of(file, "task.toml")
    full, hand = (plan.settings(c) for c in plan.cells()[:2])
    assert (full.llm, full.outer.candidates, full.outer.every) == ("other", 3, 2)
    assert hand.stack == ("tabu", str(tmp_path / "mine.py"))
    assert hand.states == {"tabu": '{"STEPS": 7}'}
    assert full.hypotheses


def test_a_study_can_do_without_hypotheses(tmp_path: Path) -> None:
    given = text("A", "C").replace("[study]", "[study]\nhypotheses = false")
    plan = plan_of(parse(given, tmp_path / "study.toml"), "task.toml")
    assert not any(plan.settings(cell).hypotheses for cell in plan.cells())


def test_all_arms_have_the_same_seeds_in_blocks_of_random_order(tmp_path: Path) -> None:
    file = described(tmp_path, "A", "B", "C", "D", "restart", "tpe", repeats=6)
    found = blocks(file)
    assert [b.repeat for b in found] == [*range(6)]
    orders = [tuple(c.strategy for c in b.cells) for b in found]
    assert all(sorted(o) == sorted(file.study.arms) for o in orders)
    assert len(set(orders)) > 3
    assert {o[0] for o in orders} > {orders[0][0]}
    assert [{c.seed for c in b.cells} for b in found] == [{seed} for seed in range(6)]
    assert blocks(file) == found
    fewer = blocks(described(tmp_path, "A", "B", "C", "D", "restart", "tpe", repeats=2))
    assert fewer == found[:2]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('arms = ["A", "B"]', 'arms = ["A", "tabuu"]', "did you mean tabu"),
        ('arms = ["A", "B"]', 'arms = ["A", "hand"]', "hand needs its mechanisms"),
        ('arms = ["A", "B"]', 'arms = ["A", "A"]', "names A twice"),
        ('arm = "A"', 'arm = "C"', "H1 speaks of arm C"),
        ('controls = ["B"]', 'controls = ["A"]', "compares A with itself"),
        ("repeats = 2", "repeats = 0", "study.repeats is 0 but should be greater"),
        ("evals = 3", 'evals = "3"', "study.evals is '3' but should be"),
        ("evals = 3", "evels = 3", "there is no key study.evels"),
        ('name = "toy-study"', 'name = "a/b"', "study.name is 'a/b'"),
        ('llm = "scripted"', 'llm = "none"', "--llm none"),
        ('"task.toml" = 0.5', '"other" = 0.5', "names other"),
        ("[outer]", "[arm.C]\n[outer]", "study.arms does not name C"),
        ("[study]", "[study", "no valid TOML|not valid TOML"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(tmp_path: Path, old: str, new: str, said: str) -> None:
    whole = text("A", "B")
    assert whole.count(old) >= 1
    with pytest.raises(ConfigError, match=said):
        parse(whole.replace(old, new, 1), tmp_path / "study.toml")


@pytest.mark.parametrize(
    "path", ["examples/study.toml", "studies/gpt-pilot.toml", "studies/free.toml"]
)
def test_the_studies_of_the_repository_are_whole(path: str) -> None:
    file = load(ROOT / path)
    assert file.plan is not None
    assert file.hypotheses
    plan = plan_of(file, file.study.tasks[0])
    assert len({repr(plan.settings(c)) for c in plan.cells()}) == len(plan.cells())
