"""Script tasks: the contract, real runs, encodings, patches."""

import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from lookalike import AUTORESEARCH, SMALL, SMALL_TOML

from bilevel.conformance.task import TaskSuite
from bilevel.errors import ConfigError, InvalidCandidate
from bilevel.executors.local import LocalExecutor
from bilevel.model import Job, JobResult
from bilevel.space import Value, Values
from bilevel.tasks.loading import load_task
from bilevel.tasks.script import ScriptTask
from patience import PATIENCE


def run(job: Job, root: Path) -> JobResult:
    with closing(LocalExecutor(root)) as executor:
        executor.submit(1, job)
        while True:
            for _, result in executor.wait(PATIENCE):
                return result


def make(folder: Path, script: str | bytes = AUTORESEARCH, toml: str | None = None) -> ScriptTask:
    folder.mkdir(exist_ok=True)
    raw = script if isinstance(script, bytes) else script.encode()
    (folder / "train.py").write_bytes(raw)
    if toml is None:
        task = load_task(folder / "train.py")
    else:
        (folder / "task.toml").write_text(toml)
        task = load_task(folder)
    assert isinstance(task, ScriptTask)
    return task


class TestScript(TaskSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def task(self) -> ScriptTask:
        return make(self.folder)

    def good(self) -> list[Values]:
        defaults = self.task().space.defaults()
        changes: list[dict[str, Value]] = [
            {"TOTAL_BATCH_SIZE": 2**18}, {"MATRIX_LR": 0.05, "ADAM_BETAS[0]": 0.9},
            {"WINDOW_PATTERN": "SL"},
        ]  # fmt: skip
        return [{**defaults, **change} for change in changes]


def test_a_run_from_file_to_outcome(tmp_path: Path) -> None:
    task = make(tmp_path / "task")
    values = task.space.defaults() | {"MATRIX_LR": 0.05}
    before, after = (
        task.read(run(task.job(v, 7), tmp_path / f"jobs{i}"))
        for i, v in enumerate([task.space.defaults(), values])
    )
    assert (before.status, after.status) == ("ok", "ok")
    assert before.value is not None
    assert after.value is not None
    assert before.value - after.value == pytest.approx(0.01, abs=2e-6)
    assert after.metrics["num_steps"] == 953
    assert (tmp_path / "task/train.py").read_text() == AUTORESEARCH


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"MATRIX_LR": 0.35}, "printed FAIL (its loss is not finite or too high); last shown: st"),
        ({"DEVICE_BATCH_SIZE": 1024}, "line 30: assert TOTAL_BATCH_SIZE %"),
    ],
)
def test_a_crash_is_explained(tmp_path: Path, change: dict[str, Value], part: str) -> None:
    task = make(tmp_path / "task")
    outcome = task.read(run(task.job(task.space.defaults() | change, 1), tmp_path / "jobs"))
    assert outcome.status == "crash"
    assert part in outcome.error


def test_the_log_of_an_earlier_run_is_no_result(tmp_path: Path) -> None:
    """`python train.py > run.log` leaves one beside the script."""
    task = make(tmp_path / "task", SMALL.replace("print(", "str("), SMALL_TOML)
    (tmp_path / "task/run.log").write_text(f"METRIC {task.objective.metric}=-999\n")
    found = task.read(run(task.job(task.space.defaults(), 7), tmp_path / "jobs"))
    assert (found.status, found.value) == ("crash", None)
    assert "printed no line" in found.error


def test_the_job_of_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    toml = SMALL_TOML.replace(
        "timeout = 30",
        'timeout = 30\ncommand = ["{python}", "train.py", "--seed={seed}"]\nlink = ["data"]\n'
        'env = { RUN_SEED = "{seed}" }\nexclude = ["*.pt"]\nmax_output_mb = 0.5',
    )
    task = make(tmp_path, SMALL, toml)
    job = task.job({"LR": 0.2}, 7)
    assert job.command[1:] == ("train.py", "--seed=7")
    assert Path(job.command[0]).exists()
    assert job.files == {"train.py": SMALL.replace("LR = 0.1", "LR = 0.2")}
    assert job.env == {"RUN_SEED": "7"}
    assert (job.folder, job.timeout, job.link) == (str(tmp_path), 30, ("data",))
    assert (job.exclude, job.max_output, job.collect) == (("*.pt",), 2**19, ("run.log",))
    assert task.seeded
    assert not make(tmp_path, SMALL, SMALL_TOML).seeded


def test_jobs_use_the_script_as_it_was_loaded(tmp_path: Path) -> None:
    task = make(tmp_path)
    job = task.job(task.space.defaults(), 42)
    (tmp_path / "train.py").write_text("changed")
    assert task.job(task.space.defaults(), 42) == job
    assert job.files == {"train.py": AUTORESEARCH}


