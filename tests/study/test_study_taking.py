"""A study that was exported goes on in another folder and store, and redoes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from studies import answering, described, go, study

from bilevel.compare.compare import Cell
from bilevel.compare.helpers import Silent
from bilevel.errors import ConfigError
from bilevel.study.export import INDEX, export
from bilevel.study.file import StudyFile, parse
from bilevel.study.harness import Study
from bilevel.study.provenance import provenance
from bilevel.study.registry import enter, load, path_of
from bilevel.study.results import stored, study_data
from bilevel.study.taking import take_record, take_runs
from bilevel.workspace import Workspace

FREE = ("random_search", "cmaes")


class One(Silent):
    """Stops the study when its second run begins."""

    def __init__(self) -> None:
        self.began = 0

    def starts(self, cell: Cell, run: object) -> Silent:
        self.began += 1
        if self.began == 2:
            raise KeyboardInterrupt
        return self


def exported_to(made: Study, folder: Path) -> Path:
    logs, _ = stored(made)
    known = provenance(made.workspace.home, made.file.study.name, (r for r, _ in logs.values()))
    export(made.workspace, made.file, logs, known, folder, {})
    return folder


def taken(folder: Path, file: StudyFile, out: Path) -> tuple[Study, tuple[int, int]]:
    """The study as `bilevel study run --records` opens it."""
    workspace = Workspace(folder / "state")
    found = take_record(workspace, file, out)
    record = enter(workspace, file)
    made = Study(workspace, file, record.began, record.lent())
    return made, take_runs(made, found)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An export of the study with two repeats."""
    (tmp_path / "here").mkdir()
    made = study(tmp_path / "here", described(tmp_path / "here", *FREE))
    go(made)
    return exported_to(made, tmp_path / "out")


@pytest.fixture
def there(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    return tmp_path / "there"


def test_grown_elsewhere_only_what_is_new_is_made(tmp_path: Path, out: Path, there: Path) -> None:
    made, counts = taken(there, described(there, *FREE, "tpe", repeats=3), out)
    assert counts == (4, 0)
    began = go(made).began
    assert len(began) == 5
    assert {cell.strategy for cell in began if cell.seed < 2} == {"tpe"}
    record, first = (load(tmp_path / w / "state", "toy-study") for w in ("there", "here"))
    assert record is not None
    assert first is not None
    assert record.began == first.began
    assert [v.hash for v in record.versions][:1] == [v.hash for v in first.versions]
    assert len(record.versions) == 2
    again, counts = taken(there, made.file, out)
    assert counts == (0, 4)
    assert again.left() == []


def test_it_is_the_study_that_one_folder_would_hold(tmp_path: Path, there: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = study(tmp_path / "whole", described(tmp_path / "whole", *FREE))
    go(whole)
    (tmp_path / "half").mkdir()
    half = study(tmp_path / "half", described(tmp_path / "half", *FREE))
    with pytest.raises(KeyboardInterrupt):
        half.go(answering(None), One())
    made, counts = taken(there, described(there, *FREE), exported_to(half, tmp_path / "out"))
    assert counts == (2, 0)
    go(made)
    here, other = (study_data(m.file, stored(m)[0]) for m in (whole, made))
    assert [(r.arm, r.seed, r.best, r.status) for r in here.runs] == [
        (r.arm, r.seed, r.best, r.status) for r in other.runs
    ]
    builds = made.ledger.read()
    assert all(builds.made[run.id] for run, _ in stored(made)[0].values())


def test_a_run_whose_baseline_failed_comes_in_once_and_makes_room(
    tmp_path: Path, there: Path
) -> None:
    def failing(folder: Path) -> StudyFile:
        file = described(folder, *FREE, repeats=1)
        task = folder / "task.toml"
        task.write_text(task.read_text().replace('default = "SSSL"', 'default = "L"'))
        return file

    (tmp_path / "here").mkdir()
    here = study(tmp_path / "here", failing(tmp_path / "here"))
    go(here)
    out = exported_to(here, tmp_path / "out")
    assert taken(there, failing(there), out)[1] == (2, 0)
    made, counts = taken(there, failing(there), out)
    assert counts == (0, 2)
    assert {r.status for r in study_data(made.file, stored(made)[0]).runs} == {"problem"}
    assert len(made.left()) == 2, "what failed is made again once it can be"


def test_rules_stay_what_they_were(out: Path, there: Path) -> None:
    file = described(there, *FREE)
    changed = file.text.replace("The first arm beats", "No arm beats")
    with pytest.raises(ConfigError, match="its hypotheses changed"):
        taken(there, parse(changed, there / "study.toml"), out)


def test_a_study_may_leave_out_nothing(tmp_path: Path, there: Path) -> None:
    (tmp_path / "more").mkdir()
    more = study(tmp_path / "more", described(tmp_path / "more", *FREE, "tpe", repeats=1))
    go(more)
    out = exported_to(more, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"arm tpe on task\.toml, seed 0.* leave out nothing"):
        taken(there, described(there, *FREE), out)


def test_runs_that_this_build_would_not_make_are_refused_before_any_comes_in(
    out: Path, there: Path
) -> None:
    file = described(there, *FREE)
    task = there / "task.toml"
    task.write_text(task.read_text().replace("Make the loss small.", "Make it tiny."))
    with pytest.raises(ConfigError, match="other brief, fingerprint; go on with the build"):
        taken(there, file, out)
    assert Workspace(there / "state").store.runs() == []
    assert load(there / "state", "toy-study") is None, "the right build may still take it up"


def test_a_study_that_was_begun_here_by_itself_is_another(out: Path, there: Path) -> None:
    made = study(there, described(there, *FREE))
    path = path_of(there / "state", "toy-study")
    record = json.loads(path.read_text())
    record["began"] = "2001-01-01T00:00:00+00:00"
    path.write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="with another --home"):
        take_record(made.workspace, made.file, out)


def test_another_study_is_refused(out: Path, there: Path) -> None:
    file = described(there, *FREE)
    index = json.loads((out / INDEX).read_text())
    text = file.text.replace("toy-study", "other")
    other = parse(text, out / "study.toml")
    (out / "study.toml").write_text(text)
    (out / INDEX).write_text(json.dumps(index | {"hash": other.hash, "name": "other"}))
    with pytest.raises(ConfigError, match=r"holds the study other, and .* is toy-study"):
        take_record(Workspace(there / "state"), file, out)
