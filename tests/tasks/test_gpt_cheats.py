"""The GPT tasks, whose candidates are constants of a script: ways of cheating that they refuse."""

from __future__ import annotations

import ast

import pytest
from cheating import TRICKS, forged_outputs, refused

from bilevel.tasks import builtin
from bilevel.tasks.script import ScriptTask


@pytest.fixture(params=["gpt", "gpt-cuda"])
def task(request: pytest.FixtureRequest) -> ScriptTask:
    found = builtin.find(request.param)
    assert isinstance(found, ScriptTask)
    return found


@pytest.mark.parametrize("trick", TRICKS)
def test_values_outside_the_space_are_refused(task: ScriptTask, trick: str) -> None:
    assert refused(task, trick)


def test_forged_output_does_not_count(task: ScriptTask) -> None:
    forged_outputs(task)


def test_a_candidate_changes_its_constants_and_nothing_else(task: ScriptTask) -> None:
    honest = task.space.defaults()
    other = honest | {"WINDOW_PATTERN": "SLSL", "WEIGHT_DECAY": 0.3}
    jobs = [task.job(values, 7) for values in (honest, other)]
    assert jobs[0].env == jobs[1].env
    assert jobs[0].command == jobs[1].command
    assert jobs[0].files.keys() == jobs[1].files.keys()
    before, after = (ast.parse(text).body for job in jobs for text in job.files.values())
    changed = [b for a, b in zip(before, after, strict=True) if ast.dump(a) != ast.dump(b)]
    assert [ast.unparse(node) for node in changed] == [
        "WINDOW_PATTERN = 'SLSL'",
        "WEIGHT_DECAY = 0.3",
    ]
