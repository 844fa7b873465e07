"""Thompson sampling: the parameter that pays is drawn most, the others still are."""

import random
from collections import Counter
from dataclasses import replace

from trying import MIXED, go

from bilevel.mechanism import View
from bilevel.mechanisms.thompson import Thompson
from bilevel.model import Draft, Move, Trial
from worlds import SPACE

BASE = Trial(0, None, SPACE.defaults(), "ok", 1.0, {}, 1.0, seed=1, kept=True, role="baseline")


def drawn(kept: dict[str, int], pulls: dict[str, int]) -> Counter[str]:
    """How often each parameter is drawn of 1000 times."""
    past = [
        Trial(1, Draft(0, 0, Move(tag=f"thompson:{name}"), BASE.values), BASE.values, "ok", 1.0,
              {}, 1.0, seed=1, kept=True)
        for name, count in kept.items()
        for _ in range(count)
    ]  # fmt: skip
    view = View(SPACE, (BASE, *past), BASE, BASE, 9, left=9)
    counts: Counter[str] = Counter()
    for number in range(1000):
        mechanism = Thompson()
        mechanism.pulls = dict(pulls)
        (move,) = mechanism.plan(replace(view, rng=random.Random(number)), [Move(parents=(0,))])
        counts[move.focus[0]] += 1
    return counts


def test_without_experience_all_are_alike() -> None:
    assert min(drawn({}, {}).values()) > 280


def test_draws_by_the_chance_of_being_best() -> None:
    counts = drawn({"RATE": 4}, {"RATE": 5, "BATCH": 5, "PATTERN": 5})
    assert counts["RATE"] > 900
    assert counts["BATCH"] + counts["PATTERN"] > 0


def test_a_proposal_that_came_to_nothing_counts_as_a_failure() -> None:
    assert drawn({}, {"RATE": 9})["RATE"] < 100


def test_each_pull_changes_one_parameter() -> None:
    run = go(Thompson(), space=MIXED)
    assert all(len(m.focus) <= 1 for p in run.proposals for m in p.moves)
    assert any(m.focus for p in run.proposals for m in p.moves)
