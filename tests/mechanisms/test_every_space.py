"""What all of these strategies owe: no fault and no idling on any space, and equal runs again."""

import pytest
from searching import WORLDS, search, stop, timeless, trials

from bilevel.mechanisms import load
from bilevel.model import Steering
from worlds import Log, says

NAMES = (
    "agent_team",
    "alma",
    "centaur",
    "claw_refine",
    "cmaes",
    "gear",
    "gp",
    "islands",
    "map_elites",
    "multi_batch",
    "racing",
    "random_search",
    "subagents",
    "tpe",
)


def rate(messages: object, number: int) -> str:
    return says(RATE=round(0.01 + number % 90 / 100, 2))


NO_LLM = ("cmaes", "gp", "racing", "random_search", "tpe")


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", NAMES)
def test_spends_its_budget_on_any_space(name: str, world: str) -> None:
    log = search(load(name), world=world)
    assert stop(log).reason == "done"
    assert len(trials(log)) == WORLDS[world][3]


@pytest.mark.parametrize("name", NAMES)
def test_leaves_frozen_parameters_alone(name: str) -> None:
    log = search(load(name), Log([Steering(frozen=("BATCH", "PATTERN"))]), reply=rate)
    assert len(trials(log)) == 12
    assert {(t.values["BATCH"], t.values["PATTERN"]) for t in trials(log)} == {(4096, "SSSL")}


@pytest.mark.parametrize("name", NAMES)
def test_fills_its_slots(name: str) -> None:
    log = search(load(name), evals=9, slots=3)
    assert len(trials(log)) == 9


@pytest.mark.parametrize("name", NAMES)
def test_a_run_cut_short_goes_on_as_it_would_have(name: str) -> None:
    whole = search(load(name), evals=8)
    for cut in (len(whole) // 3, len(whole) // 2, len(whole) - 2):
        log = search(load(name), Log(whole[:cut]), evals=8)
        assert timeless(log) == timeless(whole), f"cut after record {cut}"


@pytest.mark.parametrize("name", NO_LLM)
def test_needs_no_llm(name: str) -> None:
    def fails(messages: object, number: int) -> str:
        raise AssertionError("asked the LLM")

    assert len(trials(search(load(name), reply=fails, evals=8))) == 8
