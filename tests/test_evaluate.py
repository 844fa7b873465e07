"""Evaluators: jobs, inline functions and records."""

import math
import time
from dataclasses import replace

import pytest

from bilevel.errors import StoreError
from bilevel.evaluate import InlineEvaluator, RecordedEvaluator, Request, run_all
from bilevel.model import Objective, Space, Trial, Values
from bilevel.space import Param
from bilevel.tasks.function import FunctionTask

SPACE = Space((Param("x", "float", 0.5, 0.0, 1.0),))
LOSS = Objective("loss")


def square(values: Values, seed: int) -> dict[str, float]:
    x = float(values["x"])
    return {"loss": math.nan if x == 0.0 else x * x, "seed": seed}


def slow(values: Values, seed: int) -> float:
    time.sleep(0.02)
    return 1.0


def wrong(values: Values, seed: int) -> float:
    raise KeyError("a bug")


def inline(name: str) -> InlineEvaluator:
    target = f"{__name__}:{name}"
    return InlineEvaluator(FunctionTask(target, SPACE, LOSS, seeded=True, inline=True))


def trials(evaluator: InlineEvaluator | RecordedEvaluator) -> list[Trial]:
    requests = [Request({"x": x}, 3, "search") for x in (0.5, 0.0, 2.0)]
    return list(run_all(evaluator, LOSS, requests, 4, lambda key, request: None))


def test_inline_calls_make_trials() -> None:
    made = trials(inline("square"))
    assert [t.id for t in made] == [4, 5, 6]
    assert [t.status for t in made] == ["ok", "crash", "invalid"]
    assert [t.score for t in made] == [-0.25, None, None]
    assert made[0].metrics == {"loss": 0.25, "seed": 3}
    assert "loss is nan" in made[1].error
    assert "range is 0 to 1" in made[2].error


def test_inline_seconds_are_measured() -> None:
    evaluator = inline("slow")
    evaluator.start(0, {"x": 0.5}, 0)
    (done,) = evaluator.finished()
    assert (done.key, done.outcome.value) == (0, 1.0)
    assert 0.02 <= done.seconds < 60
    assert evaluator.finished() == []


def test_a_bug_of_an_inline_function_is_let_through() -> None:
    with pytest.raises(KeyError):
        inline("wrong").start(0, {"x": 0.5}, 0)


def test_a_record_gives_what_was_measured() -> None:
    made = trials(inline("square"))
    assert trials(RecordedEvaluator(made, SPACE, LOSS)) == made
    other = RecordedEvaluator(made, SPACE, LOSS)
    other.start(0, {"x": 0.25}, 3)
    with pytest.raises(StoreError, match=r"no evaluation of \{'x': 0.25\} with seed 3 as trial 0"):
        other.finished()


def test_the_same_measured_again_keeps_an_outcome_of_its_own() -> None:
    first = trials(inline("square"))
    again = [replace(t, id=t.id + 3, seconds=t.seconds + 9) for t in first]
    assert trials(RecordedEvaluator([*first, *again], SPACE, LOSS)) == first
