"""Stores of earlier and later versions."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from bilevel import codec
from bilevel.conformance.store import run, trial
from bilevel.errors import SchemaTooNew, StoreError
from bilevel.model import Trial
from bilevel.store import schema
from bilevel.store.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.sqlite"


def old_store(path: Path, revision: str) -> None:
    """A store as that revision left it, with a run and two trials."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        schema.upgrade(connection, revision)
    engine.dispose()
    with sqlite3.connect(path) as raw:
        raw.execute("INSERT INTO run VALUES ('gpt-1', ?, '2026-01-01')", [codec.dump(run())])
        for seq in range(2):
            raw.execute(
                "INSERT INTO event (run, seq, kind, doc) VALUES ('gpt-1', ?, 'Trial', ?)",
                [seq, codec.dump(trial(seq))],
            )
    raw.close()


@pytest.mark.parametrize("revision", schema.VERSIONS)
def test_a_store_of_an_earlier_version_is_brought_up(path: Path, revision: str) -> None:
    old_store(path, revision)
    for _ in range(2):
        with closing(SqliteStore(path)) as store:
            assert store.run("gpt-1") == run()
            assert list(store.read("gpt-1", Trial))[:2] == [(0, trial(0)), (1, trial(1))]
            assert [at for _, _, at, _ in store.events("gpt-1")][:2] == [None, None]
            store.append("gpt-1", trial(2))
    assert store.next_id("gpt") == "gpt-2"
    store.close()


@pytest.mark.parametrize("revision", [None, *schema.VERSIONS])
def test_new_and_brought_up_stores_have_the_tables_of_the_code(
    path: Path, revision: str | None
) -> None:
    if revision is not None:
        old_store(path, revision)
    SqliteStore(path).close()
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": schema.version.name, "compare_type": True}
        )
        assert context.get_current_revision() == schema.NEWEST
        assert compare_metadata(context, schema.metadata) == []
    engine.dispose()


def test_the_versions_of_the_code_are_those_of_the_files() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent))
    script = ScriptDirectory.from_config(config)
    assert [r.revision for r in script.walk_revisions()] == list(reversed(schema.VERSIONS))
    assert script.get_heads() == [schema.NEWEST]


def test_a_store_of_a_later_version_is_refused_untouched(path: Path) -> None:
    SqliteStore(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE bilevel_version SET version_num = '0099'")
    raw.close()
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew, match=r"schema 0099, but .* none after 0003; update bilevel"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_a_migration_that_fails_leaves_the_store_as_it_was(path: Path) -> None:
    old_store(path, "0001")
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE name (x)")
    raw.close()
    with pytest.raises(StoreError, match="already exists"):
        SqliteStore(path)
    with sqlite3.connect(path) as raw:
        assert "at" not in [row[1] for row in raw.execute("PRAGMA table_info(event)")]
        assert raw.execute("SELECT version_num FROM bilevel_version").fetchall() == [("0001",)]
        raw.execute("DROP TABLE name")
    raw.close()
    SqliteStore(path).close()


def test_several_processes_may_open_a_new_store_at_once(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from bilevel.store.sqlite import SqliteStore; "
        "print(SqliteStore(Path(sys.argv[1])).next_id('gpt'))"
    )
    command = [sys.executable, "-c", code, str(path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    names = {process.communicate()[0].strip() for process in processes}
    assert names == {"gpt-1", "gpt-2", "gpt-3"}


@pytest.mark.parametrize("new", [True, False])
def test_alembic_is_imported_for_a_migration_only(path: Path, new: bool) -> None:
    if not new:
        SqliteStore(path).close()
    code = (
        "import sys; from pathlib import Path; from bilevel.store.sqlite import SqliteStore; "
        "SqliteStore(Path(sys.argv[1])).close(); print('alembic' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(path)]
    assert subprocess.check_output(command, text=True) == "False\n"