def test_values_outside_the_space_are_refused(tmp_path: Path) -> None:
    task = make(tmp_path)
    for change in ({"MATRIX_LR": 9.0}, {"DEPTH": 4}, {"SEED": 3}):
        with pytest.raises(InvalidCandidate):
            task.job(task.space.defaults() | change, 1)


def test_the_brief_says_what_must_be_known(tmp_path: Path) -> None:
    text = make(tmp_path).brief()
    for part in ("val_bpb, lower is better", "600 s", "DEPTH = 8", "HEAD_DIM = 128", "SEED"):
        assert part in text
    assert "Find the learning rate." in make(tmp_path, SMALL, SMALL_TOML).brief()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["# end", "x = 'no newline at the end\x0c' "])
@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_patch_can_be_applied(tmp_path: Path, end: str, last: str) -> None:
    text = (AUTORESEARCH.replace("MATRIX_LR = 0.04", "MATRIX_LR = 0.04") + last).replace("\n", end)
    task = make(tmp_path, text)
    values = task.space.defaults() | {"MATRIX_LR": 0.06, "TOTAL_BATCH_SIZE": 2**20}
    patch = task.patch(values)
    assert f"+MATRIX_LR = 0.06        # learning rate for matrix parameters (Muon){end}" in patch
    assert "SEED" not in [line[1:5] for line in patch.splitlines() if line[:1] in "+-"]
    git = ["git", "apply", "--unidiff-zero", "-"]
    subprocess.run(git, input=patch.encode(), cwd=tmp_path, check=True)
    edited = (tmp_path / "train.py").read_bytes().decode()
    assert edited == task.job(values, 42).files["train.py"]
    assert task.patch(task.space.defaults()) == ""


def test_a_patch_at_the_last_line_without_a_newline(tmp_path: Path) -> None:
    toml = SMALL_TOML
    task = make(tmp_path, "print('val_loss: 1')\nLR = 0.1", toml)
    assert task.patch({"LR": 0.2}) == (
        "--- a/train.py\n+++ b/train.py\n@@ -1,2 +1,2 @@\n print('val_loss: 1')\n"
        "-LR = 0.1\n\\ No newline at end of file\n+LR = 0.2\n\\ No newline at end of file\n"
    )


@pytest.mark.parametrize(
    ("encoding", "head"),
    [
        ("latin-1", "# -*- coding: latin-1 -*-\n"),
        ("cp1252", "#!/usr/bin/env python\n# vim: set fileencoding=cp1252 :\n"),
        ("utf-8-sig", ""),
        ("utf-8", "# coding: utf-8\n"),
        ("utf-8", "X_ = 1\n# coding: latin-1\n"),
    ],
)
def test_scripts_in_other_encodings_run_the_same(tmp_path: Path, encoding: str, head: str) -> None:
    script = head + "LR = 0.1  # für\nassert 'é' == chr(233)\nprint(f'val_loss: {LR}')\n"
    task = make(tmp_path / "task", script.encode(encoding), SMALL_TOML)
    assert task.space["LR"].doc == "für"
    outcome = task.read(run(task.job({"LR": 0.2}, 1), tmp_path / "jobs"))
    assert (outcome.value, outcome.error) == (0.2, "")
    assert "LR = 0.2  # für\n" in task.patch({"LR": 0.2})


@pytest.mark.parametrize(
    ("raw", "why"),
    [(b"\xff = 1", "cannot be read as Python"), (b"# coding: nonsense\n", "unknown encoding"),
     (b"X = (", "line 1 is not valid Python")],
)  # fmt: skip
def test_a_script_that_cannot_be_read(tmp_path: Path, raw: bytes, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        make(tmp_path, raw)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"train.py"', '"trian.py"', "trian.py does not exist; set file"),
        ("timeout", 'seed = "SED"\ntimeout', "script.seed: train.py has no upper-case constant"),
        ("timeout", 'seed = "LR"\ntimeout', "script.seed is LR, which is 0.1"),
        ("timeout", 'link = ["data"]\ntimeout', "link names 'data', but"),
        ("timeout", "pattern = '('\ntimeout", "no regular expression"),
    ],
)
def test_a_manifest_that_does_not_fit_its_folder(
    tmp_path: Path, old: str, new: str, why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        make(tmp_path, SMALL, SMALL_TOML.replace(old, new))


def test_a_pattern_of_the_manifest_is_used(tmp_path: Path) -> None:
    toml = SMALL_TOML.replace("timeout", "pattern = 'val loss ([0-9.]+)'\ntimeout")
    task = make(tmp_path, SMALL, toml)
    assert task.read(JobResult(0, "iter 3: val loss 1.25, time 3\n", 1.0)).value == 1.25
