"""A folder with the store of all runs, and a folder a run."""

from __future__ import annotations

from pathlib import Path

from bilevel.archive import is_file, read_log
from bilevel.errors import ConfigError
from bilevel.model import Record, Run
from bilevel.store.library import Library
from bilevel.store.sqlite import SqliteStore


class Workspace:
    """A folder with the store and a folder a run."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = SqliteStore(home / "runs.sqlite")
        self.library = Library(self.store)

    def folder(self, run: str) -> Path:
        """Where the run's logs, results and best configuration lie."""
        return self.home / "runs" / run

    def records(self, run: str) -> list[Record]:
        """The whole log of a run. Raises RunNotFound."""
        return [record for _, _, _, record in self.store.events(run)]

    def recording(self, name: str) -> tuple[Run, list[Record]]:
        """A run and its log, by name or from a file. Raises ConfigError or StoreError."""
        if is_file(name):
            return read_log(Path(name))
        return self.store.run(name), self.records(name)

    def latest(self) -> Run:
        """The run that was started last. Raises ConfigError when there is none."""
        runs = self.store.runs()
        if not runs:
            raise ConfigError(f"no run yet in {self.home}; start one with `bilevel run TASK`")
        return runs[-1]
