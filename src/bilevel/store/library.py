"""The library in a store: mechanisms by sha, each with a row a run and a row a trial of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.sqlite import insert

from bilevel import codec
from bilevel.errors import ConfigError
from bilevel.library.library import Entry, Transfer, Use, united
from bilevel.store.schema import mechanism_records, mechanisms
from bilevel.store.sqlite import SqliteStore

KINDS: dict[str, type[Use] | type[Transfer]] = {"Use": Use, "Transfer": Transfer}


class Library:
    """The mechanisms that a store holds. Every method raises StoreError when the disk fails."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def entries(self) -> list[Entry]:
        """All, each with its record, the oldest first."""
        with self._store.transaction() as connection:
            docs = connection.execute(select(mechanisms.c.sha, mechanisms.c.doc)).all()
            rows = connection.execute(
                select(mechanism_records).order_by(mechanism_records.c.key)
            ).all()
        found: dict[str, list[Use | Transfer]] = {sha: [] for sha, _ in docs}
        for row in rows:
            found[row.sha].append(codec.load(KINDS[row.kind], row.doc))
        entries = [_whole(codec.load(Entry, doc), found[sha]) for sha, doc in docs]
        return sorted(entries, key=lambda e: (e.created, e.sha))

    def shas(self) -> set[str]:
        """Identities of all."""
        with self._store.transaction() as connection:
            return set(connection.scalars(select(mechanisms.c.sha)))

    def find(self, prefix: str) -> Entry:
        """The one whose sha begins so. Raises ConfigError where none or several do."""
        found = [e for e in self.entries() if prefix and e.sha.startswith(prefix)]
        if len(found) != 1:
            many = (
                f"that of {len(found)} mechanisms; give more of it"
                if found
                else ("no sha in the library; see `bilevel library list`")
            )
            raise ConfigError(f"{prefix!r} is the beginning of {many}")
        return found[0]

    def add(self, entry: Entry) -> bool:
        """Put one in; whether it is new. One that is there stays, and its record is completed."""
        bare = replace(entry, uses=(), transfers=())
        adding = insert(mechanisms).values(sha=entry.sha, doc=codec.dump(bare))
        with self._store.transaction(write=True) as connection:
            done = connection.execute(adding.on_conflict_do_nothing())
            for use in entry.uses:
                _record(connection, entry.sha, use)
            for transfer in entry.transfers:
                known = _tried(connection, entry.sha, transfer.key)
                whole = transfer if known is None else united(transfer, known)
                _record(connection, entry.sha, whole)
        return done.rowcount > 0

    def record(self, sha: str, use: Use) -> None:
        """Note what a mechanism did, in the place of what stood under the same key."""
        with self._store.transaction(write=True) as connection:
            _record(connection, sha, use)

    def tried(self, sha: str, transfer: Transfer) -> Transfer:
        """Note a trial; it as noted, with the seeds that stood under the same key before."""
        with self._store.transaction(write=True) as connection:
            known = _tried(connection, sha, transfer.key)
            whole = transfer if known is None else united(known, transfer)
            _record(connection, sha, whole)
        return whole

    def remove(self, shas: Sequence[str]) -> None:
        """Take some out with their records; runs that were given them are untouched."""
        with self._store.transaction(write=True) as connection:
            for table in (mechanism_records, mechanisms):
                connection.execute(delete(table).where(table.c.sha.in_(shas)))


def _tried(connection: Connection, sha: str, key: str) -> Transfer | None:
    """What is noted of trials under a key."""
    table = mechanism_records
    same = (table.c.sha == sha, table.c.kind == Transfer.__name__, table.c.key == key)
    doc = connection.scalar(select(table.c.doc).where(*same))
    return None if doc is None else codec.load(Transfer, doc)


def _record(connection: Connection, sha: str, part: Use | Transfer) -> None:
    row = insert(mechanism_records).values(
        sha=sha, kind=type(part).__name__, key=part.key, doc=codec.dump(part)
    )
    same = (mechanism_records.c.sha, mechanism_records.c.kind, mechanism_records.c.key)
    connection.execute(row.on_conflict_do_update(same, set_={"doc": row.excluded.doc}))


def _whole(entry: Entry, parts: Sequence[Use | Transfer]) -> Entry:
    uses = tuple(p for p in parts if isinstance(p, Use))
    return replace(entry, uses=uses, transfers=tuple(p for p in parts if isinstance(p, Transfer)))
