"""What comes into the library from files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from shelves import entry, transfer, use

from bilevel.errors import ConfigError, StoreError
from bilevel.library.admission import Imported, add, exported, nonconforming, take
from bilevel.model import Trial
from bilevel.sandbox.sandboxed import Sandbox
from bilevel.store.library import Library
from bilevel.store.sqlite import SqliteStore
from bilevel.workspace import Workspace
from comparable import write_task
from outer_worlds import INERT
from threelevels import SOURCE, held, recorded

WHOLE = entry("whole", [0.2, 0.4], transfers=[transfer("gpt", 0.1, -0.2)])
OTHER = entry("other", [0.1])
needs_lock = pytest.mark.skipif(not held(), reason="this machine cannot lock a worker")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No mechanism counts as slow: a busy machine is not the point here."""
    monkeypatch.setattr("bilevel.conformance.mechanism.SLOW", 60.0)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(SqliteStore(tmp_path / "runs.sqlite"))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "state")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as made:
        yield made


def all_fine(source: str) -> list[str]:
    return []


def test_what_is_exported_comes_back_whole(library: Library) -> None:
    found = take(library, exported([WHOLE, OTHER]), all_fine)
    assert found == Imported((WHOLE.sha, OTHER.sha), (), {})
    assert library.entries() == sorted([WHOLE, OTHER], key=lambda e: e.sha)
    assert take(library, exported(library.entries()), all_fine).new == ()


def test_the_records_of_two_libraries_are_joined(library: Library) -> None:
    library.add(WHOLE)
    theirs = replace(WHOLE, uses=(WHOLE.uses[0], use(9, 0.3)), transfers=())
    assert take(library, exported([theirs]), all_fine) == Imported((), (WHOLE.sha,), {})
    assert library.find(WHOLE.sha).uses == (*WHOLE.uses, use(9, 0.3))


def test_a_source_that_is_not_the_text_of_its_sha_is_refused_with_the_whole_file(
    library: Library,
) -> None:
    changed = replace(WHOLE, source=replace(WHOLE.source, source=WHOLE.source.source + "\n"))
    with pytest.raises(ConfigError, match=rf"but the file says {WHOLE.sha[:12]}"):
        take(library, exported([OTHER, changed]), all_fine)
    assert library.entries() == []


def test_one_that_does_not_conform_stays_out(library: Library) -> None:
    def check(source: str) -> list[str]:
        return ["it loops"] if "whole" in source else []

    found = take(library, exported([WHOLE, OTHER]), check)
    assert found == Imported((OTHER.sha,), (), {WHOLE.sha: "whole: it loops"})
    assert library.shas() == {OTHER.sha}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"library": 1}'])
def test_a_file_of_something_else_is_refused(library: Library, text: str) -> None:
    with pytest.raises(ConfigError, match="this is no exported library"):
        take(library, text, all_fine)


def test_a_file_of_another_format_or_with_damage_is_refused(library: Library) -> None:
    document = json.loads(exported([WHOLE]))
    with pytest.raises(ConfigError, match="format 2, and this bilevel reads 1"):
        take(library, json.dumps(document | {"library": 2}), all_fine)
    del document["mechanisms"][0]["source"]["name"]
    with pytest.raises(StoreError, match="Entry"):
        take(library, json.dumps(document), all_fine)
    assert library.entries() == []


@needs_lock
def test_the_suite_speaks_against_what_breaks_a_rule(sandbox: Sandbox) -> None:
    assert nonconforming(SOURCE, sandbox) == []
    assert "os" in nonconforming("import os\n" + SOURCE, sandbox)[0]
    wrong = SOURCE.replace("return moves", "return None")
    assert "list" in " ".join(nonconforming(wrong, sandbox))


@needs_lock
def test_a_file_for_a_task_without_a_run_passes_the_suite(
    workspace: Workspace, sandbox: Sandbox, tmp_path: Path
) -> None:
    task, mine = write_task(tmp_path), tmp_path / "mine.py"
    mine.write_text(SOURCE)
    made = add(workspace, mine, task, sandbox)
    (found,) = workspace.library.entries()
    assert found == made
    assert (found.source.source, found.source.name) == (SOURCE, "EverySecond")
    assert (found.source.origin, found.passed) == ("file mine.py", "the suite for mechanisms")
    assert found.source.rationale.startswith("A neighbour of the incumbent")
    assert found.task == "toy"
    with pytest.raises(
        ConfigError, match=f"there already; see `bilevel library show {found.sha[:8]}"
    ):
        add(workspace, mine, task, sandbox)
    mine.write_text(SOURCE.replace("return moves", "return None"))
    with pytest.raises(ConfigError, match=r"did not pass the suite for mechanisms: .*list"):
        add(workspace, mine, task, sandbox)


@needs_lock
def test_a_file_for_a_task_with_a_run_passes_the_gate_on_it(
    workspace: Workspace, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bilevel.library import admission as library_admission
    from bilevel.task_jobs import find_task, fingerprint

    monkeypatch.setattr(library_admission, "find_spec", lambda name: None)
    monkeypatch.setattr(library_admission, "nonconforming", lambda source, sandbox: [])
    task, mine = write_task(tmp_path), tmp_path / "mine.py"
    run, records = recorded()
    run = replace(run, fingerprint=fingerprint(find_task(task)[0]))
    workspace.store.create(run)
    mine.write_text(INERT)
    assert "suite" in add(workspace, mine, task, sandbox).passed, "a run without a trial is none"
    for record in records:
        if not isinstance(record, Trial) or record.role != "confirm":
            workspace.store.append(run.id, record)
    mine.write_text(INERT + "\n    def accept(self, view, trial, keep):\n        return keep\n")
    with pytest.raises(ConfigError, match=rf"did not pass the gate, on {run.id}: influence: "):
        add(workspace, mine, task, sandbox)
    mine.write_text(SOURCE)
    assert add(workspace, mine, task, sandbox).passed == f"the gate, on {run.id}"
