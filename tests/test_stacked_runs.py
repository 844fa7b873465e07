"""Runs over a stack of the shipped mechanisms, by name, through the real store."""

import hashlib
from contextlib import nullcontext
from pathlib import Path

import pytest

from bilevel.assemble import conduct, replayed
from bilevel.attribution import influence, redecide
from bilevel.errors import ConfigError
from bilevel.model import Borrowed, Call, Decision, Fault, MechanismSource, Run, Trial
from bilevel.planning import Settings, begin
from bilevel.replay import replay
from bilevel.stacks import layers
from bilevel.workspace import Workspace
from resumable import SCRIPT, TASK, Silent, reply
from worlds import Scripted


def go(folder: Path, *stack: str, evals: int = 5) -> tuple[Workspace, Run]:
    (folder / "train.py").write_text(SCRIPT)
    (folder / "task.toml").write_text(TASK)
    workspace = Workspace(folder / "state")
    settings = Settings(evals=evals, llm="scripted", confirms=0, stack=stack)
    run = begin(workspace, str(folder / "task.toml"), settings)
    conduct(workspace, run, Scripted(reply), Silent())
    return workspace, run


def test_a_stacked_run_is_attributed_and_replays(tmp_path: Path) -> None:
    workspace, run = go(tmp_path, "ucb1", "annealing")
    records = workspace.records(run.id)
    assert not [r for r in records if isinstance(r, Fault)]
    changed = {(i.layer, i.hook): i.changed for i in influence(records)}
    ucb1 = run.stack[0].partition("@")[2]
    assert changed[ucb1, "plan"] > 0
    assert replay(run, records, lambda: layers(run)).difference is None
    assert all(redecide(run, records, layers(run)))
    assert not all(redecide(run, records, layers(run)[1:]))


def test_an_optimiser_without_llm_asks_nobody(tmp_path: Path) -> None:
    workspace, run = go(tmp_path, "random_search")
    assert not [r for r in workspace.records(run.id) if isinstance(r, Call)]


@pytest.mark.parametrize("task", ["paper-mock", "bbob-f8-d5"])
def test_racing_that_measures_what_was_measured_before_replays(tmp_path: Path, task: str) -> None:
    workspace = Workspace(tmp_path)
    settings = Settings(evals=8, llm="none", confirms=2, stack=("racing",))
    run = begin(workspace, task, settings)
    conduct(workspace, run, Scripted(reply), Silent())
    records = workspace.records(run.id)
    places = [(run.space.key(r.values), r.seed) for r in records if isinstance(r, Trial)]
    assert len(set(places)) < len(places)
    assert replayed(run, records).difference is None


@pytest.mark.parametrize("name", ["random_search", "tpe", "gp", "cmaes"])
def test_a_task_called_here_is_planned_one_by_one_in_the_run_and_in_its_replay(
    tmp_path: Path, name: str
) -> None:
    workspace = Workspace(tmp_path)
    settings = Settings(evals=6, slots=4, llm="none", confirms=0, stack=(name,))
    run = begin(workspace, "bbob-f8-d5", settings)
    assert run.slots == 1
    conduct(workspace, run, Scripted(reply), Silent())
    records = workspace.records(run.id)
    assert replayed(run, records).difference is None
    assert all(redecide(run, records, layers(run)))


def test_a_mechanism_that_remembers_goes_on_from_the_last_run(tmp_path: Path) -> None:
    workspace, first = go(tmp_path, "memory")
    assert first.states == {}
    last = [d.state for _, d in workspace.store.read(first.id, Decision)][-1]
    _, second = go(tmp_path, "memory", evals=2)
    assert list(second.states.values()) == [last]
    assert replay(second, workspace.records(second.id), lambda: layers(second)).difference is None


COUNTS = """
from bilevel.mechanism import Mechanism


class Counts(Mechanism):
    remembers = {remembers}

    def __init__(self):
        self.seen = 0

    def accept(self, view, trial, keep):
        self.seen += 1
        return keep
"""


@pytest.mark.parametrize("remembers", [True, False])
def test_a_file_of_ones_own_remembers_where_it_says_so(tmp_path: Path, remembers: bool) -> None:
    (tmp_path / "counts.py").write_text(COUNTS.format(remembers=remembers))
    workspace = Workspace(tmp_path / "state")
    stack = ("random_search", str(tmp_path / "counts.py"))
    settings = Settings(evals=2, llm="none", confirms=0, stack=stack, allow_weak=True)
    seen = []
    for _ in range(2):
        run = begin(workspace, "paper-mock", settings)
        conduct(workspace, run, Scripted(reply), Silent())
        records = workspace.records(run.id)
        seen.append([r.state for r in records if isinstance(r, Decision)][-1])
        assert replayed(run, records).difference is None
    assert seen == ['{"seen": 2}', '{"seen": 4}' if remembers else '{"seen": 2}']


def test_an_unknown_mechanism_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean tabu"):
        go(tmp_path, "tabuu")


MINE = """
from bilevel.mechanism import Mechanism


class Mine(Mechanism):
    def accept(self, view, trial, keep):
        return keep
"""


@pytest.mark.parametrize(
    ("stack", "said"),
    [
        ("tabu ucb1 tabu", "this one has tabu twice; leave one of them out"),
        ("{0}/mine.py {0}/mine.py", r"has {0}/mine\.py twice; leave"),
        ("{0}/mine.py {0}/copy.py", r"copy\.py twice, whose text is that of {0}/mine\.py; leave"),
    ],
)
def test_the_same_mechanism_twice_is_refused_before_anything_runs(
    tmp_path: Path, stack: str, said: str
) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "copy.py").write_text(MINE)
    names = tuple(stack.format(tmp_path).split())
    with pytest.raises(ConfigError, match=said.format(tmp_path)):
        begin(Workspace(tmp_path), "paper-mock", Settings(llm="none", stack=names))


def test_what_the_library_gives_is_refused_where_the_stack_holds_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    source = MechanismSource(hashlib.sha256(MINE.encode()).hexdigest(), "theirs", MINE)
    for joins in (False, True):
        loan = (Borrowed(source, "", 0.5, joins),)
        settings = Settings(
            llm="none", stack=(str(tmp_path / "mine.py"),), loan=loan, allow_weak=True
        )
        with (
            pytest.raises(ConfigError, match="leave mine out of the stack, or the library")
            if joins
            else nullcontext()
        ):
            begin(Workspace(tmp_path), "paper-mock", settings)
