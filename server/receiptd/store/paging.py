"""Reading a table page by page, by whatever filter, in the order of its ids.

Pages are cut by id (keyset pagination): a page costs the same wherever it lies, and rows that
arrive meanwhile neither shift nor repeat anything. What has no index is looked for in stretches
of ids, so that no statement runs for long, however much is stored and little found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, NamedTuple, cast

from sqlalchemy import (
    Connection,
    Engine,
    Select,
    Table,
    func,
    select,
)

from receiptd.store.indexed import Piece, Search, by_buckets, by_ids, ids_of, next_stretch, taken
from receiptd.store.posts import whole
from receiptd.store.schema import BUCKET_BITS

PAGE = 500
"""Rows read at once where all are wanted: each page is a transaction of its own, since a long
one would keep SQLite from folding its write-ahead log back into the file."""

PIECE = 100
"""Rows read at once where a page of them is wanted."""

LARGEST_PAGE = 2 * 1024 * 1024
"""Bytes of stored posts after which a page ends though it may hold more rows."""

SECONDS = 2.0
"""Seconds after which a page ends though it may hold more rows."""

PEEK = 0.1
"""Seconds to find out whether anything follows a page that is full."""

_STRETCH = 8192
"""Ids looked at by the first statement of a search that has no index."""
Row = Mapping[str, Any]
"""A row, by the names of its columns."""

LARGEST_ID = 2**63 - 1


class Source(NamedTuple):
    """A table that is listed, and what a filter of it means."""

    table: Table
    search: Callable[[Connection, Any], Search]


class Page(NamedTuple):
    """Rows, and the `before_id` of the page that follows; None where none does.

    A page may hold fewer rows than were asked for, also none, and be followed by another: where
    finding them took long, or they were large.
    """

    rows: Sequence[Row]
    next_id: int | None


def one_row(engine: Engine, table: Table, number: int) -> Row | None:
    """The row of `table` that has this id."""
    statement = whole(table).where(table.c.id == min(number, LARGEST_ID))
    with engine.connect() as connection:
        return cast(Row | None, connection.execute(statement).mappings().one_or_none())


def newest_id(engine: Engine, table: Table) -> int:
    """The largest id in `table`, 0 where it is empty."""
    with engine.connect() as connection:
        return connection.execute(select(func.max(table.c.id))).scalar_one() or 0


def each(
    engine: Engine, source: Source, wanted: object, limit: int | None, oldest_first: bool = False
) -> Iterator[Row]:
    """All rows that fit, or the first `limit` of them, newest first; no more than `PAGE` of them
    are in memory, and no transaction is open while they are used."""
    left = limit
    size = PAGE if limit is None else min(PAGE, limit)
    if size < 1:
        return
    for piece in pieces(engine, source, wanted, size=size, oldest_first=oldest_first):
        yield from piece.rows[:left]
        if left is not None:
            left -= len(piece.rows)
            if left <= 0:
                return


def page(
    engine: Engine,
    source: Source,
    wanted: object,
    *,
    limit: int,
    before_id: int | None = None,
    seconds: float | None = None,
) -> Page:
    """The newest rows that fit, at most `limit`.

    :param before_id: only those with a smaller id: the `next_id` of the page before.
    :param seconds: after which the page ends though it may hold more rows; `SECONDS` unless given.
    """
    rows: list[Row] = []
    size = 0
    end = monotonic() + (SECONDS if seconds is None else seconds)
    for piece in pieces(engine, source, wanted, size=min(limit + 1, PIECE), before_id=before_id):
        rows += piece.rows
        if len(rows) > limit:
            return Page(rows[:limit], rows[limit - 1]["id"])
        now = monotonic()
        if len(rows) == limit:
            end = min(end, now + PEEK)
        size += sum(len(row.get("raw", b"")) for row in piece.rows)
        if piece.more and (now > end or size > LARGEST_PAGE):
            return Page(rows, piece.reached)
    return Page(rows, None)


def pieces(
    engine: Engine,
    source: Source,
    wanted: object,
    *,
    size: int,
    before_id: int | None = None,
    after_id: int | None = None,
    oldest_first: bool = False,
) -> Iterator[Piece]:
    """All rows that fit and are there now, at most `size` at a time, each piece read in a
    transaction of its own, which is over when it is given. There is at least one piece."""
    table = source.table
    with engine.connect() as connection:
        first, last = connection.execute(ends(table)).one()
        search = source.search(connection, wanted)
    low = max(first or 1, (after_id or 0) + 1)
    high = last or 0
    if before_id is not None:
        high = min(high, before_id - 1)
    stretch = high - low + 1 if search.indexed else _STRETCH
    if low > high:
        yield Piece((), after_id or 0 if oldest_first else low, False)
        return
    if search.ids is not None:
        ids = ids_of(engine, search.ids, low, high, oldest_first)
        yield from by_ids(engine, table, search, size, ids, high if oldest_first else low, False)
        return
    if search.in_buckets is not None:
        yield from by_buckets(engine, table, search, size, low, high, oldest_first)
        return
    while low <= high:
        start = monotonic()
        least, most = low, high
        if oldest_first:
            most = min(high, low + stretch - 1)
        else:
            least = max(low, high - stretch + 1)
        statement = _select(table, search, size, most + 1, least - 1, oldest_first)
        with engine.connect() as connection:
            rows, cut = taken(connection.execute(statement).mappings())
        reached = most if oldest_first else least
        if cut or len(rows) == size:
            reached = rows[-1]["id"]
        elif not search.indexed:
            stretch = next_stretch(stretch, monotonic() - start)
        if oldest_first:
            low = reached + 1
        else:
            high = reached - 1
        yield Piece(rows, reached, low <= high)


def rows_of(
    connection: Connection,
    source: Source,
    wanted: object,
    limit: int,
    before_id: int | None = None,
    after_id: int | None = None,
    oldest_first: bool = False,
) -> Sequence[Row]:
    """At most `limit` rows that fit, newest first, by one statement."""
    search = source.search(connection, wanted)
    if search.in_buckets is not None:
        first, last = (each or 0 for each in connection.execute(ends(source.table)).one())
        buckets = range(first >> BUCKET_BITS, (last >> BUCKET_BITS) + 1)
        search = search._replace(ids=search.in_buckets(buckets))
    statement = _select(source.table, search, limit, before_id, after_id, oldest_first)
    return cast(Sequence[Row], connection.execute(statement).mappings().all())


def ends(table: Table) -> Select[Any]:
    """The smallest and the largest id. As one select, SQLite would visit every row."""
    identity = table.c.id
    return select(
        select(func.min(identity)).scalar_subquery(),
        select(func.max(identity)).scalar_subquery(),
    )


def _select(
    table: Table,
    search: Search,
    limit: int,
    before_id: int | None,
    after_id: int | None,
    oldest_first: bool,
) -> Select[Any]:
    identity = table.c.id
    statement = whole(table).where(*search.conditions).limit(limit)
    if search.ids is not None:
        statement = statement.where(identity.in_(search.ids))
    if before_id is not None:
        statement = statement.where(identity < before_id)
    if after_id is not None:
        statement = statement.where(identity > after_id)
    return statement.order_by(identity.asc() if oldest_first else identity.desc())
