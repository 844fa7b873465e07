"""Of which commit of the sources a run is begun."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from bilevel.machine import commit_of, machine

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="no git on this machine")


def git(folder: Path, *words: str) -> str:
    given = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.run(given, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "loop.py").write_text("a = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit_of.cache_clear()
    return tmp_path


def test_a_checkout_is_known_by_its_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "notes").write_text("no source\n")
    head = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(checkout / "elsewhere"))
    assert commit_of(checkout) == head


def test_sources_that_are_not_as_committed_are_said_to_have_changes(checkout: Path) -> None:
    (checkout / "src" / "loop.py").write_text("a = 2\n")
    assert commit_of(checkout) == f"{git(checkout, 'rev-parse', 'HEAD')} with changes"


def test_a_package_in_somebody_elses_checkout_has_no_commit(checkout: Path) -> None:
    assert commit_of(checkout / "src") == ""


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert commit_of(checkout) == ""


def test_a_machine_is_told_by_facts_that_are_texts() -> None:
    assert {"system", "python", "cores"} <= machine().keys()
    assert all(machine().values())
