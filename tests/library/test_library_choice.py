"""Which mechanisms a run is given."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from shelves import KINDS, entry, transfer, use

from bilevel.errors import ConfigError
from bilevel.library.choice import SHOWN, WAYS, best, borrow, likeness
from bilevel.library.library import Entry
from outer_worlds import SPACE

OTHER = {"X": "float", "Y": "float"}
NEAR = {**KINDS, "EXTRA": "int"}


def names(entries: list[Entry]) -> list[str]:
    return [e.source.name for e in entries]


def joining(entries: list[Entry], wish: str, seed: int = 0) -> list[str]:
    return [b.source.name for b in borrow(entries, wish, "toy", SPACE, seed) if b.joins]


def test_the_same_task_comes_first_then_the_most_alike_then_credit() -> None:
    far = entry("far", [0.9], "far", OTHER)
    near = entry("near", [0.5], "near", NEAR)
    mine, better = entry("mine", [0.1]), entry("better", [0.2])
    assert names(best([far, near, mine, better], "toy", KINDS)) == ["better", "mine", "near", "far"]


def test_likeness_is_of_the_nearest_task_that_it_was_used_on() -> None:
    far = entry("far", [0.9], "far", OTHER)
    assert likeness(entry("mine"), "toy", KINDS) == 1
    assert 0 < likeness(far, "toy", KINDS) < likeness(entry("n", (), "n", NEAR), "toy", KINDS) < 1
    assert likeness(entry("none", (), "none", {"Z": "text"}), "toy", KINDS) == 0
    used = replace(far, uses=(*far.uses, use(7, 0.1)))
    assert likeness(used, "toy", KINDS) == 1


def test_best_takes_the_best_and_leaves_out_what_harms_the_task() -> None:
    harms = transfer("toy", -0.2, -0.21, -0.19)
    shelf = [entry("a", [0.1]), entry("b", [0.5]), entry("c", [0.9], transfers=[harms])]
    assert joining(shelf, "best") == ["b"]
    assert joining(shelf, "best:2") == ["b", "a"]
    with pytest.raises(ConfigError, match=r"has 2 mechanisms that may join .* asks for 3"):
        joining(shelf, "best:3")


@pytest.mark.parametrize("way", ["alma", "random"])
def test_sampling_depends_on_the_seed_and_not_on_the_order(way: str) -> None:
    shelf = [entry(w, [0.1 * i]) for i, w in enumerate("abcdef", 1)]
    drawn = [tuple(joining(shelf, f"{way}:3", seed)) for seed in range(12)]
    random.Random(1).shuffle(shelf)
    assert drawn == [tuple(joining(shelf, f"{way}:3", seed)) for seed in range(12)]
    assert len(set(drawn)) > 6
    assert all(len(set(three)) == 3 for three in drawn)


def test_alma_prefers_credit_and_penalises_use() -> None:
    often, seldom = entry("often", [0.8] * 12), entry("seldom", [0.8])
    useless = entry("useless", [0.0])
    shelf = [often, seldom, useless]
    rng = random.Random(3)
    drawn = Counter(WAYS["alma"](shelf, 1, "toy", KINDS, rng)[0].source.name for _ in range(2000))
    # softmax((credit - 0.5 ln(1 + runs)) / 0.5): 0.381, 2.477 and 0.5 before normalising
    assert drawn["seldom"] > drawn["useless"] > drawn["often"]
    assert drawn["seldom"] / 2000 == pytest.approx(2.477 / 3.358, abs=0.04)


def test_level_2_is_shown_a_few_others_of_the_same_task_best_first_with_their_record() -> None:
    helps = transfer("toy", 0.2, 0.21, 0.19)
    shelf = [entry(w, [0.1 * i], transfers=[helps]) for i, w in enumerate("abcdef", 1)]
    shelf.append(entry("elsewhere", [0.9], "other", NEAR))
    given = borrow(shelf, "best", "toy", SPACE, 0)
    assert [b.source.name for b in given] == ["f", "e", "d", "c"]
    assert len(given) == SHOWN
    assert given[1].record == (
        "from the library: in 1 earlier runs of this task 50% (n 1) of the decisions would differ "
        "without it, 2 of 5 trials touched were kept; helps on toy: gain of loss +0.2, 95 % "
        "interval of the gain 0.18 to 0.22, n 3, proposals by scripted"
    )
    (new,) = borrow([entry("new")], "best", "toy", SPACE, 0)
    assert (new.record, new.credit) == ("from the library, never used yet", 0.0)


@pytest.mark.parametrize("wish", ["worst", "best:0", "best:x", "best:-1", ":2"])
def test_a_wish_that_is_none_is_refused(wish: str) -> None:
    with pytest.raises(ConfigError, match=r"must be one of best, alma, random"):
        borrow([entry("a")], wish, "toy", SPACE, 0)
