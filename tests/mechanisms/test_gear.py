"""The frontier holds four elites; parents are chosen by utility; crossovers come regularly."""

from dataclasses import replace

from searching import search, trial, trials, view

from bilevel.mechanisms.gear import Elite, Gear, _jaccard
from bilevel.model import Draft, Move, Trial


def child(number: int, score: float | None, *parents: int, **values: object) -> Trial:
    made = trial(number, score, **values)
    tag = "gear:cross" if len(parents) > 1 else "gear:mutate"
    return replace(made, draft=Draft(number, number - 1, Move(parents, tag=tag), made.values))


def frontier(*past: Trial) -> dict[int, Elite]:
    return {e.id: e for e in Gear()._frontier(view(trial(0, -1.0), *past))}


def test_the_frontier_fills_and_then_the_worst_gives_way() -> None:
    past = [child(i, -1 - i / 10, 0, RATE=i / 20) for i in (1, 2, 3)]
    assert set(frontier(*past)) == {0, 1, 2, 3}
    assert set(frontier(*past, child(4, -1.15, 0, RATE=0.7))) == {0, 1, 2, 4}
    assert set(frontier(*past, child(4, -1.9, 0, RATE=0.05))) == {0, 1, 2, 3}
    assert set(frontier(*past, child(4, None, 0, PATTERN="L"))) == {0, 1, 2, 3}


def test_a_new_best_takes_the_place_of_the_best_and_a_better_child_its_parents() -> None:
    past = [child(i, -1 - i / 10, 0, RATE=i / 20) for i in (1, 2, 3)]
    assert set(frontier(*past, child(4, -0.5, 1, RATE=0.7))) == {4, 1, 2, 3}
    assert set(frontier(*past, child(4, -1.05, 1, RATE=0.7))) == {0, 4, 2, 3}


def test_both_parents_are_credited_the_second_by_half() -> None:
    past = [child(1, -1.2, 0, RATE=0.5), child(2, -1.1, 0, 1, BATCH=512)]
    elites = frontier(*past)
    assert (elites[0].children, elites[1].children) == (2, 1)
    assert abs(elites[0].gain - (-0.2 - 0.1) / 2) < 1e-12
    assert abs(elites[1].gain - -0.1 * 0.5) < 1e-12


def test_ideas_differ_by_the_changes_that_they_do_not_share() -> None:
    one, other = frozenset({("RATE", 0.2)}), frozenset({("RATE", 0.2), ("BATCH", 512)})
    assert (_jaccard(one, one), _jaccard(one, other), _jaccard(one, frozenset())) == (0.0, 0.5, 1.0)


def test_at_least_a_quarter_are_crossovers_never_with_the_baseline_while_others_differ() -> None:
    found = trials(search(Gear(), evals=40))
    moves = [t.draft.move for t in found if t.draft is not None]
    crossed = [m for m in moves if m.tag == "gear:cross"]
    assert len(crossed) >= 10
    assert all(len(set(m.parents)) == 2 for m in crossed)
    assert moves[0].tag == "gear:mutate"
    assert sum(m.parents[1] == 0 for m in crossed) <= len(crossed) / 4


def test_an_idle_step_turns_to_another_parent() -> None:
    past = [trial(0, -1.0), child(1, -1.2, 0, RATE=0.5), child(2, -1.3, 0, RATE=0.7)]
    parents = {Gear().plan(view(*past, step=s), [])[0].parents[0] for s in (2, 3, 4)}
    assert len(parents) == 3


def test_credit_goes_to_the_parents_that_are_elites_the_first_one_in_full() -> None:
    past = [child(i, -1 - i / 10, 0, RATE=i / 20) for i in (1, 2, 3)]
    left = child(4, -1.15, 0, RATE=0.7)  # trial 3 leaves the frontier
    elites = frontier(*past, left, child(5, -1.9, 3, 0, RATE=0.05, BATCH=512))
    assert elites[0].children == 5
    assert abs(elites[0].gain - (-0.1 - 0.2 - 0.3 - 0.15) / 5) < 1e-12
