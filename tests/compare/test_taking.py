"""A comparison goes on from runs that were made elsewhere, in another folder and store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from test_compare import comparison, decided, fails, go

from bilevel.archive import Archive
from bilevel.compare.compare import Cell, Comparison
from bilevel.compare.output import write_logs
from bilevel.compare.strategies import PLAIN
from bilevel.compare.taking import archives, differences, take
from bilevel.errors import ConfigError
from bilevel.model import Message, Stop
from comparable import reply, write_task

NAMES = (PLAIN, "tabu")


def elsewhere(folder: Path, *names: str, **changes: object) -> Comparison:
    """The same comparison in a folder and a store of its own."""
    folder.mkdir()
    return comparison(folder, *names, **changes)


def cut_short(messages: Sequence[Message], number: int) -> str:
    if number == 3:
        raise KeyboardInterrupt
    return reply(messages, number)


def test_runs_of_a_folder_are_found_and_only_the_rest_is_made(tmp_path: Path) -> None:
    first = comparison(tmp_path, *NAMES)
    go(first)
    write_logs(first.logs(), tmp_path / "out" / "runs")
    second = elsewhere(tmp_path / "there", *NAMES, "random_search")
    taken = take(second, archives(tmp_path / "out"))
    assert (len(taken.entered), taken.known, taken.foreign) == (2, 0, ())
    assert second.left() == [Cell("random_search", 0)]
    screen, _ = go(second, fails)
    assert screen.began == [Cell("random_search", 0)]
    for name in NAMES:
        (_, here), (_, there) = first.logs()[name][0], second.logs()[name][0]
        assert here == there
    assert all(run.source == str(tmp_path / "there" / "task.toml") for run in second.runs.values())
    again = take(second, archives(tmp_path / "out" / "runs"))
    assert (again.entered, again.known) == ({}, 2)


def test_names_that_are_taken_are_given_anew(tmp_path: Path) -> None:
    first = comparison(tmp_path, "tabu")
    go(first)
    second = elsewhere(tmp_path / "there", "tabu", seeds=2)
    screen, _ = go(second)
    assert len(screen.began) == 2
    third = elsewhere(tmp_path / "third", "tabu", seeds=3)
    mine = second.logs()["tabu"]
    offered = [Archive(run, log, [None] * len(log)) for run, log in mine]
    alike = [replace(archive, run=replace(archive.run, id="toy-1")) for archive in offered]
    taken = take(third, alike)
    assert len({run.id for run in third.workspace.store.runs()}) == 2
    assert "toy-1" in taken.entered
    assert third.left() == [Cell("tabu", 2)]


def test_a_run_that_was_cut_short_goes_on_in_the_other_folder(tmp_path: Path) -> None:
    whole = comparison(tmp_path, "tabu")
    go(whole)
    first = elsewhere(tmp_path / "first", "tabu")
    with pytest.raises(KeyboardInterrupt):
        go(first, cut_short)
    (run,) = first.workspace.store.runs()
    log = first.workspace.records(run.id)
    second = elsewhere(tmp_path / "second", "tabu")
    taken = take(second, [Archive(run, log, [None] * len(log))])
    assert list(taken.entered) == [run.id]
    assert second.left() == [Cell("tabu", 0)]
    (tmp_path / "first" / "task.toml").unlink()
    go(second)
    (_, made), (_, wanted) = second.logs()["tabu"][0], whole.logs()["tabu"][0]
    ends = [r for r in decided(made) if not isinstance(r, Stop)]
    assert ends == [r for r in decided(wanted) if not isinstance(r, Stop)]


def test_a_run_that_ended_stands_for_one_that_did_not(tmp_path: Path) -> None:
    whole = comparison(tmp_path, "tabu")
    go(whole)
    second = elsewhere(tmp_path / "there", "tabu")
    with pytest.raises(KeyboardInterrupt):
        go(second, cut_short)
    ((run, log),) = whole.logs()["tabu"]
    offered = Archive(run, log, [None] * len(log))
    taken = take(second, [offered, offered])
    assert (len(taken.entered), taken.known) == (1, 1)
    assert second.left() == []
    assert take(second, [offered]).known == 1


@pytest.mark.parametrize("other", [{"evals": 3}, {"llm": "other"}, {"confirms": 1}])
def test_runs_that_the_plan_would_not_make_are_left_out_and_named(
    tmp_path: Path, other: dict
) -> None:
    first = comparison(tmp_path, "random_search")
    go(first)
    write_logs(first.logs(), tmp_path / "out" / "runs")
    second = elsewhere(tmp_path / "there", "random_search", **other)
    taken = take(second, archives(tmp_path / "out"))
    assert (taken.entered, taken.known) == ({}, 0)
    assert [run.id for run in taken.foreign] == ["toy-1"]
    assert second.workspace.store.runs() == []
    assert differences(second, Cell("random_search", 0), taken.foreign[0]) == next(iter(other))


def test_a_file_is_no_leave_to_run_code_unguarded(tmp_path: Path) -> None:
    first = comparison(tmp_path, "tabu")
    go(first)
    ((run, log),) = first.logs()["tabu"]
    second = elsewhere(tmp_path / "there", "tabu")
    unheld = replace(run, sandbox="weak", allow_weak=True)
    write_logs({"tabu": [(unheld, log)]}, tmp_path / "files")
    take(second, archives(tmp_path / "files"))
    (taken,) = second.workspace.store.runs()
    assert (taken.sandbox, taken.allow_weak) == ("weak", False)


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no runs"):
        archives(tmp_path)


def test_equal_scripts_in_two_folders_may_be_two_tasks(tmp_path: Path) -> None:
    """What lies beside a script is not in its fingerprint; only the user can say it is the same."""
    first = comparison(tmp_path, "random_search")
    go(first)
    (tmp_path / "other").mkdir()
    plan = replace(first.plan, task=write_task(tmp_path / "other"))
    second = Comparison(first.workspace, plan)
    second.look()
    assert second.left() == plan.cells()
    ((run, log),) = first.logs()["random_search"]
    assert len(take(second, [Archive(run, log, [None] * len(log))]).entered) == 1
    assert second.left() == []
