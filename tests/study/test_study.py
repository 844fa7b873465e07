"""Studies: what is made, in which order, shared and found again, and what the results say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from studies import described, go, study, text

from bilevel import mechanisms
from bilevel.assemble import replayed
from bilevel.compare.compare import Cell
from bilevel.compare.helpers import Silent
from bilevel.errors import ConfigError
from bilevel.library.library import Entry
from bilevel.model import Call, Message, Proposal, Record, Session, Trial
from bilevel.study.data import StudyData
from bilevel.study.file import parse
from bilevel.study.harness import Study, wanted
from bilevel.study.progress import Pace, standing
from bilevel.study.registry import enter, load
from bilevel.study.results import stored, study_data
from bilevel.tape.sharing import Sharing, is_shared
from bilevel.workspace import Workspace
from comparable import reply, write_task
from threelevels import ThreeLevels, held
from worlds import LOSS, SPACE, Scripted

FREE = ("random_search", "cmaes", "tpe")


def results(made: Study) -> StudyData:
    logs, problems = stored(made)
    return study_data(made.file, logs, problems)


def logs_of(made: Study) -> dict[tuple[str, int], list[Record]]:
    return {(p.arm, p.repeat): log for p, (_, log) in stored(made)[0].items()}


def decided(log: Sequence[Record]) -> list[object]:
    """What was proposed and evaluated, without the clock."""
    return [
        replace(r, seconds=0.0) if isinstance(r, Trial) else r
        for r in log
        if isinstance(r, Trial | Proposal)
    ]


class Dies(Scripted):
    """Interrupts at its n-th call, as Ctrl-C would."""

    at = 0

    def complete(self, messages: Sequence[Message], *rest: object, **more: int):  # type: ignore[no-untyped-def,override]
        if len(self.asked) + 1 == self.at:
            raise KeyboardInterrupt
        return super().complete(messages, *rest, **more)  # type: ignore[arg-type]


def test_runs_of_all_arms_on_the_same_seeds_in_their_order(tmp_path: Path) -> None:
    made = study(tmp_path, described(tmp_path, *FREE))
    assert [cell for _, cell in made.left()] == [cell for _, cell in wanted(made)]
    shown = go(made)
    assert shown.began == shown.ended == [cell for _, cell in wanted(made)]
    assert made.left() == []
    found = results(made)
    assert {(r.arm, r.repeat, r.seed, r.status) for r in found.runs} == {
        (arm, n, n, "done") for arm in FREE for n in (0, 1)
    }
    for repeat in (0, 1):
        runs = [r for r in found.runs if r.repeat == repeat]
        assert len({r.baseline for r in runs}) == 1
        first, *others = sorted(r.evaluations_shared for r in runs)
        assert first == 0
        assert min(others) >= 2  # the baseline, measured twice by whichever came first
    assert all(len(r.scores) == len(r.tokens_at) == 3 for r in found.runs)


def test_a_study_that_was_stopped_ends_as_one_that_never_was(tmp_path: Path) -> None:
    arms = ("A", "restart", "random_search")
    (tmp_path / "whole").mkdir()
    whole = study(tmp_path / "whole", described(tmp_path / "whole", *arms, repeats=1, evals=6))
    asked = Scripted(reply)
    go(whole, asked)
    calls = 0
    for at in (2, 4, 1):
        made = study(tmp_path, described(tmp_path, *arms, repeats=1, evals=6))
        llm = Dies(reply)
        llm.at = at
        with pytest.raises(KeyboardInterrupt):
            go(made, llm)
        calls += len(llm.asked)
    made = study(tmp_path, described(tmp_path, *arms, repeats=1, evals=6))
    llm = Scripted(reply)
    go(made, llm)
    assert calls + len(llm.asked) == len(asked.asked)
    one, other = logs_of(made), logs_of(whole)
    assert {k: decided(v) for k, v in one.items()} == {k: decided(v) for k, v in other.items()}
    assert len(made.workspace.store.runs()) == 3


def test_a_study_grows_without_making_anything_again(tmp_path: Path) -> None:
    first = study(tmp_path, described(tmp_path, *FREE[:2]))
    go(first)
    before = {r.id for r in first.workspace.store.runs()}
    grown = study(tmp_path, described(tmp_path, *FREE, repeats=3))
    shown = go(grown)
    assert {(c.strategy, c.seed) for c in shown.began} == {
        *((arm, 2) for arm in FREE), *(("tpe", n) for n in (0, 1))
    }  # fmt: skip
    assert before < {r.id for r in grown.workspace.store.runs()}
    assert all(r.status == "done" for r in results(grown).runs)
    record = load(tmp_path / "state", "toy-study")
    assert record is not None
    assert [v.hash for v in record.versions] == [first.file.hash, grown.file.hash]
    assert record.repeats == 3
    assert go(study(tmp_path, grown.file)).began == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("The first arm beats", "The first arm equals", r"hypotheses changed: H1: claim"),
        ('controls = ["tpe"]', 'controls = ["cmaes"]', r"hypotheses changed: H1: controls"),
        ("[analysis]", '[[hypotheses]]\nname = "H2"\nclaim = ""\narm = "tpe"\n'
         'controls = ["cmaes"]\n[analysis]', "there were 1 and are 2"),
        ('reference = "tpe"', 'reference = "cmaes"', "plan of analysis changed: reference"),
        ("0.5 }", "0.4 }", "plan of analysis changed: targets"),
        ("repeats = 2", "repeats = 1", "repeats went down from 2 to 1"),
        ("evals = 3", "evals = 4", "changed: evals: it was 3 and is 4"),
        ("repeats = 2", "repeats = 2\nfirst_seed = 5", "first_seed was 0 and is 5"),
        (', "cmaes"]', "]", "arm cmaes on task task.toml was left out"),
        ("[outer]", '[arm.cmaes]\nstack = ["gp"]\n[outer]', "arm cmaes on task .* changed: stack"),
    ],
)  # fmt: skip
def test_what_was_said_before_the_first_run_stays(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    whole = text("random_search", "tpe", "cmaes")
    write_task(tmp_path)
    workspace = Workspace(tmp_path / "state")
    enter(workspace, parse(whole, tmp_path / "study.toml"))
    assert whole.count(old) >= 1
    with pytest.raises(ConfigError, match=said):
        enter(workspace, parse(whole.replace(old, new, 1), tmp_path / "study.toml"))
    kept = enter(workspace, parse(whole + "# a comment\n", tmp_path / "study.toml"))
    assert len(kept.versions) == 2


def test_a_task_that_changed_is_refused(tmp_path: Path) -> None:
    file = described(tmp_path, *FREE)
    enter(Workspace(tmp_path / "state"), file)
    task = tmp_path / "task.toml"
    task.write_text(task.read_text().replace("Make the loss small.", "Make it tiny."))
    with pytest.raises(ConfigError, match=r"on task task\.toml changed: brief"):
        enter(Workspace(tmp_path / "state"), file)


def test_runs_of_before_the_study_do_not_count(tmp_path: Path) -> None:
    """Their results could have shaped its rules."""
    made = study(tmp_path, described(tmp_path, *FREE))
    go(made)
    record = load(tmp_path / "state", "toy-study")
    assert record is not None
    later = Study(made.workspace, made.file, "2999-01-01T00:00:00+00:00", record.lent())
    later.look()
    assert len(later.left()) == 6


@pytest.mark.timeout(600)  # three sessions with their gate
def test_three_levels_share_what_they_have_in_common(tmp_path: Path) -> None:
    if not held():
        pytest.skip("this machine cannot lock generated code in")
    arms = ("A", "B", "C", "D", "sham")
    made = study(tmp_path, described(tmp_path, *arms, repeats=1, evals=5))
    llm = ThreeLevels()
    go(made, llm)
    found = {r.arm: r for r in results(made).runs}
    assert {r.status for r in found.values()} == {"done"}
    paid = sum((r.llm_calls or 0) - r.llm_calls_shared for r in found.values())
    assert paid == len(llm.asked) < sum(r.llm_calls or 0 for r in found.values())
    assert [found[a].steerings for a in arms] == [0, 2, 2, 0, 2]
    assert [found[a].sessions for a in arms] == [0, 0, 1, 1, 1]
    assert set(found["C"].levels) == set(found["sham"].levels) == {"1", "1.5", "2"}
    logs = logs_of(made)
    sessions = [[r for r in logs[a, 0] if isinstance(r, Session)] for a in ("C", "sham")]
    assert [s.notes for s in sessions[0]] == [s.notes for s in sessions[1]]
    (mine,), (out,) = found["C"].mechanisms, found["sham"].mechanisms
    assert mine.sha == out.sha
    assert (mine.sham, out.sham, out.joined) == (False, True, None)
    assert mine.generated
    assert mine.asked > 0 == out.asked
    # Equal until the first steering: every call of A up to it was made by whichever came first.
    first = [[c.key for c in logs[a, 0] if isinstance(c, Call)][:2] for a in arms]
    assert all(keys == first[0] for keys in first)
    for run, log in stored(made)[0].values():
        again = replayed(run, log)
        assert again.difference is None
        assert again.decisions > 10


def test_runs_that_are_not_there_are_said_to_be_missing(tmp_path: Path) -> None:
    made = study(tmp_path, described(tmp_path, *FREE))
    (_, cell), *_ = made.left()
    made.comparisons["task.toml"].go([cell], Scripted(reply), Silent())
    found = results(made)
    assert sorted(r.status for r in found.runs) == ["done", *["missing"] * 5]
    pace = Pace(made)
    rows = {row.arm: row for row in standing(made, pace)}
    assert sum(row.done for row in rows.values()) == 1
    assert {row.wanted for row in rows.values()} == {2}
    assert (pace.left() or 0.0) > 0.0


def test_an_llm_that_is_gone_is_a_problem_that_another_go_mends(tmp_path: Path) -> None:
    made = study(tmp_path, described(tmp_path, "A", "random_search", repeats=1))
    go(made, None)
    assert [cell.strategy for _, cell in made.problems()] == ["A"]
    by_arm = {r.arm: r for r in results(made).runs}
    assert (by_arm["A"].status, by_arm["random_search"].status) == ("problem", "done")
    assert "begun with --llm none" in by_arm["A"].problem
    again = study(tmp_path, made.file)
    go(again, Scripted(reply))
    assert {r.status for r in results(again).runs} == {"done"}
    assert len(again.workspace.store.runs()) == 2


def test_a_baseline_is_shared_even_where_a_task_is_not_deterministic() -> None:
    sharing = Sharing(SPACE, LOSS, deterministic=False, baselines=True)
    values = SPACE.defaults()
    base = Trial(0, None, values, "ok", -1.0, {}, 1.0, 5, True, role="baseline")
    for record in (
        replace(base, seed=6, status="crash", score=None),
        base,
        replace(base, id=1, seed=7, role="search"),
    ):
        sharing.add("toy-1", record)
    assert {seed for _, seed in sharing._outcomes} == {5}


def test_calls_taken_over_are_marked(tmp_path: Path) -> None:
    made = study(tmp_path, described(tmp_path, "A", "greedy", repeats=1))
    go(made, Scripted(reply))
    marks = [{is_shared(r) for r in log if isinstance(r, Call)} for log in logs_of(made).values()]
    assert sorted(marks, key=str) == [{False}, {True}]


def test_what_the_library_lends_is_fixed_when_the_study_begins(tmp_path: Path) -> None:
    if not held():
        pytest.skip("this machine cannot lock a library's code in")
    file = described(tmp_path, "A", "library")
    workspace = Workspace(tmp_path / "state")
    with pytest.raises(ConfigError, match="the library has 0 mechanisms"):
        enter(workspace, file)
    first, second = (mechanisms.source(name) for name in ("tabu", "restart"))
    workspace.library.add(Entry(first, "toy", {"RATE": "float"}, "a test"))
    made = study(tmp_path, file)
    workspace.library.add(Entry(second, "toy", {"RATE": "float"}, "a test"))
    workspace.library.remove([first.sha])
    again = study(tmp_path, file)
    for opened in (made, again):
        comparison = opened.comparisons["task.toml"]
        lent = {
            cell: [b.source.name for b in comparison.planned(cell).library]
            for _, cell in opened.left()
        }
        assert lent == {Cell(a, s): ["tabu"] * (a == "library") for a in file.arms for s in (0, 1)}
    late = Entry(
        mechanisms.source("ucb1"), "toy", {}, "a test", created="2999-01-01T00:00:00+00:00"
    )
    workspace.library.add(late)  # as what the study's own sessions admit
    grown = study(tmp_path, described(tmp_path, "A", "library", repeats=3))
    new = grown.comparisons["task.toml"].planned(Cell("library", 2)).library
    assert [b.source.name for b in new] == ["restart"]
