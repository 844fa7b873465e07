"""Greedy acceptance, and what any acceptance owes."""

import pytest
from trying import go, settled

from bilevel.mechanism import Mechanism, View
from bilevel.mechanisms.annealing import Annealing
from bilevel.mechanisms.greedy import Greedy
from bilevel.model import Move, Outcome, Trial
from worlds import loss


class KeepsAll(Mechanism):
    def accept(self, view: View, trial: Trial, keep: bool) -> bool:
        return True


class Remeasures(Mechanism):
    """Measures the default on fresh seeds, where it does better."""

    def plan(self, view: View, moves: list[Move]) -> list[Move]:
        return [Move(values=view.trials[0].values, seed=view.step + 1)]


@pytest.mark.parametrize("kind", [Greedy, Annealing])
def test_a_score_on_another_seed_does_not_compare(kind: type[Mechanism]) -> None:
    scores = iter(range(100))
    run = go(
        Remeasures(), kind(), evals=5,
        measure=lambda v, s: Outcome("ok", -float(next(scores)), {"loss": 0.0}),
    )  # fmt: skip
    assert [t.score for t in run.trials] == [2, 3, 4, 5, 6]
    assert not any(t.kept for t in run.trials)


def test_is_the_empty_stack() -> None:
    assert settled(go(Greedy(), measure=loss).log) == settled(go(measure=loss).log)


def test_overrules_a_layer_below_that_keeps_all() -> None:
    loose, strict = go(KeepsAll(), measure=loss), go(KeepsAll(), Greedy(), measure=loss)
    assert sum(t.kept for t in loose.trials) > sum(t.kept for t in strict.trials) > 0
    assert settled(strict.log) == settled(go(measure=loss).log)
