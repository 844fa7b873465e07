"""Experience over runs: what is kept of a trial, and what the next run is told."""

import json
from dataclasses import replace

import pytest
from trying import MIXED, go

from bilevel.mechanism import View
from bilevel.mechanisms.memory import Memory
from bilevel.model import Draft, Move, Trial
from worlds import SPACE

BASE = Trial(0, None, SPACE.defaults(), "ok", 1.0, {}, 1.0, seed=1, kept=True, role="baseline")
START = [Move(parents=(0,))]


def trial(score: float | None, **changes: float | str) -> Trial:
    values = {**BASE.values, **changes}
    draft = Draft(0, 0, Move(parents=(0,)), values, "It is simpler.")
    return Trial(1, draft, values, "ok" if score else "crash", score, {}, 1.0, 1, kept=False)


def view(step: int = 0, *past: Trial) -> View:
    return View(SPACE, (BASE, *past), BASE, BASE, step, left=9, noise=0.1)


def after(*trials: Trial) -> Memory:
    """The memory of a run that has ended, as the next one gets it."""
    first, later = Memory(), Memory()
    first.plan(view(), START)
    for one in trials:
        assert first.accept(view(), one, False) is False
    later._restore(first._state())
    return later


@pytest.mark.parametrize(
    ("score", "told"),
    [
        (1.5, "RATE 0.1 -> 0.3 was 0.5 better"),
        (0.5, "RATE 0.1 -> 0.3 was 0.5 worse, the idea failed"),
        (0.95, "RATE 0.1 -> 0.3 crashed or decided nothing, the idea is open"),
        (None, "RATE 0.1 -> 0.3 crashed or decided nothing, the idea is open"),
    ],
)
def test_tells_the_next_run_what_failed_the_idea_or_the_code(score: float, told: str) -> None:
    (move,) = after(trial(score, RATE=0.3)).plan(view(), START)
    assert move.note == f"Earlier runs: {told}."


def test_says_nothing_of_the_run_it_is_in() -> None:
    memory = Memory()
    memory.plan(view(), START)
    memory.accept(view(), trial(1.5, RATE=0.3), True)
    assert memory.plan(view(1), START) == START


def test_two_directions_and_one_strategy_the_nearest_and_largest_first() -> None:
    gains = {0.2: 1.3, 0.3: 1.9, 0.4: 0.4, 0.5: 1.4}
    memory = after(*(trial(score, RATE=rate) for rate, score in gains.items()))
    (move,) = memory.plan(view(), START)
    assert move.note == (
        "Earlier runs: RATE 0.1 -> 0.3 was 0.9 better; "
        "RATE 0.1 -> 0.4 was 0.6 worse, the idea failed; "
        "good as a whole: RATE 0.1 -> 0.5."
    )


def test_what_began_nearer_comes_first_though_it_gained_less() -> None:
    moved = replace(trial(1.0, BATCH=512), id=2)
    there = view(1, moved)
    first = after(trial(1.9, RATE=0.3))
    later = trial(1.2, BATCH=512, RATE=0.2)
    assert later.draft is not None
    first.accept(there, replace(later, draft=replace(later.draft, move=Move(parents=(2,)))), False)
    memory = Memory()
    memory._restore(first._state())
    (at_default,) = memory.plan(view(), START)
    assert at_default.note.index("-> 0.3") < at_default.note.index("-> 0.2")
    (at_moved,) = memory.plan(replace(there, incumbent=moved), START)
    assert at_moved.note.index("-> 0.2") < at_moved.note.index("-> 0.3")


def test_what_this_run_tried_itself_is_not_repeated() -> None:
    memory = after(trial(1.5, RATE=0.3), trial(1.2, PATTERN="SL"))
    memory.plan(view(), START)
    memory.accept(view(), trial(1.4, RATE=0.3), True)
    (move,) = memory.plan(view(1), START)
    assert "RATE" not in move.note
    assert 'PATTERN "SSSL" -> "SL"' in move.note


def test_a_change_made_again_replaces_what_was_known_of_it() -> None:
    memory = after(trial(1.5, RATE=0.3), trial(1.2, BATCH=512), trial(0.5, RATE=0.3))
    assert [r["gain"] for r in memory.records] == [pytest.approx(0.2), -0.5]


def test_a_measurement_on_another_seed_is_no_experience() -> None:
    again = trial(1.5, RATE=0.3)
    assert again.draft is not None
    fresh = replace(again, draft=replace(again.draft, move=Move(parents=(0,), seed=1)))
    assert after(fresh).records == []


def test_keeps_a_bounded_number_of_records() -> None:
    memory = after(*(trial(1.5, RATE=0.001 * i) for i in range(2, 200)))
    assert len(memory.records) == Memory.MOST
    assert len(memory._state()) < 20_000


def test_the_second_run_of_a_task_is_told_of_the_first() -> None:
    first, second = Memory(), Memory()
    run = go(first, space=MIXED)
    assert not any("Earlier runs" in talk[1].content for talk in run.llm.calls)
    second._restore(json.dumps(json.loads(first._state())))
    run = go(second, space=MIXED, seed=8)
    assert "Advice: Earlier runs: " in run.llm.calls[0][1].content
    assert run.faults == []
    assert {r["run"] for r in second.records} == {1, 2}
