"""`bilevel library` and `run --library` as a user types them."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from shelves import entry, transfer
from typer.testing import CliRunner, Result

from bilevel.cli import running
from bilevel.cli.cli import app
from bilevel.cli.options import console
from bilevel.library.admission import exported
from bilevel.model import Layering, Run
from bilevel.protocols import LLM
from bilevel.workspace import Workspace
from comparable import write_task
from outer_worlds import source
from threelevels import SOURCE, ThreeLevels, held

needs_lock = pytest.mark.skipif(not held(), reason="this machine cannot lock a worker")
WHOLE = entry("whole", [0.2, 0.4], transfers=[transfer("gpt", -0.1, -0.12)], text=SOURCE)
OTHER = entry("other", [0.1])
IDLE = entry("idle", [0.0, 0.0])


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "width", 200)  # made with the module, it asks no more
    # No mechanism counts as slow: a busy machine is not the point here.
    monkeypatch.setattr("bilevel.conformance.mechanism.SLOW", 60.0)
    write_task(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def workspace() -> Workspace:
    """The store of the folder, with three mechanisms."""
    made = Workspace(Path(".bilevel"))
    for one in (WHOLE, OTHER, IDLE):
        made.library.add(one)
    return made


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> ThreeLevels:
    made = ThreeLevels(sources=(SOURCE,))

    def connect(spec: str, progress: object) -> LLM:
        made.name = spec
        return made

    monkeypatch.setattr(running, "connect", connect)
    return made


def library(*words: str, answer: str | None = None) -> Result:
    command = ["library", *words]
    return CliRunner().invoke(app, command, input=answer)


def names(workspace: Workspace) -> set[str]:
    return {e.source.name for e in workspace.library.entries()}


def test_an_empty_library_says_how_to_fill_it(llm: ThreeLevels) -> None:
    assert "the library is empty; runs with Level 2 fill it" in library("list").output
    assert "the library is empty" in str(library("export", "out.json").exception)
    result = run("--library", "best")
    assert "the library has 0 mechanisms that may join" in str(result.exception)


def test_list_and_show_say_what_is_known_in_words_and_in_json(workspace: Workspace) -> None:
    table = library("list").output
    assert "30% (n 2)" in table
    assert "harms gpt" not in table, "two seeds of much the same gain decide nothing yet"
    assert "undecided gpt" in table
    page = library("show", WHOLE.sha[:7]).output
    for words in (
        "class EverySecond(Mechanism)",
        "from: hand, toy-1, by scripted, for toy; it passed the gate, in toy-1",
        "parents: abababab",
        "in toy-1 (toy, scripted, seed 1): credit 4 of 10 decisions; changed 4 of the 10 that came",
        "tried on a task not seen before: undecided on gpt: gain of loss -0.11",
        "said, explore wastes: it repeats itself",
    ):
        assert words in page, words
    listed = {e["source"]["name"]: e for e in json.loads(library("list", "--json").output)}
    assert listed["whole"]["credit"]["n"] == 2
    assert listed["whole"]["transfers"][0]["verdict"] == "undecided"
    assert json.loads(library("show", WHOLE.sha, "--json").output) == listed["whole"]
    assert "no sha in the library" in str(library("show", "zz").exception)


def test_prune_says_what_and_why_and_asks(workspace: Workspace) -> None:
    refused = library("prune", answer="n\n")
    assert "idle: without it no decision would differ, in all its 2 runs" in refused.output
    assert "Take out 1 of 3?" in refused.output
    assert len(names(workspace)) == 3
    assert library("prune").exit_code == 1, "nobody answered"
    assert len(names(workspace)) == 3
    assert "took out 1" in library("prune", answer="y\n").output
    assert names(workspace) == {"whole", "other"}
    assert "nothing to take out" in library("prune", "--yes").output
    assert "you named it" in library("prune", "--yes", WHOLE.sha[:8]).output
    assert names(workspace) == {"other"}


@needs_lock
def test_a_library_goes_from_one_folder_to_another(workspace: Workspace) -> None:
    assert "1 mechanisms written" in library("export", "out.json", WHOLE.sha).output
    result = library("import", "out.json", "--home", "there")
    assert result.exit_code == 0, result.output
    assert "1 new, 0 known, 0 refused" in result.output
    there = Workspace(Path("there"))
    assert there.library.entries() == [WHOLE]
    bad = entry("bad", text=source("def plan(self, view, moves):", "    return 3"))
    Path("bad.json").write_text(exported([bad]))
    result = library("import", "bad.json", "--home", "there")
    assert result.exit_code == 1
    assert f"{bad.sha[:8]} bad: plan" in result.output
    Path("bad.json").write_text(exported([WHOLE]).replace("EverySecond", "EveryThird"))
    assert "it is not the text that was exported" in str(library("import", "bad.json").exception)


@needs_lock
def test_a_mechanism_of_mine_is_added_and_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bilevel.library.admission.check_mechanism", lambda make: [])
    Path("mine.py").write_text(SOURCE)
    result = library("add", "mine.py", "--task", "task.toml")
    assert result.exit_code == 0, result.output
    assert "added EverySecond" in result.output
    given = ("--tasks", "task.toml", "--seeds", "1", "--evals", "2")
    result = library("evaluate", *given)
    assert result.exit_code == 0, result.output
    for words in (
        "EverySecond",
        "toy",
        "drawn by the habits of a small one, which reads no advice",
    ):
        assert words in result.output, words
    document = json.loads(library("evaluate", *given, "--json").output)
    assert document["problems"] == []
    assert document["trials"][0]["seen"], "it was added for this very task"
    assert "cannot be read" in str(library("add", "none.py", "--task", "task.toml").exception)


def run(*words: str) -> Result:
    given = ("run", "task.toml", "--evals", "4", "--confirms", "1", "--llm", "scripted")
    given = (*given, "--every", "2", "--cycles", "2", "--candidates", "1", "--no-screening")
    return CliRunner().invoke(app, [*given, *words], env={"COLUMNS": "200"})


def begun(workspace: Workspace, name: str) -> tuple[Run, list[Layering]]:
    records = workspace.records(name)
    return workspace.store.run(name), [r for r in records if isinstance(r, Layering)]


@needs_lock
def test_a_run_from_the_library_is_noted_there_and_replays_without_it(
    llm: ThreeLevels, workspace: Workspace
) -> None:
    result = run("--levels", "1", "--library", "best")
    assert result.exit_code == 0, result.output
    assert f"of the library: whole {WHOLE.sha[:8]}" in result.output
    found, layerings = begun(workspace, "toy-1")
    assert [b.joins for b in found.library] == [True, False], "what is idle is not given"
    assert [r.sha for r in layerings] == [WHOLE.sha]
    (mine,) = [u for u in workspace.library.find(WHOLE.sha).uses if u not in WHOLE.uses]
    assert (mine.run, mine.task, mine.llm) == ("toy-1", "toy", "scripted")
    assert mine.different
    before = workspace.library.entries()
    assert "0 new mechanisms" in library("collect").output
    assert workspace.library.entries() == before
    shown = json.loads(CliRunner().invoke(app, ["show", "--mechanisms", "--json"]).output)
    assert [m["source"]["sha"] for m in shown["mechanisms"]] == [WHOLE.sha]
    library("prune", "--yes", *(e.sha for e in before))
    assert workspace.library.entries() == []
    again = CliRunner().invoke(app, ["replay"])
    assert again.exit_code == 0, again.output
    assert "all came out as recorded" in again.output


@needs_lock
def test_what_level_2_admits_is_in_the_library_when_the_run_ends(
    llm: ThreeLevels, workspace: Workspace
) -> None:
    workspace.library.remove([e.sha for e in workspace.library.entries()])
    llm.sources = (SOURCE.replace("EverySecond", "Mine"),)
    assert run("--evals", "6").exit_code == 0
    (found,) = workspace.library.entries()
    assert (found.source.name, found.run, len(found.uses)) == ("Mine", "toy-1", 1)
    workspace.library.remove([found.sha])
    assert "1 new mechanisms" in library("collect", "toy-1").output
    assert workspace.library.entries() == [found]


def test_a_wish_that_is_none_is_told_the_allowed_ones(llm: ThreeLevels) -> None:
    assert "must be one of best, alma, random" in str(run("--library", "worst").exception)


def test_names_of_users_are_no_markup(workspace: Workspace) -> None:
    given = ("--tasks", "gone[/b].toml", "--seeds", "2", "--evals", "2")
    result = library("evaluate", IDLE.sha[:8], *given)
    assert result.exit_code != 0
    assert "gone[/b].toml" in f"{result.output}{result.exception}"
    assert "closing tag" not in f"{result.exception}"
