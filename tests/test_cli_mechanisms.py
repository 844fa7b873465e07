"""`bilevel mechanisms` as a user types it."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bilevel.cli import app, main
from bilevel.mechanisms import names
from bilevel.prompts import render

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


def package(
    folder: Path, name: str, entry: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed package of that name which adds a mechanism."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[bilevel.mechanisms]\n{entry}\n")
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(folder)


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


def test_a_broken_package_is_shown_and_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path / "a", "mine_a", "mine_a = mine_a:Mine", GOOD, monkeypatch)
    package(
        tmp_path / "b", "mine_b", "mine_b = mine_b:Mine", "raise ValueError('[red]')", monkeypatch
    )
    package(tmp_path / "c", "mine_c", "mine_c = mine_c:Other", GOOD, monkeypatch)
    package(tmp_path / "d", "mine_d", "mine_d = absent:Mine", GOOD, monkeypatch)
    code, output = mechanisms("list")
    assert code == 0
    lines = {line.split()[0]: line for line in output.splitlines() if line.strip()}
    assert "cannot be used" not in lines["mine_a"]
    assert "cannot be used: ValueError: [red]" in lines["mine_b"]
    assert "cannot be used: AttributeError: " in lines["mine_c"]
    assert "cannot be used: ModuleNotFoundError: " in lines["mine_d"]
    rows = {row["name"]: row for row in json.loads(mechanisms("list", "--json")[1])}
    assert rows["mine_b"] == {"name": "mine_b", "error": "ValueError: [red]"}
    code, output = mechanisms("check", "mine_b")
    assert code == 1
    assert output == "it cannot be loaded: ValueError: [red]; mend its package\n"
    assert mechanisms("check", "mine_a")[0] == 0


def test_the_contract_and_a_source_are_printed_as_they_are() -> None:
    assert mechanisms("contract") == (0, render("contract"))
    shown = mechanisms("show", "tabu")[1]
    assert "class Tabu(Mechanism):" in shown
    compile(shown, "tabu.py", "exec")
