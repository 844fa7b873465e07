"""Whole runs, recorded with a real model, decide the same again from their files alone.

A change of prompts or seeds breaks them on purpose. To record one anew, in its folder:
bilevel run . --evals 6 --llm embedded:smollm2-135m && bilevel show --json > run.json
"""

from pathlib import Path

import pytest

from bilevel.codec import dump_log, load_log
from bilevel.model import Call, Trial
from bilevel.replay import replay
from bilevel.summary import summarise

RUNS = sorted(Path(__file__).parent.glob("runs/*/run.json"))


@pytest.mark.parametrize("path", RUNS, ids=lambda p: p.parent.name)
def test_a_recorded_run_replays_to_the_same_decisions(path: Path) -> None:
    run, records = load_log(path.read_text(encoding="utf-8"))
    result = replay(run, records)
    assert result.difference is None
    assert result.decisions > 10


@pytest.mark.parametrize("path", RUNS, ids=lambda p: p.parent.name)
def test_its_file_holds_the_whole_log(path: Path) -> None:
    run, records = load_log(path.read_text(encoding="utf-8"))
    assert load_log(dump_log(run, records)) == (run, records)
    calls = [r for r in records if isinstance(r, Call)]
    assert all(c.reply.text and c.messages and c.reply.tokens_out for c in calls)
    assert all((t.score is None) == (t.status != "ok") for t in records if isinstance(t, Trial))
    assert summarise(run, records).stop is not None


def test_there_is_one() -> None:
    assert RUNS
