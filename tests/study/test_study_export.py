"""A study as files: the same results from them alone, decided again, and refused when changed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from studies import described, go, study, text

from bilevel import codec
from bilevel.archive import read_archive
from bilevel.assemble import replayed
from bilevel.errors import BilevelError, ConfigError, StoreError
from bilevel.model import Proposal, Record, Run
from bilevel.replay import Replay
from bilevel.sandbox.errors import SandboxRefused
from bilevel.study import replaying
from bilevel.study.data import StudyData
from bilevel.study.export import Exported, Written, export, exported
from bilevel.study.file import parse
from bilevel.study.harness import Study
from bilevel.study.provenance import Provenance, provenance
from bilevel.study.replaying import again, chosen
from bilevel.study.results import places, run_names, stored, study_data, worked_out
from comparable import reply
from worlds import Scripted

ARMS = ("A", "tabu", "random_search")
KEY = "sk-" + "a1B2" * 8


def known(made: Study) -> Provenance:
    logs, _ = stored(made)
    return provenance(made.workspace.home, made.file.study.name, (r for r, _ in logs.values()))


def written(made: Study, folder: Path, more: Provenance | None = None) -> Written:
    return export(made.workspace, made.file, stored(made)[0], more or known(made), folder, {})


def results(of: Exported) -> StudyData:
    return study_data(of.file, of.logs, known=of.known)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study that was made, with a scripted LLM."""
    folder = tmp_path_factory.mktemp("study")
    made = study(folder, described(folder, *ARMS))
    go(made, Scripted(reply))
    return made


@pytest.fixture
def out(whole: Study, tmp_path: Path) -> Path:
    written(whole, tmp_path / "out")
    return tmp_path / "out"


def test_the_same_results_from_the_files_alone(whole: Study, out: Path) -> None:
    here = study_data(whole.file, stored(whole)[0], known=known(whole))
    assert results(exported(out)) == here
    assert here.began
    assert [v.hash for v in here.versions] == [whole.file.hash]
    assert {r.builds for r in here.runs} == {tuple(here.builds)}
    assert {m.name for r in here.runs for m in r.mechanisms} == {"tabu", "random_search"}
    assert all(m.source for r in here.runs for m in r.mechanisms)


def test_what_was_written_is_told_and_small(whole: Study, tmp_path: Path) -> None:
    done = written(whole, tmp_path / "out")
    assert len(done.sizes) == 6
    assert done.size == sum(p.stat().st_size for p in (tmp_path / "out").rglob("*.*"))
    plain = [codec.dump_log(run, log) for run, log in stored(whole)[0].values()]
    assert sum(done.sizes) < sum(len(gzip.compress(text.encode())) for text in plain)
    again_written = written(whole, tmp_path / "again")
    for path in done.paths:
        same = tmp_path / "again" / path.relative_to(tmp_path / "out")
        assert path.read_bytes() == same.read_bytes()
    assert again_written.replaced == {}


def test_how_many_runs_are_packed_is_told_run_by_run(whole: Study, tmp_path: Path) -> None:
    logs, told = stored(whole)[0], list[int]()
    export(whole.workspace, whole.file, logs, known(whole), tmp_path, {}, told.append)
    assert told == [1, 2, 3, 4, 5, 6]


def test_each_run_is_a_file_of_its_own_with_its_task_and_times(out: Path) -> None:
    archive = read_archive(out / "runs" / "task-A-0.jsonl.xz")
    assert set(archive.files) == {"task.toml"}
    assert all(archive.times)


def test_every_run_is_decided_again_and_the_first_difference_named(out: Path) -> None:
    found = exported(out)
    every = [*again(found.logs, chosen(found.file, found.logs, ()))]
    assert [one.name for one in every] == [run_names(found.file)[p] for p in places(found.file)]
    assert all(one.same for one in every)
    some = chosen(found.file, found.logs, ["task-tabu-*", "task-A-1"])
    assert [*some] == ["task-A-1", "task-tabu-0", "task-tabu-1"]
    place = some["task-A-1"]
    run, log = found.logs[place]
    at = next(n for n, r in enumerate(log) if isinstance(r, Proposal))
    bent = [*log[:at], replace(log[at], step=99), *log[at + 1 :]]
    (one,) = again({place: (run, bent)}, {"task-A-1": place})
    assert not one.same
    assert one.replay is not None
    assert one.replay.difference is not None
    assert one.replay.difference.recorded == bent[at]


