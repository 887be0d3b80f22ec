"""Moving house: copying a whole database into another one, of the same kind or not.

Rows keep their ids. Each table is gone through in the order of its primary key, in ranges. Of
each range both sides are read, and a digest of their rows is compared. Where it differs, rows are
added, changed or deleted in the target. So the first run copies, a later one catches up, one that
was broken off goes on, and one that finds nothing to do has verified every row.

The source is only read, a range at a time, so its servers may go on. As long as the copy is not
finished, the target's revision says so (`migrating.COPYING`), and no server uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    String,
    Table,
    and_,
    delete,
    func,
    insert,
    not_,
    or_,
    select,
    text,
    update,
)

from receiptd.store.database.errors import StoreError, shown
from receiptd.store.database.migrating import require, revision, set_revision, upgrade
from receiptd.store.database.revision import ANY, COPYING
from receiptd.store.event_tables import event_log
from receiptd.store.schema import REVISION, metadata
from receiptd.store.statistics_tables import statistics_fill

RANGE = 2000
"""Rows compared at a time; rows with a post in them may be long."""

_MOST_BYTES = 16 * 1024 * 1024
"""Bytes of posts in a range, after which it ends early."""

Watch = Callable[[str, int, int], None]
"""Is told a table's name, how many rows are compared, and how many there are about."""

_OWN = {event_log.name, statistics_fill.name}
"""Tables that have a row from the beginning."""


@dataclass(slots=True)
class Copied:
    """What a run has found, by the name of the table."""

    rows: dict[str, int] = field(default_factory=dict)
    """How many rows the source has."""
    written: int = 0
    """How many rows were added, changed or deleted in the target."""


class Copy:
    """A copy of `source`, which is only read, into `target`."""

    def __init__(self, source: Engine, target: Engine) -> None:
        """
        :param source: opened for reading, at this receiptd's revision.
        :param target: opened for writing.
        """
        self._source = source
        self._target = target.execution_options(**{ANY: True})

    def begin(self) -> None:
        """Make the target ready, or take up a copy that was begun.

        :raises StoreError: where the target holds anything that no copy has put there.
        """
        require(self._source)
        with self._source.connect() as connection:
            store = connection.scalar(select(event_log.c.store))
        if revision(self._target) == COPYING:
            with self._target.execution_options(reads=True).connect() as connection:
                if connection.scalar(select(event_log.c.store)) == store:
                    return
            raise StoreError(
                f"{shown(self._target.url)}: a copy of another database was begun here. Copy into "
                "an empty one, or one that is not there yet"
            )
        upgrade(self._target)
        with self._target.begin() as connection:
            for table in metadata.sorted_tables:
                some = select(1).select_from(table).limit(1)
                if table.name not in _OWN and connection.execute(some).first():
                    raise StoreError(
                        f"{shown(self._target.url)}: the database is not empty: there are "
                        f"{table.name.replace('_', ' ')}. Copy into an empty one, or one that is "
                        "not there yet"
                    )
            connection.execute(update(event_log).values(store=store))
            set_revision(connection, COPYING)

    def run(self, watch: Watch = lambda table, done, rows: None) -> Copied:
        """Make the target what the source is; whatever changes there meanwhile may be missed."""
        copied = Copied()
        for table in metadata.sorted_tables:
            self._table(table, copied, watch)
        return copied

    def finish(self) -> None:
        """Give the target to the servers, once a run has written nothing."""
        with self._source.connect() as source, self._target.begin() as target:
            for table in metadata.sorted_tables:
                if table.autoincrement_column is not None:
                    _count_on(target, table, _last_id(source, table))
            set_revision(target, REVISION)

    def _table(self, table: Table, copied: Copied, watch: Watch) -> None:
        with self._source.connect() as connection:
            about = connection.scalar(select(func.count()).select_from(table)) or 0
        after: Sequence[object] | None = None
        done = 0
        watch(table.name, 0, about)
        while True:
            with self._source.connect() as connection:
                rows = _range(connection, table, after, None)
            last = _key(table, rows[-1]) if rows else None
            copied.written += self._align(table, rows, after, last)
            done += len(rows)
            watch(table.name, done, max(about, done))
            if last is None:
                break
            after = last
        copied.rows[table.name] = done

    def _align(
        self,
        table: Table,
        rows: Sequence[Row[Any]],
        after: Sequence[object] | None,
        last: Sequence[object] | None,
    ) -> int:
        """Make the target's range behind `after` and up to `last` (None: to the end) what `rows`
        are; how many rows that took."""
        with self._target.execution_options(reads=True).connect() as connection:
            found = list(_whole_range(connection, table, after, last))
        if _digest(rows) == _digest(found):
            return 0
        theirs = {_key(table, row): row for row in found}
        ours = {_key(table, row): row for row in rows}
        gone = [key for key in theirs if key not in ours]
        # By the same measure: 13.90 and 13.9 are equal as numbers, and not the same.
        changed = [
            key
            for key, row in ours.items()
            if key in theirs and _digest([theirs[key]]) != _digest([row])
        ]
        added = [row._asdict() for key, row in ours.items() if key not in theirs]
        with self._target.begin() as connection:
            # Deleted first, and changed by deleting: what a changed row has may be unique.
            for key in (*gone, *changed):
                connection.execute(delete(table).where(_is(table, key)))
            added += [ours[key]._asdict() for key in changed]
            if added:
                connection.execute(insert(table), added)
        return len(gone) + len(added)


