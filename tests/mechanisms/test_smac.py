"""SMAC, where it is installed; what is said where it is not."""

import importlib.util

import pytest
from searching import search, stop, trials

from bilevel.errors import MissingExtra
from bilevel.mechanisms import load

installed = importlib.util.find_spec("smac") is not None


@pytest.mark.skipif(installed, reason="SMAC3 is installed")
def test_says_what_is_missing_and_how_to_get_it() -> None:
    with pytest.raises(MissingExtra, match=r"pip install 'bilevel\[smac\]'"):
        load("smac")


@pytest.mark.skipif(not installed, reason="needs SMAC3")
@pytest.mark.parametrize("world", ["mixed", "grid", "odd"])
def test_spends_its_budget_and_finds_better_ones(world: str) -> None:
    log = search(load("smac"), world=world)
    assert stop(log).reason == "done"
    assert any(t.kept for t in trials(log))
