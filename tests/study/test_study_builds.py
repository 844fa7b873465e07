"""Which build made which run: noted, shown, and said where arms of one repeat are of several."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from studies import described, go, study

import bilevel
from bilevel.errors import StoreError
from bilevel.study import builds
from bilevel.study.builds import Builds, Ledger, build_of, current, words
from bilevel.study.data import Build, StudyData
from bilevel.study.harness import Study, begun
from bilevel.study.provenance import by_build, mixtures, provenance
from bilevel.study.report_provenance import looks, warnings
from bilevel.study.report_provenance import provenance as section
from bilevel.study.results import stored, study_data
from comparable import reply
from worlds import Scripted

OLD = Build("1" * 64, "0.1.0", {"loop.py": "a", "stack.py": "b"})
NEW = Build("2" * 64, "0.1.0", {"loop.py": "c", "stack.py": "b", "more.py": "d"})


def becomes(monkeypatch: pytest.MonkeyPatch, build: Build) -> None:
    """From here on this process is that build."""
    monkeypatch.setattr(builds, "current", lambda: build)


def data(made: Study) -> StudyData:
    logs, problems = stored(made)
    runs = [run for run, _ in logs.values()]
    known = provenance(made.workspace.home, made.file.study.name, runs)
    return study_data(made.file, logs, problems, known)


def test_a_build_is_the_sha_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "b.md").write_text("2")
    first = build_of(tmp_path, "1.0")
    assert set(first.files) == {"a.py", "prompts/b.md"}
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("3")
    assert build_of(tmp_path, "1.0") == first
    (tmp_path / "prompts" / "b.md").write_text("4")
    second = build_of(tmp_path, "1.0")
    assert second.sha != first.sha
    assert second.files["a.py"] == first.files["a.py"]
    assert "study/builds.py" in current().files
    assert current().version == bilevel.__version__


def test_every_run_says_which_build_made_it(tmp_path: Path) -> None:
    made = study(tmp_path, described(tmp_path, "random_search", "cmaes"))
    go(made)
    found = data(made)
    assert {r.builds for r in found.runs} == {(current().sha,)}
    assert found.builds == {current().sha: current()}
    assert words(made.ledger.read(), begun(made)) == ""
    assert [*mixtures(found, by_build)] == [*warnings(found)] == []


def test_a_study_grown_by_another_build_says_which_made_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    becomes(monkeypatch, OLD)
    go(study(tmp_path, described(tmp_path, "random_search", "cmaes")))
    becomes(monkeypatch, NEW)
    more = study(tmp_path, described(tmp_path, "random_search", "cmaes", repeats=3))
    assert words(more.ledger.read(), begun(more)) == (
        "runs there: 4 by 111111111111; this is build 222222222222"
    )
    go(more)
    found = data(more)
    assert {r.repeat: r.builds for r in found.runs} == {
        0: (OLD.sha,), 1: (OLD.sha,), 2: (NEW.sha,)
    }  # fmt: skip
    # Each repeat is of one build, so that its pairs are fair.
    assert [*warnings(found)] == []
    assert [*looks(found)] == [
        "The study grew from 2 to 3 repeats after its first results could be seen. p and intervals "
        "take no account of such looks; a p near its level should count for less."
    ]
    wider = study(tmp_path, described(tmp_path, "random_search", "cmaes", "tpe", repeats=3))
    go(wider)
    found = data(wider)
    assert [m.repeat for m in mixtures(found, by_build)] == [0, 1]
    (said,) = warnings(found)
    assert said == (
        "Beware: in 2 of 3 repeats arms were made by different code, which may be why they differ: "
        "repeat 0 (random_search, cmaes: 111111111111; tpe: 222222222222); "
        "repeat 1 (random_search, cmaes: 111111111111; tpe: 222222222222). "
        "These builds differ in loop.py, more.py."
    )
    assert [*looks(found)][1:] == [
        f"Added on {found.versions[2].at}, when results could be seen: arm tpe. In repeats that "
        "were there before, the runs of an added arm were made after those of the others, outside "
        "the shuffle of their block: whatever else changed since then is in its differences."
    ]
    rows = [block for block in section(found, "") if hasattr(block, "rows")]
    versions, made = (table.rows for table in rows)
    assert [row[2:4] for row in versions] == [
        ("2", "random_search, cmaes"), ("3", "random_search, cmaes"),
        ("3", "random_search, cmaes, tpe"),
    ]  # fmt: skip
    assert [(row[0], row[2], row[4]) for row in made] == [
        (OLD.sha, "4", "-"), (NEW.sha, "5", "loop.py, more.py")
    ]  # fmt: skip


def test_a_run_that_another_build_went_on_with_has_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stops(Scripted):
        def answer(self, messages, schema, seed):  # type: ignore[no-untyped-def]
            if len(self.asked) == 2:
                raise KeyboardInterrupt
            return super().answer(messages, schema, seed)

    becomes(monkeypatch, OLD)
    file = described(tmp_path, "A", "random_search", repeats=1)
    with pytest.raises(KeyboardInterrupt):
        go(study(tmp_path, file), Stops(reply))
    becomes(monkeypatch, NEW)
    made = study(tmp_path, file)
    go(made, Scripted(reply))
    found = data(made)
    (run,) = (r for r in found.runs if r.arm == "A")
    assert run.builds == (OLD.sha, NEW.sha)
    assert [*warnings(found)][-1] == (
        f"Beware: begun by one build and gone on with by another: {run.run_id}."
    )


def test_runs_of_which_no_build_was_noted_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of an earlier bilevel."""
    first = study(tmp_path, described(tmp_path, "random_search", "cmaes"))
    go(first)
    first.ledger.path.unlink()
    assert [*warnings(data(first))] == []
    becomes(monkeypatch, NEW)
    wider = study(tmp_path, described(tmp_path, "random_search", "cmaes", "tpe"))
    assert words(wider.ledger.read(), begun(wider)) == (
        "runs there: 4 by a build that was not noted; this is build 222222222222"
    )
    go(wider)
    found = data(wider)
    (said,) = warnings(found)
    assert "tpe: 222222222222" in said
    assert "random_search, cmaes: a build of bilevel 0.1.0 that was not noted" in said
    table = [block for block in section(found, "") if hasattr(block, "rows")][-1]
    assert [(row[0], row[2]) for row in table.rows] == [(NEW.sha, "2"), ("not noted", "4")]


