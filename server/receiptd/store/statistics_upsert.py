"""Writing rows of statistics: several in one statement, each made or changed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection

from receiptd.store.database.engine import execute, execute_many

MOST_ROWS = 100
"""Rows in a statement."""


def add(
    connection: Connection, table: str, key: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Add to the counts of `table`.

    :param rows: the values of `key`, and by how much; of each key one.
    """
    conflict = f"({', '.join(key)}) DO UPDATE SET count = {table}.count + excluded.count"
    upsert(connection, table, (*key, "count"), rows, conflict)


def upsert(
    connection: Connection,
    table: str,
    columns: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    conflict: str,
) -> None:
    """Insert rows into `table`; where one is there already, do what `conflict` says."""
    if connection.dialect.name == "sqlite":
        # A row at a time: the statement is the same however many there are.
        execute_many(connection, _statement(table, tuple(columns), conflict, "?", 1), rows)
        return
    for start in range(0, len(rows), MOST_ROWS):
        some = rows[start : start + MOST_ROWS]
        statement = _statement(table, tuple(columns), conflict, "%s", len(some))
        execute(connection, statement, tuple(chain.from_iterable(some)))


@lru_cache
def _statement(table: str, columns: tuple[str, ...], conflict: str, mark: str, rows: int) -> str:
    row = f"({', '.join([mark] * len(columns))})"
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([row] * rows)} "
        f"ON CONFLICT {conflict}"
    )