def _range(
    connection: Connection,
    table: Table,
    after: Sequence[object] | None,
    last: Sequence[object] | None,
) -> list[Row[Any]]:
    """The next rows by their primary key, up to `RANGE` of them, or fewer where they are long."""
    keys = [_ordered(column, connection) for column in table.primary_key]
    query = select(table).order_by(*keys).limit(RANGE)
    if after is not None:
        query = query.where(_behind(keys, after))
    if last is not None:
        query = query.where(not_(_behind(keys, last)))
    rows: list[Row[Any]] = []
    size = 0
    for row in connection.execute(query):
        rows.append(row)
        size += sum(len(value) for value in row if isinstance(value, bytes | str))
        if size > _MOST_BYTES:
            break
    return rows


def _whole_range(
    connection: Connection,
    table: Table,
    after: Sequence[object] | None,
    last: Sequence[object] | None,
) -> Iterator[Row[Any]]:
    while rows := _range(connection, table, after, last):
        yield from rows
        after = _key(table, rows[-1])


def _ordered(column: Any, connection: Connection) -> ColumnElement[Any]:
    """A column as it sorts everywhere alike: by its bytes, as SQLite sorts anyway."""
    ordered: ColumnElement[Any] = column
    if isinstance(column.type, String) and connection.dialect.name == "postgresql":
        ordered = column.collate("C")
    return ordered


def _behind(keys: Sequence[ColumnElement[Any]], after: Sequence[object]) -> ColumnElement[bool]:
    """Whether a row's key is greater than `after`."""
    found: list[ColumnElement[bool]] = []
    for number, key in enumerate(keys):
        same = [keys[before] == after[before] for before in range(number)]
        found.append(and_(*same, key > after[number]))
    return or_(*found)


def _is(table: Table, key: Sequence[object]) -> ColumnElement[bool]:
    return and_(*(c == value for c, value in zip(table.primary_key, key, strict=True)))


def _key(table: Table, row: Row[Any]) -> tuple[object, ...]:
    return tuple(row._mapping[column] for column in table.primary_key)


def _digest(rows: Iterable[Row[Any]]) -> bytes:
    """A checksum of rows, in their order."""
    digest = blake2b(digest_size=16)
    for row in rows:
        digest.update(repr(tuple(row)).encode())
    return digest.digest()


def _last_id(connection: Connection, table: Table) -> int:
    """The last id that a table has given, also to a row that is gone."""
    if connection.dialect.name == "sqlite":
        query = "SELECT seq FROM sqlite_sequence WHERE name = :table"
    else:
        query = (
            "SELECT pg_sequence_last_value(CAST(pg_get_serial_sequence(:table, 'id') AS regclass))"
        )
    return connection.scalar(text(query), {"table": table.name}) or 0


def _count_on(connection: Connection, table: Table, last: int) -> None:
    """Have a table's next id be greater than `last`."""
    if not last:
        return
    values = {"table": table.name, "last": last}
    if connection.dialect.name == "sqlite":
        connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :table"), values)
        statement = "INSERT INTO sqlite_sequence (name, seq) VALUES (:table, :last)"
    else:
        statement = "SELECT setval(pg_get_serial_sequence(:table, 'id'), :last)"
    connection.execute(text(statement), values)
