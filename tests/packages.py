"""Other packages, as they would be installed, for tests of what they add."""

from pathlib import Path

import pytest


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
