"""Each cell keeps its best; parents are elites of one island; the best migrate to neighbours."""

import random
from collections import Counter
from dataclasses import replace

from searching import trial, view

from bilevel.mechanisms.map_elites import MapElites
from bilevel.model import Draft, Move, Trial


def on(island: int, number: int, score: float | None, **values: object) -> Trial:
    made = trial(number, score, **values)
    move = Move((0,), tag=f"map_elites:{island}")
    return replace(made, draft=Draft(number, number - 1, move, made.values))


def test_a_cell_keeps_its_best_and_another_kind_keeps_its_own() -> None:
    alike = [on(0, 1, -0.9, RATE=0.11), on(0, 2, -0.5, RATE=0.12), on(0, 3, -0.7, RATE=0.13)]
    other = on(0, 4, -5.0, RATE=0.9, BATCH=512, PATTERN="SL")
    failed = on(0, 5, None, RATE=0.14)
    grid = MapElites()._grids(view(trial(0, -1.0), *alike, other, failed))[0]
    assert sorted(t.id for _, t in grid.values()) == [0, 2, 4]


def test_the_best_migrates_to_both_neighbours_after_ten_trials() -> None:
    past = [on(0, i, -1 / i, RATE=0.1 + i / 1000) for i in range(1, 10)]
    tenth = on(1, 10, -2.0, RATE=0.3)
    apart = MapElites()._grids(view(trial(0, -1.5), *past))
    joined = MapElites()._grids(view(trial(0, -1.5), *past, tenth))
    assert all(9 not in {t.id for _, t in g.values()} for g in apart[1:])
    assert all(9 in {t.id for _, t in g.values()} for g in joined)


def test_mostly_exploits_elites_and_shows_the_best_beside_them() -> None:
    kinds = [{"RATE": 0.2}, {"RATE": 0.9}, {"BATCH": 256}, {"PATTERN": "SL"}]
    kinds += [{"PATTERN": "SL", "BATCH": 512}, {"PATTERN": "SL", "RATE": 0.9}]
    past = [on(0, i, -float(i), **kind) for i, kind in enumerate(kinds, start=1)]
    some, rng = view(trial(0, -9.0), *past, step=6), random.Random(1)
    moves = [MapElites().plan(replace(some, rng=rng), [])[0] for _ in range(300)]
    assert {m.tag for m in moves} == {"map_elites:0"}
    first = Counter(m.parents[0] for m in moves)
    elites = sorted(t.id for _, t in MapElites()._grids(some)[0].values())[1:4]
    assert sum(first[i] for i in elites) > 0.7 * len(moves)
    assert all(m.parents[1] == elites[0] for m in moves if m.parents[0] != elites[0])
    assert len(first) > 3


def test_islands_take_turns() -> None:
    tags = [MapElites().plan(view(trial(0, -1.0), step=s), [])[0].tag for s in range(3)]
    assert tags == ["map_elites:0", "map_elites:1", "map_elites:2"]
