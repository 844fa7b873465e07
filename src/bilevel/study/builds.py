"""Which build of bilevel made which run of a study, by the sha256 of its sources.

One file a study, `studies/NAME.builds.jsonl` in the workspace's folder, to which every process that
makes runs appends: a line for each build, then one for each time that a run is begun or gone on
with. Runs that an earlier bilevel made are not in it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import bilevel
from bilevel import codec
from bilevel.assemble import Watcher
from bilevel.compare.compare import Cell, Screen
from bilevel.errors import StoreError
from bilevel.model import Run
from bilevel.study.data import Build

__all__ = ["Builds", "Ledger", "Noting", "build_of", "current", "path_of", "words"]

DIGITS = 12  # of each file's sha256 that are kept


@dataclass(frozen=True)
class Builds:
    """builds: by sha, in the order of their first run. made: by run, the shas of its builds."""

    builds: Mapping[str, Build] = field(default_factory=dict)
    made: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@cache
def current() -> Build:
    """The build that this process is, as its files were when this was first asked."""
    return build_of(Path(bilevel.__file__).parent, bilevel.__version__)


def build_of(root: Path, version: str) -> Build:
    """The build in a folder: all its files but what Python makes of them."""
    paths = sorted(p for p in root.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    shas = {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths
    }
    whole = hashlib.sha256("".join(f"{sha} {name}\n" for name, sha in shas.items()).encode())
    short = {name: sha[:DIGITS] for name, sha in shas.items()}
    return Build(whole.hexdigest(), version, short)


def path_of(home: Path, name: str) -> Path:
    """Where the builds of a study are noted."""
    return home / "studies" / f"{name}.builds.jsonl"


def words(known: Builds, runs: Iterable[str]) -> str:
    """Which builds made these runs, and whether this is another one; "" where all is this one's."""
    counts = Counter(sha for run in runs for sha in known.made.get(run, ("",)))
    here = current().sha
    if set(counts) <= {here}:
        return ""
    listed = ", ".join(
        f"{count} by {sha[:DIGITS] or 'a build that was not noted'}"
        for sha, count in counts.items()
    )
    return f"runs there: {listed}; this is build {here[:DIGITS]}"


class Ledger:
    """The builds of a study, noted and read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._noted: set[str] = set()

    def note(self, run: str, build: Build | None = None) -> None:
        """A build, this one if none is given, begins a run or goes on with it. Raises OSError."""
        build = build or current()
        lines: list[dict[str, object]] = []
        if build.sha not in self._noted and build.sha not in self.read().builds:
            lines.append({"build": asdict(build)})
        at = datetime.now(UTC).isoformat(timespec="seconds")
        lines.append({"run": run, "by": build.sha, "at": at})
        self._append("".join(json.dumps(line) + "\n" for line in lines).encode())
        self._noted.add(build.sha)

    def read(self) -> Builds:
        """What was noted so far. Raises StoreError where the file was damaged."""
        text = self.path.read_bytes() if self.path.exists() else b""
        builds: dict[str, Build] = {}
        made: dict[str, tuple[str, ...]] = {}
        for number, line in enumerate(text.splitlines(), 1):
            try:
                document = json.loads(line)
                if "build" in document:
                    build = codec.load(Build, json.dumps(document["build"]))
                    builds[build.sha] = build
                else:
                    run, by = document["run"], document["by"]
                    made[run] = tuple(dict.fromkeys([*made.get(run, ()), by]))
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(
                    f"{self.path}, line {number}, cannot be read ({error!r}); take that line out"
                ) from error
        return Builds(builds, made)

    def _append(self, data: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # In one write, so that the lines of two processes never mix.
        place = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(place, data)
        finally:
            os.close(place)


class Noting:
    """A screen that notes which build is at a run before another screen is told."""

    def __init__(self, screen: Screen, ledger: Ledger) -> None:
        self._screen = screen
        self._ledger = ledger

    def starts(self, cell: Cell, run: Run) -> Watcher:
        self._ledger.note(run.id)
        return self._screen.starts(cell, run)

    def ends(self, cell: Cell) -> None:
        self._screen.ends(cell)

    def waits(self, cells: Sequence[Cell]) -> None:
        self._screen.waits(cells)
