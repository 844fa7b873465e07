"""B proposals from one incumbent a step; the best of them is the next incumbent."""

from searching import proposals, search, trial, trials, view

from bilevel.mechanisms.multi_batch import MultiBatch
from bilevel.model import Move
from worlds import says


def test_a_step_asks_four_times_with_different_advice_from_one_base() -> None:
    moves = MultiBatch().plan(view(trial(0, -1.0)), [Move((0,))])
    assert len(moves) == len({m.note for m in moves}) == 4
    assert {m.parents for m in moves} == {(0,)}


def test_the_best_of_a_batch_is_the_next_base() -> None:
    log = search(MultiBatch(), evals=20, reply=lambda m, n: rates(n))
    first, second = proposals(log)[:2]
    batch = [t for t in trials(log) if t.draft in first.drafts]
    assert len(batch) == 4
    best = max((t for t in batch if t.score is not None), key=lambda t: t.score)
    assert second.moves[0].parents == (best.id,)


def rates(number: int) -> str:
    return says(RATE=(0.2, 0.25, 0.28, 0.24, 0.6, 0.7, 0.8, 0.9)[number % 8])
