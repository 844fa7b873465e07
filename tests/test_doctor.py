"""The doctor names what is wrong and the remedy, and never tells a secret."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bilevel import doctor
from bilevel.doctor import GIB, Check
from bilevel.errors import ExecutorError
from bilevel.model import Outcome
from bilevel.render.checks import checks_table
from bilevel.sandbox import policy
from bilevel.sandbox.errors import SandboxRefused
from bilevel.sandbox.sandboxed import Sandbox
from factories import shown


def test_python_must_be_recent() -> None:
    assert doctor.python((3, 11, 0)).status == "ok"
    old = doctor.python((3, 10, 14))
    assert (old.status, old.found, old.remedy) == (
        "fail",
        "3.10.14",
        "install Python 3.11 or later",
    )


def test_a_busy_machine_is_a_warning() -> None:
    assert doctor.cores(2, 3.0).status == "ok"
    busy = doctor.cores(2, 80.0)
    assert (busy.status, busy.found) == ("warn", "2 usable, 80 % busy")
    assert "stop other work" in busy.remedy


@pytest.mark.parametrize(("gib", "status"), [(8, "ok"), (3, "ok"), (2, "warn"), (0.5, "fail")])
def test_memory(gib: float, status: str) -> None:
    assert doctor.memory(gib * GIB).status == status


@pytest.mark.parametrize(("gib", "status"), [(8, "ok"), (1, "warn"), (0.1, "fail")])
def test_disk(gib: float, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: type("U", (), {"free": gib * GIB}))
    found = doctor.folder("runs folder", tmp_path / "not" / "yet", 2 * GIB, "give another")
    assert found.status == status
    assert bool(found.remedy) == (status != "ok")
    assert list(tmp_path.iterdir()) == [], "it leaves nothing behind"


def test_a_folder_that_cannot_be_made_fails(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    found = doctor.folder("runs folder", file / "home", GIB, "give another with --home")
    assert found.status == "fail"
    assert "--home" in found.remedy
    assert doctor.sqlite(file / "home").status == "fail"


def test_sqlite_works_here_and_is_doubted_on_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor.sqlite(tmp_path).status == "ok"
    monkeypatch.setattr(doctor, "_file_system", lambda _: "nfs4")
    found = doctor.sqlite(tmp_path)
    assert found.status == "warn"
    assert "local disk" in found.remedy
    monkeypatch.setattr(doctor, "_journal_mode", lambda _: "delete")
    assert doctor.sqlite(tmp_path).status == "fail"


def test_a_missing_openmp_library_is_named_with_its_package() -> None:
    assert doctor.openmp("libgomp.so.1").status == "ok"
    assert "libgomp1" in doctor.openmp(None).remedy


def test_a_library_is_found_without_importing_it() -> None:
    assert doctor.library("pytest", "dev").status == "ok"
    gone = doctor.library("no-such-library", "plots")
    assert (gone.status, gone.remedy) == ("warn", "pip install 'bilevel[plots]'")
    heavy = "import sys, bilevel.doctor; sys.exit(any(m in sys.modules for m in sys.argv[1:]))"
    names = ["torch", "matplotlib", "xllamacpp", "sqlalchemy", "openai"]
    assert subprocess.run([sys.executable, "-c", heavy, *names], check=False).returncode == 0


@pytest.mark.parametrize(
    ("body", "status", "found"),
    [
        ("echo 'NVIDIA H200, 143771 MiB, 570.1'", "ok", "NVIDIA H200, 143771 MiB, 570.1"),
        ("echo 'a, 1, 2'; echo 'b, 1, 2'", "ok", "a, 1, 2; b, 1, 2"),
        ("echo 'no devices were found' >&2; exit 6", "warn", "ended with status 6"),
        ("exec sleep 60", "warn", "gave no answer"),
    ],
)
def test_gpus_are_what_the_driver_reports(
    body: str, status: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    check = doctor.gpu(seconds=1.0)
    assert check.status == status
    assert found in check.found


def test_no_gpu_is_fine() -> None:
    assert doctor.gpu("no-such-program") == Check("GPU", "ok", "none; everything runs on the CPU")


def test_the_sandbox_is_tried_and_described(monkeypatch: pytest.MonkeyPatch) -> None:
    check = doctor.sandbox()
    level = check.found.partition(":")[0]
    assert level in policy.DESCRIPTIONS, check
    assert (check.status == "ok") == (level != "weak") == (not check.remedy)
    monkeypatch.setattr(Sandbox, "level", lambda _: "weak")
    weak = doctor.sandbox()
    assert (weak.status, policy.describe("weak") in weak.found) == ("warn", True)
    assert "use Linux" in weak.remedy

    def refuse(_: Sandbox) -> str:
        raise SandboxRefused("a worker did not start: no memory")

    monkeypatch.setattr(Sandbox, "level", refuse)
    broken = doctor.sandbox()
    assert (broken.status, broken.found) == ("fail", "a worker did not start: no memory")
    assert broken.remedy


SECRET = "sk-a1b2c3"


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({}, "ok"),
        ({"OPENAI_API_KEY": SECRET}, "ok"),
        ({"OPENAI_API_KEY": SECRET + "\n", "DEEPSEEK_API_KEY": SECRET}, "warn"),
        ({"BILEVEL_API_KEY": ""}, "warn"),
    ],
)
def test_keys_are_named_and_never_told(environ: dict[str, str], status: str) -> None:
    check = doctor.keys(environ)
    assert check.status == status
    told = check.found + check.remedy
    assert all(name in told for name in environ if status == "ok" or name in check.remedy)
    assert SECRET not in told


def test_it_says_where_each_key_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = {"DEEPSEEK_API_KEY": SECRET, "OPENAI_API_KEY": SECRET}
    monkeypatch.setattr(doctor, "from_keyring", ring.get)
    found = doctor.keys({"OPENAI_API_KEY": SECRET}).found
    assert found == "OPENAI_API_KEY (environment), DEEPSEEK_API_KEY (keyring)"


def test_weights_that_are_absent_can_be_pulled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor.weights_found("big", ["big", "small"]).status == "ok"
    for here in ([], ["small"]):
        found = doctor.weights_found("big", here)
        assert (found.status, found.remedy) == ("warn", "bilevel models pull big")
    monkeypatch.setenv("BILEVEL_CACHE", str(tmp_path))
    absent = {check.name: check for check in doctor.weights()}
    assert absent["weights"].status == "warn"
    assert str(tmp_path) in absent["weights folder"].found


TASK = """\
RATE = 0.1
print("---")
print(f"loss: {RATE}")
"""


def test_a_task_that_loads_and_one_that_does_not(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(TASK)
    (found,) = doctor.task_checks(str(script))
    assert found.status == "ok", found
    (missing,) = doctor.task_checks(str(tmp_path / "none.toml"))
    assert missing.status == "fail"
    assert "none.toml" in missing.found
    assert missing.remedy


def test_the_baseline_is_run_by_the_callable() -> None:
    asked: list[str] = []

    def runs(task: str) -> Outcome:
        asked.append(task)
        return Outcome("ok", 3.25)

    def breaks(task: str) -> Outcome:
        raise ExecutorError("no python here")

    good = doctor.baseline_check("gpt", runs)
    assert (good.status, good.found, asked) == ("ok", "it runs and gives 3.25", ["gpt"])
    crashed = doctor.baseline_check("gpt", lambda _: Outcome("crash", None, error="ValueError"))
    assert (crashed.status, crashed.found) == ("fail", "crash: ValueError")
    assert doctor.baseline_check("gpt", breaks).found == "no python here"


def test_all_checks_together_say_what_to_do(tmp_path: Path) -> None:
    found = doctor.checks(tmp_path, environ={"OPENAI_API_KEY": SECRET})
    names = [check.name for check in found]
    assert len(names) == len(set(names))
    assert all(check.remedy for check in found if check.status != "ok")
    text = shown(checks_table(found))
    assert all(name in text for name in names)
    assert SECRET not in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_table_prints_text_as_it_is() -> None:
    text = shown(checks_table([Check("task", "fail", "[red]x[/red]", "mend it")]))
    assert "[red]x[/red]" in text
    assert "-> mend it" in text
