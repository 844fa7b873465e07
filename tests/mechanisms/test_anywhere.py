"""What these strategies do on any space: they finish, repeat, and heed what is frozen."""

import pytest
from trying import MIXED, TINY, WORDS, go, settled

from bilevel.mechanisms import load
from bilevel.model import Space, Steering
from worlds import SPACE, Log

NAMES = (
    "annealing",
    "diversity",
    "greedy",
    "memory",
    "multiscale",
    "opposite",
    "orthogonal",
    "restart",
    "restart_wipe",
    "sensitivity",
    "tabu",
    "thompson",
    "ucb1",
)
SPACES = {"toy": SPACE, "tiny": TINY, "mixed": MIXED, "words": WORDS}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_spends_its_budget_on_any_space(name: str, slots: int, space: Space) -> None:
    evals = 8 if space is TINY else 25  # 13 of TINY are within two changes of its default
    run = go(load(name), space=space, slots=slots, evals=evals)
    assert run.faults == []
    assert run.reason == "done"
    assert len(run.trials) == evals


@pytest.mark.parametrize("name", NAMES)
def test_two_runs_are_equal(name: str) -> None:
    once, again = go(load(name), space=MIXED), go(load(name), space=MIXED)
    assert settled(once.log) == settled(again.log)


@pytest.mark.parametrize("name", NAMES)
def test_leaves_frozen_parameters_alone(name: str) -> None:
    frozen = ("RATE", "PATTERN", "SOURCE")
    run = go(load(name), space=MIXED, log=Log([Steering(frozen)]))
    assert run.faults == []
    assert run.reason == "done"
    assert all(t.values[n] == MIXED[n].default for t in run.trials for n in frozen)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_cut_short_goes_on_to_the_same_end(name: str) -> None:
    whole = go(load(name), space=MIXED).log
    half = Log(whole[: len(whole) // 2])
    assert settled(go(load(name), space=MIXED, log=half).log) == settled(whole)
