"""Islands breed among themselves, from good and simple parents, and the weak ones are reset."""

import random
from collections import Counter
from dataclasses import replace

from searching import search, trial, trials, view

from bilevel.mechanisms.islands import Islands
from bilevel.model import Draft, Move, Trial


def on(island: int, number: int, score: float, **values: object) -> Trial:
    made = trial(number, score, **values)
    move = Move((0,), tag=f"islands:{island}")
    return replace(made, draft=Draft(number, number - 1, move, made.values))


def draws(some, times: int = 200) -> list[Move]:
    rng = random.Random(1)
    return [Islands().plan(replace(some, rng=rng), [Move((0,))])[0] for _ in range(times)]


def test_parents_come_from_the_island_that_the_child_joins() -> None:
    past = [on(i % 4, i, -1 + i / 100, RATE=i / 20) for i in range(1, 13)]
    homes = {t.id: t.draft.move.tag for t in past if t.draft is not None}
    for move in draws(view(trial(0, -1.0), *past)):
        assert {homes.get(p, move.tag) for p in move.parents} == {move.tag}


def test_prefers_the_better_cluster_and_the_better_parent_comes_first() -> None:
    past = [on(0, 1, -0.5, RATE=0.2), on(0, 2, -2.0, RATE=0.9)]
    moves = [m for m in draws(view(trial(0, -1.9), *past)) if m.tag == "islands:0"]
    first = Counter(m.parents[0] for m in moves)
    assert first[1] > 0.95 * len(moves)


def test_of_equal_scores_the_simpler_is_preferred() -> None:
    past = [on(0, 1, -0.5, RATE=0.2), on(0, 2, -0.5, RATE=0.3, BATCH=512, PATTERN="SL")]
    moves = [m for m in draws(view(trial(0, -9.0), *past), 400) if m.tag == "islands:0"]
    first = Counter(m.parents[0] for m in moves)
    assert first[1] > 1.5 * first[2] > 0


def test_scores_within_the_noise_are_one_cluster() -> None:
    past = [on(0, 1, -0.50, RATE=0.2), on(0, 2, -0.52, RATE=0.3)]
    islands = Islands()._islands(view(trial(0, -1.0), *past, noise=0.1))
    assert [len(c) for c in islands[0].values()] == [1, 2]


def test_the_weaker_half_starts_again_from_a_survivors_best() -> None:
    strong, weak = (0, 1), (2, 3)
    past = [
        on((i - 1) % 4, i, -0.1 if (i - 1) % 4 in strong else -0.9, RATE=i / 20)
        for i in range(1, 16)
    ]
    islands = Islands()._islands(view(trial(0, -1.0), *past))
    assert [sum(map(len, islands[i].values())) for i in weak] == [1, 1]
    assert [max(islands[i]) for i in weak] == [-0.1, -0.1]
    assert all(sum(map(len, islands[i].values())) > 4 for i in strong)


def test_all_islands_are_used_in_a_run() -> None:
    tags = {t.draft.move.tag for t in trials(search(Islands(), evals=40)) if t.draft is not None}
    assert tags == {f"islands:{i}" for i in range(4)}
