"""Tabu search: no parameter is set again where it was set lately, while there is a choice."""

import pytest
from trying import MIXED, go

from bilevel.mechanism import View
from bilevel.mechanisms.tabu import Tabu
from bilevel.model import Draft, Move, Trial
from worlds import SPACE

BASE = Trial(0, None, SPACE.defaults(), "ok", 1.0, {}, 1.0, seed=1, kept=True, role="baseline")


def draft(number: int, **changes: float | str) -> Draft:
    return Draft(number, number, Move(parents=(0,)), {**SPACE.defaults(), **changes})


def view(*past: Draft) -> View:
    trials = [
        Trial(i, d, d.values, "ok", 0.5, {}, 1.0, seed=1, kept=False) for i, d in enumerate(past, 1)
    ]
    return View(SPACE, (BASE, *trials), BASE, BASE, len(past), left=9)


@pytest.mark.parametrize(
    ("past", "near", "far"),
    [
        ({"RATE": 0.30}, {"RATE": 0.31}, {"RATE": 0.6}),
        ({"BATCH": 1024}, {"BATCH": 1024, "RATE": 0.5}, {"BATCH": 512}),
        ({"PATTERN": "SL"}, {"PATTERN": "SL", "RATE": 0.5}, {"RATE": 0.5}),
    ],
)
def test_drops_what_was_just_set(past: dict, near: dict, far: dict) -> None:
    drafts = [draft(7, **near), draft(8, **far)]
    assert Tabu().screen(view(draft(0, **past)), drafts) == drafts[1:]


def test_forgets_after_seven_trials() -> None:
    drafts = [draft(8, RATE=0.31), draft(9, PATTERN="SL")]
    later = [draft(i, BATCH=256 * 2**i) for i in range(7)]
    assert Tabu().screen(view(draft(0, RATE=0.3), *later[:6]), drafts) == drafts[1:]
    assert Tabu().screen(view(draft(0, RATE=0.3), *later), drafts) == drafts[:1]


def test_when_all_is_tabu_one_is_taken() -> None:
    drafts = [draft(7, RATE=0.31), draft(8, RATE=0.32)]
    assert Tabu().screen(view(draft(0, RATE=0.3)), drafts) == drafts[:1]


class Exact(Tabu):
    RADIUS = 0.0


def test_a_run_never_evaluates_a_close_repeat_while_another_draft_is_none() -> None:
    run = go(Exact(), space=MIXED, evals=40)
    bases = {0: MIXED.defaults()} | {t.id: t.values for t in run.trials}
    recent: list[dict[str, object]] = []
    steps = {p.step: p.drafts for p in run.proposals}

    def repeats(d: Draft) -> bool:
        changes = changed(d)
        return any(past.get(n) == value for past in recent[-7:] for n, value in changes.items())

    def changed(d: Draft) -> dict[str, object]:
        base = bases[d.move.parents[0]]
        return {n: d.values[n] for n in MIXED.changed(base, d.values)}

    for chosen in run.drafts:
        assert not repeats(chosen) or all(map(repeats, steps[chosen.step]))
        recent.append(changed(chosen))
    assert any(repeats(d) for drafts in steps.values() for d in drafts)
