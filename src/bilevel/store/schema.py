"""The tables of a store, and bringing a store of an earlier version up to them."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    insert,
    inspect,
    select,
)

from bilevel.errors import SchemaTooNew, StoreError

# The revisions in versions/, oldest first. Standing here too, they tell whether a store is up to
# date without importing alembic, which takes most of a second.
VERSIONS = ("0001", "0002", "0003")
NEWEST = VERSIONS[-1]

metadata = MetaData()

runs = Table(
    "run",
    metadata,
    Column("id", Text, primary_key=True),
    Column("doc", Text, nullable=False),
    Column("created", Text, nullable=False),
)

# at: when the record was appended, ISO 8601 in UTC; NULL when version 0001 wrote it.
events = Table(
    "event",
    metadata,
    Column("run", Text, ForeignKey("run.id"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("doc", Text, nullable=False),
    Column("at", Text),
    Index("event_by_kind", "run", "kind", "seq"),
)

# last: the highest number that was given out to a run of that name.
names = Table(
    "name",
    metadata,
    Column("name", Text, primary_key=True),
    Column("last", Integer, nullable=False),
)

# The library. doc: a mechanism as it came in; of its record there is a row a run and a trial of it.
mechanisms = Table(
    "mechanism",
    metadata,
    Column("sha", Text, primary_key=True),
    Column("doc", Text, nullable=False),
)

mechanism_records = Table(
    "mechanism_record",
    metadata,
    Column("sha", Text, ForeignKey("mechanism.sha"), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("doc", Text, nullable=False),
)

# alembic's own version table, under a name that shows the database to be bilevel's.
version = Table(
    "bilevel_version",
    metadata,
    Column("version_num", Text, primary_key=True),
)


def prepare(connection: Connection) -> None:
    """Bring an empty or earlier store up to the newest schema, in the caller's transaction.

    Raises SchemaTooNew for a store of a later bilevel, StoreError for some other database.
    """
    tables = inspect(connection).get_table_names()
    if not tables:
        metadata.create_all(connection)
        connection.execute(insert(version).values(version_num=NEWEST))
    elif version.name not in tables:
        raise StoreError(
            f"{connection.engine.url.database} is a database of something else (it has the table "
            f"{tables[0]!r}, no {version.name!r}); give another path"
        )
    elif not is_current(connection):
        upgrade(connection)


def is_current(connection: Connection) -> bool:
    """Whether the store has the newest schema. Raises SchemaTooNew when it has a later one."""
    found = connection.execute(select(version.c.version_num)).scalar()
    if found not in (None, *VERSIONS):
        raise SchemaTooNew(
            f"{connection.engine.url.database} has schema {found}, but this bilevel knows none "
            f"after {NEWEST}; update bilevel, or give another path"
        )
    return found == NEWEST


def upgrade(connection: Connection, to: str = NEWEST) -> None:
    """Run the revisions up to `to`, in the caller's transaction."""
    from alembic.config import Config
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    context = MigrationContext.configure(connection, opts={"version_table": version.name})
    done = context.get_current_revision()
    with Operations.context(context):
        for name in VERSIONS[VERSIONS.index(done) + 1 if done else 0 : VERSIONS.index(to) + 1]:
            revision = script.get_revision(name)
            assert revision is not None, name
            revision.module.upgrade()
            context.stamp(script, name)
