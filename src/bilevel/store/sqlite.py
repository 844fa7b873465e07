"""A store in one SQLite file in WAL mode: readers never wait for the writer, nor it for them.

Of a run nothing is ever deleted. SQLite's locks need a local disk: keep the file off network
shares.
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, create_engine, event, func, insert, literal, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import ConnectionPoolEntry

from bilevel import codec
from bilevel.errors import RunBusy, RunNotFound, StoreError
from bilevel.model import Record, Run
from bilevel.store import schema
from bilevel.store.schema import events, names, runs

R = TypeVar("R", bound=Record)

PAGE = 500  # records a query; reading holds no transaction open between two of them
BUSY_SECONDS = 30.0

_REMEDIES = {
    "SQLITE_NOTADB": "it is not a store; give another path, or move the file away",
    "SQLITE_CORRUPT": "the file is damaged; move it away, and save what it holds with "
    "`sqlite3 FILE .recover`",
    "SQLITE_FULL": "the disk is full; free space and resume, all records so far are kept",
    "SQLITE_IOERR": "the disk failed or a limit on file sizes was met; see to it and resume, "
    "all records so far are kept",
    "SQLITE_READONLY": "it must be writable, and its folder too; allow that, or give another path",
    "SQLITE_CANTOPEN": "its folder must exist and be writable; allow that, or give another path",
    "SQLITE_BUSY": f"another process held it for over {BUSY_SECONDS:g} s; end that one and resume",
}


class SqliteStore:
    """The store in the file `path`, made if absent; threads may share it.

    Raises StoreError when the file cannot be opened or written, or is something else, and
    SchemaTooNew when a later bilevel wrote it. Every method raises StoreError when the disk fails.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_SECONDS})
        weakref.finalize(self, self._engine.dispose)
        event.listen(self._engine, "connect", _configure)
        event.listen(self._engine, "begin", _begin)
        self._writer = self._engine.execution_options(bilevel_write=True)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the folder of {path} cannot be made ({error}); give another path"
            ) from error
        with self.transaction() as connection:
            current = self._has_version(connection) and schema.is_current(connection)
        if not current:
            with self.transaction(write=True) as connection:
                schema.prepare(connection)

    def create(self, run: Run) -> None:
        """Enter a new run. Raises StoreError if its id exists or is no plain name."""
        _check_name(run.id)
        row = {"id": run.id, "doc": codec.dump(run), "created": run.created}
        try:
            with self.transaction(write=True) as connection:
                connection.execute(insert(runs).values(row))
        except IntegrityError as error:
            raise StoreError(
                f"run {run.id} exists in {self.path}; give another name, or resume it"
            ) from error

    def restore(self, run: Run, logged: Sequence[tuple[str | None, Record]]) -> None:
        """Enter a run with its whole log, each record with its time; all of it or nothing.

        Raises StoreError if its id exists or is no plain name.
        """
        _check_name(run.id)
        rows = [
            {"run": run.id, "seq": i, "kind": type(r).__name__, "doc": codec.dump(r), "at": at}
            for i, (at, r) in enumerate(logged)
        ]
        try:
            with self.transaction(write=True) as connection:
                row = {"id": run.id, "doc": codec.dump(run), "created": run.created}
                connection.execute(insert(runs).values(row))
                if rows:
                    connection.execute(insert(events), rows)
        except IntegrityError as error:
            raise StoreError(f"run {run.id} exists in {self.path}; give another name") from error

    def next_id(self, task: str) -> str:
        """A name for a run of the task that was never given out before: `gpt-1`, `gpt-2`, …"""
        name = re.sub(r"[^a-z0-9]+", "-", task.lower()).strip("-")[:40] or "run"
        counted = update(names).where(names.c.name == name).values(last=names.c.last + 1)
        with self.transaction(write=True) as connection:
            while True:
                last = connection.execute(counted.returning(names.c.last)).scalar()
                if last is None:
                    last = 1
                    connection.execute(insert(names).values(name=name, last=last))
                run = f"{name}-{last}"
                taken = select(runs.c.id).where(runs.c.id == run)
                if connection.execute(taken).first() is None:
                    return run

    def run(self, run: str) -> Run:
        """The run as it was started. Raises RunNotFound."""
        with self.transaction() as connection:
            doc = connection.execute(select(runs.c.doc).where(runs.c.id == run)).scalar()
        if doc is None:
            raise self._not_found(run)
        return codec.load(Run, doc)

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        # Of two in the same second, gpt-9 comes before gpt-10.
        order = (runs.c.created, func.length(runs.c.id), runs.c.id)
        with self.transaction() as connection:
            docs = connection.scalars(select(runs.c.doc).order_by(*order)).all()
        return [codec.load(Run, doc) for doc in docs]

    @contextmanager
    def writing(self, run: str) -> Iterator[None]:
        """Hold the right to append to a run. Raises RunBusy while another has it.

        The lock is the operating system's, so it ends with the process however that ends.
        """
        _check_name(run)
        path = self.path.parent / "locks" / f"{run}.lock"
        try:
            path.parent.mkdir(exist_ok=True)
            lock = path.open("a+")
        except OSError as error:
            raise StoreError(
                f"the lock of run {run} cannot be made ({error}); make the folder writable"
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.seek(0)
                holder = lock.read().strip() or "that is just starting"
                raise RunBusy(
                    f"run {run} is being written by process {holder}; wait until it ends, or end it"
                ) from error
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            yield

    def append(self, run: str, record: Record) -> int:
        """Add a record; its number. It is on the disk on return. Raises RunNotFound."""
        following = select(func.coalesce(func.max(events.c.seq) + 1, 0))
        row = select(
            runs.c.id,
            following.where(events.c.run == run).scalar_subquery(),
            literal(type(record).__name__),
            literal(codec.dump(record)),
            literal(datetime.now(UTC).isoformat(timespec="milliseconds")),
        ).where(runs.c.id == run)
        columns = [events.c.run, events.c.seq, events.c.kind, events.c.doc, events.c.at]
        adding = insert(events).from_select(columns, row).returning(events.c.seq)
        with self.transaction(write=True) as connection:
            seq: int | None = connection.execute(adding).scalar()
        if seq is None:
            raise self._not_found(run)
        return seq

    def read(self, run: str, kind: type[R], since: int = 0) -> Iterator[tuple[int, R]]:
        """Records of one kind with their numbers, from number `since` on. Raises RunNotFound."""
        self.run(run)
        rows = self._rows(run, since, kind.__name__)
        return ((seq, codec.load(kind, doc)) for seq, _, _, doc in rows)

    def events(
        self, run: str, since: int = 0
    ) -> Iterator[tuple[int, str, datetime | None, Record]]:
        """Number, kind, time of appending and record, from number `since` on.

        The time is None for what schema 0001 kept. Raises RunNotFound.
        """
        self.run(run)
        return (
            (seq, kind, datetime.fromisoformat(at) if at else None, self._load(kind, doc))
            for seq, kind, at, doc in self._rows(run, since)
        )

    def close(self) -> None:
        """Free the file. May be called twice; a later call of another method opens it again."""
        self._engine.dispose()

    def _load(self, kind: str, doc: str) -> Record:
        if kind not in codec.KINDS:
            raise StoreError(
                f"{self.path} holds a record of kind {kind!r}; known are "
                f"{', '.join(codec.KINDS)}; update bilevel"
            )
        return codec.load(codec.KINDS[kind], doc)

    def _rows(
        self, run: str, since: int, kind: str | None = None
    ) -> Iterator[tuple[int, str, str | None, str]]:
        """Rows (seq, kind, at, doc) in order; each page is a transaction of its own."""
        query = select(events.c.seq, events.c.kind, events.c.at, events.c.doc)
        query = query.where(events.c.run == run).order_by(events.c.seq).limit(PAGE)
        if kind is not None:
            query = query.where(events.c.kind == kind)
        while True:
            with self.transaction() as connection:
                page = connection.execute(query.where(events.c.seq >= since)).all()
            for row in page:
                yield row.seq, row.kind, row.at, row.doc
            if len(page) < PAGE:
                return
            since = page[-1].seq + 1

    @contextmanager
    def transaction(self, write: bool = False) -> Iterator[Connection]:
        """A transaction; the database's errors become StoreError, with what to do about them.

        IntegrityError goes through: its meaning is known only to the statement.
        """
        engine = self._writer if write else self._engine
        try:
            with engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise self._failed(error) from error

    def _failed(self, error: DBAPIError) -> StoreError:
        name = getattr(error.orig, "sqlite_errorname", "")
        for start, remedy in _REMEDIES.items():
            if name.startswith(start):
                return StoreError(f"{self.path} cannot be used ({error.orig}): {remedy}")
        return StoreError(f"{self.path} cannot be used ({error.orig}, {name}): report this")

    def _has_version(self, connection: Connection) -> bool:
        return bool(self._engine.dialect.has_table(connection, schema.version.name))

    def _not_found(self, run: str) -> RunNotFound:
        return RunNotFound(f"there is no run {run!r} in {self.path}; see `bilevel list`")


def _check_name(run: str) -> None:
    """Raises StoreError unless the id can stand in a path and on a command line."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", run):
        raise StoreError(
            f"the name of a run is {run!r}, but must be up to 100 letters, digits, '.', '_' and "
            "'-', the first a letter or digit; give another"
        )


def _configure(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    # Python's driver would begin transactions by itself, but not before a change of schema.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    # FULL waits for the disk at each commit, so that records outlive a power cut too: some
    # milliseconds, where an evaluation takes seconds. NORMAL would outlive kill -9 only.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin(connection: Connection) -> None:
    options: dict[str, Any] = connection.get_execution_options()
    # A writer locks at once: one that reads first and then writes could only fail when busy.
    immediate = options.get("bilevel_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
