"""Two layers that find their trials again by tags do so on one stack."""

from dataclasses import replace

import pytest
from searching import trial, view

from bilevel.mechanism import Mechanism
from bilevel.mechanisms.agent_team import AgentTeam
from bilevel.mechanisms.alma import Alma
from bilevel.mechanisms.claw_refine import ClawRefine
from bilevel.mechanisms.gear import Gear
from bilevel.mechanisms.islands import Islands
from bilevel.mechanisms.map_elites import MapElites
from bilevel.mechanisms.multi_batch import MultiBatch
from bilevel.mechanisms.multiscale import Multiscale
from bilevel.mechanisms.subagents import Subagents
from bilevel.mechanisms.thompson import Thompson
from bilevel.mechanisms.ucb1 import Ucb1
from bilevel.model import Draft, Move, Trial

POPULATIONS = (AgentTeam, Alma, ClawRefine, Gear, Islands, MapElites, MultiBatch, Subagents)
BANDITS = (Multiscale, Thompson, Ucb1)


def made(number: int, move: Move, kept: bool = False) -> Trial:
    one = trial(number, -1.0 / number, RATE=number / 10)
    return replace(one, draft=Draft(number, number - 1, move, one.values), kept=kept)


@pytest.mark.parametrize("bandit", BANDITS)
@pytest.mark.parametrize("population", POPULATIONS)
def test_a_bandit_above_a_population_leaves_it_its_trials(
    population: type[Mechanism], bandit: type[Mechanism]
) -> None:
    below = population().plan(view(trial(0, -1.0)), [Move((0,), tag="below")])
    above = bandit().plan(view(trial(0, -1.0)), below)
    assert all(move.tag for move in below)
    trials = [made(i, move) for i, move in enumerate(above, 1)]
    then = view(trial(0, -1.0), *trials)
    for tag in {move.tag for move in below}:
        assert len(then.by_tag(tag)) == sum(move.tag == tag for move in below)
    own = [words for t in trials if (words := t.draft.move.tag.split()[1:])]
    assert len(own) == len(trials)
    assert all(then.by_tag(word) for (word,) in own)


def test_the_scale_is_read_from_among_other_tags() -> None:
    move = Move((0,), tag="islands:1 scale:0.4")
    start = trial(0, -1.0)
    draft = Draft(1, 0, move, {**start.values, "RATE": 0.11})
    (changed,) = Multiscale().screen(view(start), [draft])
    assert changed.values["RATE"] > 0.11


@pytest.mark.parametrize("bandit", [Thompson, Ucb1])
def test_more_trials_than_pulls_are_pulls(bandit: type[Mechanism]) -> None:
    """As a layer below may try one move's draft in two places, and both were kept."""
    name = bandit.__name__.lower()
    tags = [Move((0,), tag=f"{name}:{p}") for p in ("RATE", "RATE", "BATCH", "PATTERN")]
    trials = [made(i, move, kept=True) for i, move in enumerate(tags, 1)]
    layer = bandit()
    layer.pulls = dict.fromkeys(("RATE", "BATCH", "PATTERN"), 1)  # type: ignore[attr-defined]
    (move,) = layer.plan(view(trial(0, -1.0), *trials), [Move((0,))])
    assert move.tag.startswith(f"{name}:")
