"""Whether a mechanism helps on a task: paired searches, with what stands in for an LLM."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from shelves import entry

from bilevel.assemble import replayed
from bilevel.cli.running import NoLLM
from bilevel.compare.helpers import Silent
from bilevel.errors import ConfigError
from bilevel.library.evaluation import STOOD_IN, Evaluation, Trying
from bilevel.library.proposer import STAND_IN
from bilevel.model import Call, Trial
from bilevel.workspace import Workspace
from comparable import reply, write_task
from outer_worlds import source
from threelevels import held
from worlds import Scripted

pytestmark = pytest.mark.skipif(not held(), reason="this machine cannot lock a worker")

# Knows where the toy is best, and where it is bad.
GOOD = entry("good", task="elsewhere", text=source(
    "def plan(self, view, moves):",
    "    values = dict(view.incumbent.values, RATE=0.3, BATCH=1024)",
    "    return moves if view.tried(values) else [Move(parents=(0,), values=values)]",
))  # fmt: skip
BAD = entry("bad", [0.5], text=source(
    "def plan(self, view, moves):",
    "    values = dict(view.space.defaults(), RATE=0.5 + 0.4 * view.rng.random())",
    "    return [Move(parents=(0,), values=values)]",
))  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "state")
    made.library.add(GOOD)
    made.library.add(BAD)
    return made


@pytest.fixture
def task(tmp_path: Path) -> str:
    return write_task(tmp_path)


def evaluation(workspace: Workspace, task: str, seeds: int) -> Evaluation:
    made = Evaluation(workspace, [GOOD, BAD], Trying(task, evals=5, seeds=seeds))
    made.go(NoLLM(), Silent())
    return made


def test_what_helps_and_what_harms_is_told_apart_and_noted(workspace: Workspace, task: str) -> None:
    found, problems = evaluation(workspace, task, seeds=4).results()
    assert problems == {}
    (first, good), (second, bad) = found
    assert (first, second) == (GOOD, BAD)
    assert (good.verdict, good.seen, bad.seen) == ("helps", False, True)
    assert bad.mean < 0 < good.mean
    assert list(good.gains) == ["0", "1", "2", "3"]
    assert (good.task, good.metric, good.proposer, good.evals) == ("toy", "loss", STOOD_IN, 5)
    stored = {e.sha: e.transfers for e in workspace.library.entries()}
    assert stored == {GOOD.sha: (good,), BAD.sha: (bad,)}
    assert all(e.uses == o.uses for e, o in zip(
        sorted(workspace.library.entries(), key=lambda e: e.sha),
        sorted([GOOD, BAD], key=lambda e: e.sha), strict=True,
    )), "trials are no uses"  # fmt: skip


def test_its_searches_are_ordinary_runs_paired_by_seed_that_replay(
    workspace: Workspace, task: str
) -> None:
    evaluation(workspace, task, seeds=1)
    runs = {run.stack: run for run in workspace.store.runs()}
    assert len(runs) == 3
    assert {run.llm for run in runs.values()} == {STAND_IN}
    for run in runs.values():
        records = workspace.records(run.id)
        assert not [r for r in records if isinstance(r, Call)]
        assert replayed(run, records).difference is None
    first = [r for r in workspace.records(runs[()].id) if isinstance(r, Trial)]
    assert len({str(dict(t.values)) for t in first if t.role == "search"}) == 5


def test_it_goes_on_with_more_seeds_and_makes_nothing_twice(
    workspace: Workspace, task: str
) -> None:
    evaluation(workspace, task, seeds=1).results()
    assert len(workspace.store.runs()) == 3
    evaluation(workspace, task, seeds=1)
    assert len(workspace.store.runs()) == 3
    evaluation(workspace, task, seeds=2).results()
    assert len(workspace.store.runs()) == 6
    (tried,) = workspace.library.find(GOOD.sha).transfers
    assert len(tried.gains) == 2
    found, _ = evaluation(workspace, task, seeds=1).results()
    assert [t for e, t in found if e == GOOD] == [tried], "fewer seeds take none away"
    assert workspace.library.find(GOOD.sha).transfers == (tried,)


def test_with_an_llm_the_llm_proposes(workspace: Workspace, task: str) -> None:
    made = Evaluation(workspace, [GOOD], Trying(task, evals=3, seeds=1, llm="scripted"))
    made.go(Scripted(reply), Silent())
    ((_, tried),), _ = made.results()
    assert tried.proposer == "scripted"
    assert any(
        isinstance(r, Call) for run in workspace.store.runs() for r in workspace.records(run.id)
    )


def test_what_goes_wrong_is_told_by_the_mechanisms_name(workspace: Workspace, task: str) -> None:
    broken = replace(GOOD.source, source="import os\n", sha="0" * 64, name="Broken")
    made = Evaluation(workspace, [], Trying(task, evals=2, seeds=1))
    made.go(NoLLM(), Silent())
    assert made.results() == ([], {})
    with pytest.raises(ConfigError, match="os"):
        Evaluation(workspace, [replace(GOOD, source=broken)], Trying(task))
    with pytest.raises(ConfigError, match="seeds is 0"):
        Evaluation(workspace, [GOOD], Trying(task, seeds=0))
