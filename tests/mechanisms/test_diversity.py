"""Diversity: the farthest draft first, none near to a recent trial while there is another."""

from trying import MIXED, go

from bilevel.mechanism import View
from bilevel.mechanisms.diversity import Diversity
from bilevel.model import Draft, Move, Trial
from worlds import SPACE

BASE = Trial(0, None, SPACE.defaults(), "ok", 1.0, {}, 1.0, seed=1, kept=True, role="baseline")
NEAR = {"RATE": 0.11}
FAR = {"PATTERN": "SL"}
FARTHEST = {"PATTERN": "SL", "RATE": 1.0}


def screened(*changes: dict[str, float | str], slots: int = 1) -> list[dict[str, float | str]]:
    """The changes of those drafts that are left."""
    drafts = [Draft(i, 1, Move(parents=(0,)), {**BASE.values, **c}) for i, c in enumerate(changes)]
    view = View(SPACE, (BASE,), BASE, BASE, 1, slots=slots, left=9)
    return [changes[d.id] for d in Diversity().screen(view, drafts)]


def test_the_farthest_is_first_and_the_near_one_goes() -> None:
    assert screened(NEAR, FAR, FARTHEST, slots=3) == [FARTHEST, FAR]
    assert screened(NEAR, FAR, FARTHEST) == [FARTHEST]


def test_when_all_are_near_the_farthest_is_taken() -> None:
    assert screened({"RATE": 0.101}, NEAR, slots=3) == [NEAR]


def test_a_run_spreads_wider_than_the_llm_alone() -> None:
    def spread(run) -> float:
        view = View(MIXED, tuple(run.trials), run.trials[0], run.trials[0], 1)
        places = [t.values for t in run.trials]
        return sum(
            min(view.distance(p, q) for q in places[max(0, i - 10) : i])
            for i, p in enumerate(places)
            if i
        )

    assert spread(go(Diversity(), space=MIXED)) > 1.2 * spread(go(space=MIXED))
