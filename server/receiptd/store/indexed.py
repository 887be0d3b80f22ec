"""Reading the rows that an index leads to, piece by piece, and what a piece is.

`paging` goes through a table by stretches of ids; where an index knows the ids, it comes here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, NamedTuple, cast

from sqlalchemy import ColumnElement, CompoundSelect, Engine, MappingResult, Select, Table

from receiptd.store.posts import whole
from receiptd.store.schema import BUCKET_BITS

_QUICK, _SLOW = 0.05, 0.2
"""Seconds: a quicker statement is followed by one of twice its stretch, a slower one of half."""

LARGEST_PIECE = 1024 * 1024
"""Bytes of stored posts after which a piece ends though it may hold more rows, so that reading
takes little memory however large they are."""


class Search(NamedTuple):
    """What a filter means in SQL."""

    conditions: list[ColumnElement[bool]]
    indexed: bool = False
    """Whether an index leads to the rows in the order of their ids, so that no stretches of ids
    need be gone through."""
    ids: Select[Any] | CompoundSelect[Any] | None = None
    """Where an index leads to the rows in another order: selects the ids of those among which the
    rows are. They are read and sorted once, not with each page."""
    in_buckets: Callable[[range], Select[Any]] | None = None
    """Where an index that is led by buckets of ids (`BUCKET_BITS`) leads to the rows: selects the
    ids of those in some buckets. There may be any number, so they are read some buckets at a
    time. `conditions` do not repeat what leads there: PostgreSQL would then look the rows up by
    it, and not by their ids."""


class Piece(NamedTuple):
    """What one statement found."""

    rows: Sequence[Mapping[str, Any]]
    reached: int
    """The id behind which the next one goes on."""
    more: bool
    """Whether there are ids left to look at."""


def next_stretch(stretch: int, seconds: float) -> int:
    """How much the next statement looks at where one that looked at `stretch` took so long."""
    if seconds < _QUICK:
        return stretch * 2
    return max(stretch // 2, 1) if seconds > _SLOW else stretch


def by_buckets(
    engine: Engine,
    table: Table,
    search: Search,
    size: int,
    low: int,
    high: int,
    oldest_first: bool,
) -> Iterator[Piece]:
    """The rows that fit among those of `search.in_buckets`, as `pieces` gives them."""
    assert search.in_buckets is not None
    first, last = low >> BUCKET_BITS, high >> BUCKET_BITS
    stretch = 1
    while first <= last:
        start = monotonic()
        if oldest_first:
            buckets = range(first, min(first + stretch, last + 1))
            first = buckets.stop
            reached = min(high, (first << BUCKET_BITS) - 1)
        else:
            buckets = range(max(first, last - stretch + 1), last + 1)
            last = buckets.start - 1
            reached = max(low, buckets.start << BUCKET_BITS)
        ids = ids_of(engine, search.in_buckets(buckets), low, high, oldest_first)
        stretch = next_stretch(stretch, monotonic() - start)
        yield from by_ids(engine, table, search, size, ids, reached, first <= last)


def ids_of(
    engine: Engine, statement: Select[Any] | CompoundSelect[Any], low: int, high: int, up: bool
) -> list[int]:
    """The ids that `statement` selects, from `low` to `high`, in order."""
    with engine.connect() as connection:
        found = connection.execute(statement).scalars()
        return sorted((each for each in found if low <= each <= high), reverse=not up)


def by_ids(
    engine: Engine,
    table: Table,
    search: Search,
    size: int,
    ids: list[int],
    reached: int,
    more: bool,
) -> Iterator[Piece]:
    """The rows that fit among those of `ids`, in their order. There is at least one piece.

    :param reached: with the last piece, and whether there is `more` behind it.
    """
    if not ids:
        yield Piece((), reached, more)
    start = 0
    while start < len(ids):
        some = ids[start : start + size]
        statement = whole(table).where(table.c.id.in_(some), *search.conditions)
        order = table.c.id.asc() if some[0] < some[-1] else table.c.id.desc()
        with engine.connect() as connection:
            rows, cut = taken(connection.execute(statement.order_by(order)).mappings())
        start += some.index(rows[-1]["id"]) + 1 if cut else len(some)
        ended = start >= len(ids)
        yield Piece(rows, reached if ended else ids[start - 1], more or not ended)


def taken(found: MappingResult) -> tuple[Sequence[Mapping[str, Any]], bool]:
    """The rows, at least one if there is any; and whether there were more, which were too large
    to be taken with them."""
    rows: list[Mapping[str, Any]] = []
    size = 0
    for row in cast(Iterator[Mapping[str, Any]], found):
        rows.append(row)
        size += len(row.get("raw", b""))
        if size > LARGEST_PIECE:
            found.close()
            return rows, True
    return rows, False
