"""The SQLite store: the contract, and what becomes of it when something is killed or broken."""

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import event

from bilevel.conformance.store import StoreSuite, run, trial
from bilevel.errors import RunBusy, RunNotFound, StoreError
from bilevel.model import Stop, Trial
from bilevel.store.sqlite import SqliteStore
from patience import PATIENCE


class TestSqlite(StoreSuite):
    def store(self, folder: Path) -> SqliteStore:
        return SqliteStore(folder / ".bilevel" / "runs.sqlite")


WRITER = """
import sys
from pathlib import Path
from bilevel.conformance.store import trial
from bilevel.store.sqlite import SqliteStore

store = SqliteStore(Path(sys.argv[1]))
with store.writing("gpt-1"):
    print("writing", flush=True)
    for i in range(int(sys.argv[2])):
        print(store.append("gpt-1", trial(i)), flush=True)
"""


# Forks writers that report each append when it has returned, and kills them.
FORKED = """
import os, signal, sys, time
from pathlib import Path
from bilevel.conformance.store import trial
from bilevel.store.sqlite import SqliteStore

for kill in range(int(sys.argv[2])):
    numbers, report = os.pipe()
    child = os.fork()
    if child == 0:
        store = SqliteStore(Path(sys.argv[1]))
        with store.writing("gpt-1"):
            while True:
                os.write(report, b"%d\\n" % store.append("gpt-1", trial(0)))
    os.close(report)
    # Killed a little later each time, so that it falls on every part of an append.
    with os.fdopen(numbers) as lines:
        for _ in range(1 + kill % 7):
            last = lines.readline()
        time.sleep(kill * 0.0001)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        last = (lines.readlines() or [last])[-1]
    print(last, end="", flush=True)
"""


@contextmanager
def writer(path: Path, count: int = 10**9) -> Iterator[subprocess.Popen[str]]:
    """A process that has the right to write and appends, printing each number after its append."""
    command = [sys.executable, "-c", WRITER, str(path), str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(path)) as store:
        store.create(run())
        yield store


