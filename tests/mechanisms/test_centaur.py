"""Every third trial after the warm-up is the LLM's, and it is told what CMA-ES knows."""

from searching import search, tagged, trial, trials, view

from bilevel.mechanisms.centaur import Centaur
from bilevel.model import Move
from worlds import says


def test_a_third_of_the_trials_are_the_llms_after_the_warm_up() -> None:
    log = search(Centaur(), evals=40, reply=lambda m, n: says(RATE=n / 100))
    places = [trials(log).index(t) for t in tagged(log, "centaur:llm")]
    assert min(places) >= Centaur.WARMUP
    assert len(places) == 10


def test_the_llm_is_told_mean_step_size_and_suggestion() -> None:
    past = [trial(i, -1 / i, RATE=i / 20, BATCH=2 ** (8 + i % 8)) for i in range(1, 15)]
    (move,) = Centaur().plan(view(trial(0, -2.0), *past, step=15), [Move((0,))])
    assert move.values is None
    assert move.parents == (14, 13, 12, 11, 10)
    assert "steps of 0." in move.note
    assert move.note.count("RATE=") == 2
    assert "It would try" in move.note


def test_between_its_turns_cmaes_plans_alone() -> None:
    past = [trial(i, -1 / i, RATE=i / 20) for i in range(1, 15)]
    (move,) = Centaur().plan(view(trial(0, -2.0), *past, step=16), [Move((0,))])
    assert move.values is not None
