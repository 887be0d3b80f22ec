"""The SQL that stores receipts and rejected posts, compiled once for a database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from sqlalchemy import Engine, insert

from receiptd.store.rows import RECEIPT_COLUMNS, REJECTION_COLUMNS
from receiptd.store.schema import once, receipts, rejected_posts


class Statements:
    """The recorder's SQL, compiled once for a database: run as text, it costs a tenth."""

    def __init__(self, engine: Engine) -> None:
        dialect = engine.dialect.name
        self.text_types = dialect == "sqlite"
        mark = "%s" if dialect == "postgresql" else "?"
        # The other database's dialect would take a thirtieth of the time of a start.
        upsert = import_module(f"sqlalchemy.dialects.{dialect}").insert
        self.insert_receipt = _compiled(
            upsert(receipts).on_conflict_do_nothing(), engine, RECEIPT_COLUMNS
        )
        self.insert_rejection = _compiled(insert(rejected_posts), engine, REJECTION_COLUMNS)
        keys = once(dialect)
        self._key_indexes = [RECEIPT_COLUMNS.index(column) for column, _ in keys]
        never: object = "" if self.text_types else datetime.min.replace(tzinfo=UTC)
        absent = {"reported_at": never, "recipient_key": "", "code": "", "part": -1}
        self._absent = [absent.get(column) for column, _ in keys]
        where = " AND ".join(f"{expression} = {mark}" for _, expression in keys)
        self.find = f"SELECT id, verdict, received_at FROM receipts WHERE {where}"
        self.newest = f"SELECT id FROM receipts ORDER BY id DESC LIMIT {mark}"
        self.count_repeat = f"UPDATE receipts SET repeats = repeats + 1 WHERE id = {mark}"
        self.rejections_since = (
            "SELECT received_at, text, raw FROM rejected_posts "
            "WHERE endpoint = {0} AND reason = {0} AND received_at >= {0}"
        ).replace("{0}", mark)
        self.trim_rejections = (
            "DELETE FROM rejected_posts WHERE endpoint = {0} AND reason = {0} AND (id <= coalesce("
            "(SELECT id FROM rejected_posts WHERE endpoint = {0} AND reason = {0} "
            "ORDER BY id DESC LIMIT 1 OFFSET {0}), 0) OR id <= coalesce("
            "(SELECT max(id) FROM (SELECT id, sum(length(raw)) OVER (ORDER BY id DESC "
            "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS newer FROM rejected_posts "
            "WHERE endpoint = {0} AND reason = {0}) AS sized WHERE newer >= {0}), 0) "
            "OR received_at < {0})"
        ).replace("{0}", mark)

    def key_of(self, row: tuple[object, ...]) -> tuple[object, ...]:
        """The parameters of `find` for a row of `RECEIPT_COLUMNS`."""
        return tuple(
            row[index] if row[index] is not None else absent
            for index, absent in zip(self._key_indexes, self._absent, strict=True)
        )


def _compiled(statement: Any, engine: Engine, columns: Sequence[str]) -> str:
    style = "format" if engine.dialect.name == "postgresql" else "qmark"
    dialect: Any = type(engine.dialect)
    compiled = statement.compile(dialect=dialect(paramstyle=style), column_keys=list(columns))
    assert compiled.positiontup == list(columns)
    return str(compiled)
