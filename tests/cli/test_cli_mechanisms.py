"""`bilevel mechanisms` as a user types it."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bilevel.cli.cli import app, main
from bilevel.errors import ConfigError
from bilevel.mechanisms import load, names, source
from bilevel.prompts import render
from packages import package

GOOD = """
from bilevel.mechanism import Mechanism


class Mine(Mechanism):
    def __init__(self):
        self.kept = 0

    def accept(self, view, trial, keep):
        self.kept += keep
        return keep
"""


def mechanisms(*words: str) -> tuple[int, str]:
    """Exit status and output of the command."""
    result = CliRunner().invoke(app, ["mechanisms", *words], env={"COLUMNS": "200"})
    return result.exit_code, result.output


def refused(
    *words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """What the whole program says on stderr when it exits with status 1."""
    monkeypatch.setattr(sys, "argv", ["bilevel", "mechanisms", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    return capsys.readouterr().err


def test_without_a_word_they_are_listed() -> None:
    assert mechanisms() == mechanisms("list")


def test_a_file_that_conforms(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(GOOD, encoding="utf-8-sig")
    code, output = mechanisms("check", str(path))
    assert code == 0
    assert output.startswith("conforms: accept; sandbox: strict")
    assert "decisions, each tried twice, the slowest in " in output


def test_what_the_lint_finds_is_said_a_line_each(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"import os\nimport random\n{GOOD}\n\nx = random.random()\n")
    code, output = mechanisms("check", str(path))
    assert code == 1
    first, second = output.splitlines()
    assert first.startswith("line 1: os may not be imported; ")
    assert second.startswith("line 16: random.random differs on each run; use view.rng.random")


def test_what_the_toys_find_is_said_a_line_each(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(GOOD.replace("self.kept += keep", "x = view.history\n        return 1 / 0"))
    code, output = mechanisms("check", str(path))
    assert code == 1
    (line,) = output.splitlines()
    assert line.startswith("line 10: accept, with one number: AttributeError: 'View' object has ")
    assert "did you mean .trials?" in line


def test_words_of_a_source_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(GOOD.replace("return keep", "raise ValueError('\\x1b[31m[red]\\r\\n')"))
    code, output = mechanisms("check", str(path))
    assert code == 1
    assert "\x1b" not in output
    assert "[red]" in output
    assert len(output.splitlines()) == 1


def test_a_mechanism_is_checked_by_its_name() -> None:
    code, output = mechanisms("check", "tabu")
    assert code == 0
    assert output.startswith("conforms: plan, screen; sandbox: none, it is trusted; ")


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("absent.py", None, "is neither a file nor the name of a mechanism; give a Python file"),
        ("folder", "", "is no file; give a Python file"),
        ("latin.py", b"# caf\xe9", "is not UTF-8 (byte 5); save it as UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read(
    name: str,
    data: bytes | str | None,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / name
    if isinstance(data, bytes):
        path.write_bytes(data)
    elif data is not None:
        path.mkdir()
    assert words in refused("check", str(path), monkeypatch=monkeypatch, capsys=capsys)


@pytest.mark.parametrize("data", [b"", b"x = (", b"\0", b"x" * 70_000, b"(" * 10_000])
def test_a_file_that_is_no_mechanism(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_bytes(data)
    code, output = mechanisms("check", str(path))
    assert code == 1
    assert output.strip()
    assert "Traceback" not in output


def test_a_machine_without_a_sandbox_must_be_told_that_the_file_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bilevel.sandbox.policy.level", lambda *_: "weak")
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    words = refused("check", str(path), monkeypatch=monkeypatch, capsys=capsys)
    assert "does not lock a worker" in words
    code, output = mechanisms("check", "--allow-weak-sandbox", str(path))
    assert code == 0
    assert "sandbox: weak" in output


def test_the_list_says_which_libraries_are_needed() -> None:
    code, output = mechanisms("list", "--json")
    rows = {row["name"]: row for row in json.loads(output)}
    assert code == 0
    assert set(rows) == set(names())
    assert rows["tabu"]["libraries"] == []
    assert rows["tpe"]["libraries"] == ["optuna"]
    assert all(set(r["missing"]) <= set(r["libraries"]) for r in rows.values())
    assert all(r["lines"] > 0 and r["summary"] and len(r["sha"]) == 64 for r in rows.values())
    assert all(name in mechanisms("list")[1] for name in ("greedy", "optuna"))


def test_broken_packages_are_listed_with_the_reason_beside_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loud = f"print('hello', end='')\n{GOOD}"
    broken = {
        "raises": ("raise ValueError('[red]')", "exit status 1, ValueError: [red]"),
        "leaves": ("raise SystemExit(3)", "exit status 3, without a word"),
        "dies": ("import os; os.kill(os.getpid(), 9)", "exit status -9, without a word"),
        "lacks": (GOOD.replace("Mine", "Yours"), "exit status 1, AttributeError: module"),
    }
    package(tmp_path / "works", "works", "works = works:Mine", loud, monkeypatch)
    for name, (text, _) in broken.items():
        package(tmp_path / name, name, f"{name} = {name}:Mine", text, monkeypatch)
    code, output = mechanisms("list", "--json")
    rows = {row["name"]: row for row in json.loads(output)}
    assert code == 0
    assert set(rows) == {*names()} >= {"tabu", "works", *broken}
    assert {name for name, row in rows.items() if "error" in row} == set(broken)
    for name, (_, words) in broken.items():
        begun = f"the package {name} fails to give {name} ({name}:Mine): {words}"
        assert rows[name]["error"].startswith(begun)


def test_a_broken_package_is_told_wherever_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package(tmp_path, "mine", "mine = mine:Mine", "raise ValueError('[red]')", monkeypatch)
    words = (
        "the package mine fails to give mine (mine:Mine): exit status 1, ValueError: [red]; "
        "mend or uninstall it"
    )
    assert words in " ".join(mechanisms("list")[1].split())
    assert mechanisms("check", "mine") == (1, f"{words}\n")
    assert words in refused("show", "mine", monkeypatch=monkeypatch, capsys=capsys)


def test_a_run_over_a_broken_package_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text, said in (
        ("raises", "raise ValueError('no')", "exit status 1, ValueError: no"),
        ("leaves", "raise SystemExit(3)", "exit status 3, without a word"),
        ("lacks", GOOD.replace("Mine", "Yours"), "exit status 1, AttributeError: module"),
    ):
        package(tmp_path / name, name, f"{name} = {name}:Mine", text, monkeypatch)
        words = ["run", "paper-mock", "--levels", "1", "--stack", name, "--home", str(tmp_path)]
        error = CliRunner().invoke(app, words).exception
        assert isinstance(error, ConfigError)
        assert f"the package {name} fails to give {name} ({name}:Mine): {said}" in str(error)


def test_a_shipped_mechanism_stands_for_its_name_and_the_list_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, known = source("tabu"), names()
    package(tmp_path, "mine_b", "tabu = mine_b:Mine", GOOD, monkeypatch)
    assert source("tabu") == before
    assert type(load("tabu")).__name__ == "Tabu"
    assert names() == known
    rows = {row["name"]: row for row in json.loads(mechanisms("list", "--json")[1])}
    assert {name for name, row in rows.items() if row["hides"]} == {"tabu"}
    words = "(Not the one of mine_b, which must give it another name.)"
    assert words in " ".join(mechanisms("list")[1].split())


def test_a_package_that_works_is_used_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, "mine_a", "mine_a = mine_a:Mine", GOOD, monkeypatch)
    assert mechanisms("show", "mine_a")[1].startswith(GOOD)
    assert mechanisms("check", "mine_a")[0] == 0


def test_a_package_that_never_finishes_its_import_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bilevel.mechanisms._packages.IMPORT", 0.5)
    package(tmp_path, "stuck", "stuck = stuck:Mine", "while True: pass", monkeypatch)
    code, output = mechanisms("check", "stuck")
    assert (code, "it takes over 0.5 s to import" in output) == (1, True)


def test_the_contract_and_a_source_are_printed_as_they_are() -> None:
    assert mechanisms("contract") == (0, render("contract"))
    shown = mechanisms("show", "tabu")[1]
    assert "class Tabu(Mechanism):" in shown
    assert all(f"# {line}".rstrip() + "\n" in shown for line in render("contract").splitlines())
    compile(shown, "tabu.py", "exec")