def test_a_run_that_cannot_be_decided_again_is_said_and_is_not_the_end(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = exported(out)
    wanted = chosen(found.file, found.logs, ["*-tabu-0", "*-A-0"])

    def refuses(run: Run, log: Sequence[Record]) -> Replay:
        if run.stack:
            raise SandboxRefused("this machine cannot lock it in; allow a weak sandbox")
        return replayed(run, log)

    monkeypatch.setattr(replaying, "replayed", refuses)
    first, second = again(found.logs, wanted)
    assert (first.same, second.same) == (True, False)
    assert second.replay is None
    assert second.problem.startswith("this machine cannot lock it in")


def test_a_name_without_a_run_is_refused(out: Path) -> None:
    found = exported(out)
    with pytest.raises(ConfigError, match="has no run task-B-0; there is task-A-0, say"):
        chosen(found.file, found.logs, ["task-B-0"])


def test_credit_is_kept_in_the_export(whole: Study, tmp_path: Path) -> None:
    more = worked_out(stored(whole)[0], known(whole))
    written(whole, tmp_path / "out", more)
    found = exported(tmp_path / "out")
    credits = {r.arm: [m.credit for m in r.mechanisms] for r in results(found).runs}
    assert credits["A"] == []
    assert all(c is not None for c in (*credits["tabu"], *credits["random_search"]))
    assert credits["random_search"][0] == pytest.approx(1.0, abs=0.7)
    assert worked_out({}, found.known) == found.known


def test_secrets_are_blotted_out(tmp_path: Path) -> None:
    said = Scripted(lambda messages, number: reply(messages, number).replace("help", KEY))
    made = study(tmp_path, described(tmp_path, "A", "random_search", repeats=1))
    go(made, said)
    done = written(made, tmp_path / "out")
    assert done.replaced == {"a key": done.replaced["a key"]}
    assert done.replaced["a key"] > 0
    archive = read_archive(tmp_path / "out" / "runs" / "task-A-0.jsonl.xz")
    assert KEY not in json.dumps(archive.documents())
    found = exported(tmp_path / "out")
    assert all(one.same for one in again(found.logs, chosen(found.file, found.logs, ())))


def broken_index(out: Path, change: Callable[[dict[str, object]], object]) -> None:
    index = json.loads((out / "study.json").read_text())
    change(index)
    (out / "study.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (lambda out: (out / "study.toml").write_text("# mine\n" + (out / "study.toml").read_text()),
         "was changed after it was exported"),
        (lambda out: (out / "runs" / "task-A-0.jsonl.xz").unlink(), "is not whole: there is no"),
        (lambda out: (out / "runs" / "task-A-0.jsonl.xz").write_bytes(b"x"), "not packed by gzip"),
        (lambda out: (out / "runs" / "task-A-0.jsonl.xz").replace(
            out / "runs" / "task-A-1.jsonl.xz"), "is not whole"),
        (lambda out: (out / "runs" / "task-A-0.jsonl.xz").write_bytes(
            (out / "runs" / "task-A-1.jsonl.xz").read_bytes()), "on seed 0, but its file says 1"),
        (lambda out: broken_index(out, lambda index: index.update(version=2)), "version 2 of the"),
        (lambda out: broken_index(out, lambda index: index.pop("runs")), "no whole exported study"),
        (lambda out: (out / "study.json").unlink(), "no whole exported study"),
    ],
)  # fmt: skip
def test_what_is_not_as_it_was_written_is_refused(
    out: Path, breaks: Callable[[Path], object], said: str
) -> None:
    breaks(out)
    with pytest.raises(StoreError, match=said):
        exported(out)


def test_leave_for_a_weak_sandbox_is_not_taken_from_a_file(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = exported(out)
    (place, (run, log)), *_ = read.logs.items()
    monkeypatch.setattr(
        "bilevel.study.export.read_log", lambda path: (replace(run, sandbox="weak"), log)
    )
    broken_index(out, lambda index: index.update(runs=index["runs"][:1]))  # type: ignore[index]
    for leave in (False, True):
        found = exported(out, allow_weak=leave).logs[place][0]
        assert (found.sandbox, found.allow_weak) == ("weak", leave)


def test_an_export_of_before_is_read(whole: Study, tmp_path: Path) -> None:
    """Its runs were packed JSON, and its index knew nothing else."""
    (tmp_path / "runs").mkdir()
    index = []
    for place, (run, log) in stored(whole)[0].items():
        name = f"{place.arm}-{place.repeat}.json.gz"
        packed = gzip.compress(codec.dump_log(run, log).encode())
        (tmp_path / "runs" / name).write_bytes(packed)
        index.append({"task": place.task, "arm": place.arm, "seed": place.seed, "file": name})
    (tmp_path / "study.toml").write_text(whole.file.text)
    head = {"name": "toy-study", "file": "study.toml", "hash": whole.file.hash}
    (tmp_path / "study.json").write_text(json.dumps({**head, "runs": index}))
    found = results(exported(tmp_path))
    here = study_data(whole.file, stored(whole)[0], known=known(whole))
    bare = tuple(replace(r, builds=()) for r in here.runs)
    assert found == replace(here, runs=bare, builds={}, versions=(), began="")


def test_an_export_over_an_earlier_one_leaves_nothing_behind(whole: Study, tmp_path: Path) -> None:
    out = tmp_path / "out"
    written(whole, out)
    stale = out / "runs" / "task-A-0.json.gz"
    stale.write_bytes(b"")
    mine = out / "runs" / "notes.txt"
    mine.write_text("mine")
    broken_index(out, lambda index: index["runs"][0].update(file="task-A-0.json.gz"))  # type: ignore[index]
    written(whole, out)
    assert not stale.exists()
    assert mine.exists()
    assert exported(out)


def test_two_tasks_of_one_file_name_have_names_of_their_own(tmp_path: Path) -> None:
    said = text("A", "tpe").replace('["task.toml"]', '["a/task.toml", "b/task.toml"]')
    file = parse(said.replace('"task.toml" = 0.5', '"a/task.toml" = 0.5'), tmp_path / "study.toml")
    names = run_names(file)
    assert len(set(names.values())) == len(names) == 8
    assert all(name.startswith("task_") for name in names.values())


def test_a_study_that_has_not_begun_can_be_told_from_a_broken_one(tmp_path: Path) -> None:
    with pytest.raises(BilevelError, match="no whole exported study"):
        exported(tmp_path)