def test_a_study_grows_with_a_later_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(study(tmp_path, described(tmp_path, "random_search", "cmaes")))
    monkeypatch.setattr(bilevel, "__version__", "99.0")
    grown = study(tmp_path, described(tmp_path, "random_search", "cmaes", repeats=3))
    assert {(c.strategy, c.seed) for c in go(grown).began} == {("random_search", 2), ("cmaes", 2)}
    assert {r.repeat: r.version for r in data(grown).runs} == {0: "0.1.0", 1: "0.1.0", 2: "99.0"}


def test_arms_on_different_machines_are_told(tmp_path: Path) -> None:
    made = study(tmp_path, described(tmp_path, "random_search", "cmaes", repeats=1))
    go(made)
    found = data(made)
    other = tuple(
        replace(r, machine={"cores": "64"}) if r.arm == "cmaes" else r for r in found.runs
    )
    (said,) = warnings(replace(found, runs=other))
    assert "made on different machines" in said
    assert "cmaes: cores 64" in said


def test_a_build_can_be_noted_for_another(tmp_path: Path) -> None:
    """Of runs that were made by a copy that notes none."""
    ledger = Ledger(tmp_path / "a.jsonl")
    ledger.note("toy-1", OLD)
    ledger.note("toy-2")
    ledger.note("toy-1")
    assert ledger.read().made == {"toy-1": (OLD.sha, current().sha), "toy-2": (current().sha,)}
    assert [*ledger.read().builds] == [OLD.sha, current().sha]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "a.jsonl")
    assert ledger.read() == Builds()
    ledger.note("toy-1")
    ledger.note("toy-1")
    assert ledger.read().made == {"toy-1": (current().sha,)}
    assert ledger.read().builds == {current().sha: current()}
    assert len([x for x in ledger.path.read_text().splitlines() if "build" in json.loads(x)]) == 1
    with ledger.path.open("a") as file:
        file.write('{"run": ')
    with pytest.raises(StoreError, match="line 4, cannot be read"):
        ledger.read()