def test_records_outlive_a_writer_that_is_killed(path: Path, store: SqliteStore) -> None:
    command = [sys.executable, "-c", FORKED, str(path), "40"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    reported = [int(line) for line in done.stdout.splitlines()]
    assert len(reported) == 40
    assert reported == sorted(reported)
    numbers = [seq for seq, _ in store.read("gpt-1", Trial)]
    assert numbers == list(range(len(numbers)))
    # At most the one whose append had not returned is there besides.
    assert reported[-1] <= numbers[-1] <= reported[-1] + 1
    with sqlite3.connect(path) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    raw.close()


def test_the_writer_is_named_and_its_lock_dies_with_it(path: Path, store: SqliteStore) -> None:
    with writer(path) as process:
        with pytest.raises(RunBusy, match=f"gpt-1 is being written by process {process.pid};"):
            store.writing("gpt-1").__enter__()
        process.send_signal(signal.SIGKILL)
        process.wait()
        with store.writing("gpt-1"):
            store.append("gpt-1", Stop(1, "interrupted"))


def test_a_reader_follows_a_writer_in_another_process(path: Path, store: SqliteStore) -> None:
    seen: list[int] = []
    looks = 0
    deadline = time.monotonic() + PATIENCE
    with writer(path, 300):
        while len(seen) < 300:
            assert time.monotonic() < deadline
            fresh = [seq for seq, *_ in store.events("gpt-1", since=len(seen))]
            looks += bool(fresh)
            seen += fresh
    assert seen == list(range(300))
    assert looks > 1


def test_events_come_with_kind_and_time(store: SqliteStore) -> None:
    before = datetime.now(UTC)
    store.append("gpt-1", trial(0))
    store.append("gpt-1", Stop(1, "done"))
    (_, kind, at, record), second = store.events("gpt-1")
    assert (kind, record) == ("Trial", trial(0))
    assert at is not None
    assert abs((at - before).total_seconds()) < 10
    assert (second[0], second[1]) == (1, "Stop")
    assert list(store.events("gpt-1", since=2)) == []
    with pytest.raises(RunNotFound, match=r"there is no run 'nope' in .*bilevel list"):
        store.events("nope")


def test_names_are_short_and_never_given_twice(path: Path, store: SqliteStore) -> None:
    with closing(SqliteStore(path)) as other:
        names = [one.next_id("gpt") for _ in range(3) for one in (store, other)]
    assert names == ["gpt-2", "gpt-3", "gpt-4", "gpt-5", "gpt-6", "gpt-7"]
    assert store.next_id("My task: No 1!") == "my-task-no-1-1"
    assert store.next_id("…") == "run-1"
    assert len(store.next_id("x" * 300)) == 42


def test_runs_of_one_second_come_in_the_order_of_their_numbers(store: SqliteStore) -> None:
    for number in (10, 9, 2):
        store.create(run(f"gpt-{number}"))
    assert [one.id for one in store.runs()] == ["gpt-1", "gpt-2", "gpt-9", "gpt-10"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-x", "a b", "x" * 101, ".hidden", "a\n"])
def test_names_that_are_no_plain_names_are_refused(store: SqliteStore, name: str) -> None:
    with pytest.raises(StoreError, match="must be up to 100 letters"):
        store.create(run(name))
    with pytest.raises(StoreError, match="must be up to 100 letters"):
        store.writing(name).__enter__()


def test_a_refused_run_says_what_to_do(store: SqliteStore) -> None:
    with pytest.raises(StoreError, match=r"gpt-1 exists in .*; give another name, or resume it"):
        store.create(run())


def test_commits_wait_for_the_disk(path: Path, store: SqliteStore) -> None:
    with store._engine.connect() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert pragmas == ["wal", 2, 1]


# Broken disks and files.


def test_a_file_of_something_else_is_refused(path: Path) -> None:
    path.write_bytes(b"This is a text, and no database at all. " * 100)
    with pytest.raises(StoreError, match=r"not a database.*give another path"):
        SqliteStore(path)
    assert path.read_bytes().startswith(b"This is a text")


def test_a_database_of_something_else_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE cookies (name)")
    raw.close()
    with pytest.raises(StoreError, match=r"something else .*'cookies'.*give another path"):
        SqliteStore(path)


def test_a_damaged_file_is_told(path: Path, store: SqliteStore) -> None:
    for i in range(200):
        store.append("gpt-1", trial(i))
    with store._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))
    with (
        pytest.raises(StoreError, match=r"malformed.*\.recover"),
        closing(SqliteStore(path)) as damaged,
    ):
        list(damaged.read("gpt-1", Trial))


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Without root's right to write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_cannot_be_written_is_told() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        with ordinary_user():
            with pytest.raises(StoreError, match="folder must exist and be writable; allow"):
                SqliteStore(Path(name, "runs.sqlite"))
            with pytest.raises(StoreError, match=r"cannot be made .*give another path"):
                SqliteStore(Path(name, ".bilevel", "runs.sqlite"))
        Path(name).chmod(0o755)


def test_a_file_that_cannot_be_written_is_told() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "runs.sqlite")
        with closing(SqliteStore(path)) as store:
            store.create(run())
        Path(name).chmod(0o555)
        with (
            ordinary_user(),
            pytest.raises(StoreError, match="writable"),
            closing(SqliteStore(path)) as store,
        ):
            store.append("gpt-1", trial(0))
        Path(name).chmod(0o755)


def fill(store: SqliteStore, kept: list[int]) -> None:
    """Append until something breaks, noting each number that was given."""
    while len(kept) < 10_000:
        kept.append(store.append("gpt-1", trial(len(kept))))


def check(store: SqliteStore, kept: list[int]) -> None:
    """All that was kept is there, and the next record follows it."""
    assert len(kept) > 10
    assert [seq for seq, _ in store.read("gpt-1", Trial)] == kept == list(range(len(kept)))
    assert store.append("gpt-1", trial(0)) == len(kept)


def test_a_full_database_keeps_what_it_has_and_goes_on(store: SqliteStore) -> None:
    pages = 30

    def limit(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    store.close()
    event.listen(store._engine, "connect", limit)
    kept: list[int] = []
    with pytest.raises(StoreError, match="full; free space and resume"):
        fill(store, kept)
    store.close()
    pages = 10**6
    check(store, kept)


def test_a_disk_that_takes_no_more_keeps_what_it_has_and_goes_on(store: SqliteStore) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept: list[int] = []
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        with pytest.raises(StoreError, match="file sizes was met; see to it and resume"):
            fill(store, kept)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    check(store, kept)


def test_a_record_of_a_later_version_is_told(path: Path, store: SqliteStore) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("INSERT INTO event VALUES ('gpt-1', 0, 'Vision', '{}', NULL)")
    raw.close()
    with pytest.raises(StoreError, match=r"kind 'Vision'; known are .*Trial.*update bilevel"):
        list(store.events("gpt-1"))
    assert list(store.read("gpt-1", Trial)) == []
