from pathlib import Path

import pytest

from bilevel.llm import memory


@pytest.fixture(autouse=True)
def _no_memory_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What tests find out about servers is kept in no folder of the user's."""
    monkeypatch.setattr(memory, "folder", lambda: tmp_path / "memory")
