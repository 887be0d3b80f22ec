"""Counting what an older receiptd stored, in pages, while the server stores on.

The position is kept in the transaction that counts a page, so the job goes on where it was,
however it ended. Until a row is reached, whatever becomes of it counts nothing: it is counted as
it is then.
Retention leaves what is not counted yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Event
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Table, or_, select

from receiptd.store.adoption import RECEIPT_COLUMNS
from receiptd.store.candidates import Policy, Row
from receiptd.store.database.engine import execute, fetch, open_engine
from receiptd.store.database.single_run import Task, single_run
from receiptd.store.database.write_turns import WriteTurns
from receiptd.store.matching import Matching
from receiptd.store.networks import counted, network_of
from receiptd.store.statistics_keys import hour_of
from receiptd.store.statistics_queries import fill
from receiptd.store.statistics_tables import statistics_fill

SHARE = 0.2
"""Of the time, how much the counting may keep others from writing."""

_PAGES = 4
"""Rows are only read here: a page has so many times as many as are changed at once elsewhere."""

FILLING = Task(7251930848, "-fill", "another process counts what is stored already")


def is_counted(table: Table) -> ColumnElement[bool]:
    """Whether a row of `receipts` or `messages` is counted in the statistics."""
    columns = statistics_fill.c

    def of(column: ColumnElement[int]) -> ColumnElement[int]:
        return select(column).where(columns.name == table.name).scalar_subquery()

    return or_(table.c.id <= of(columns.position), table.c.id > of(columns.boundary))


class FillIn:
    """Counts what an older receiptd stored."""

    def __init__(
        self, engine: Engine, policies: Mapping[str, Policy], *, stop: Event | None = None
    ) -> None:
        """
        :param engine: opened for writing.
        :param policies: by endpoint name, as the server's.
        :param stop: ends the run when set: after the transaction that is under way.
        """
        self._matching = Matching(engine, policies)
        self._statistics = self._matching.statistics
        self._mark = "%s" if engine.dialect.name == "postgresql" else "?"
        self._stop = stop or Event()
        self._turns = WriteTurns(engine, share=SHARE, rest=self._stop.wait)
        self._url = engine.url.render_as_string(hide_password=False)

    def run(self) -> bool:
        """Count until all is counted, or the run is stopped; whether there was anything to count.

        :raises Elsewhere: where a run over this database is under way already.
        :raises StoreTaken: where the database stays locked.
        """
        reader = open_engine(self._url, writes=False)
        try:
            with reader.connect() as connection:
                if fill(connection).complete:
                    return False
            with single_run(reader, self._url, FILLING):
                for page in (self._receipts, self._messages):
                    while not self._stop.is_set() and self._turns.take(page):
                        pass
        finally:
            reader.dispose()
        return True

    def _receipts(self, connection: Connection) -> bool:
        """Count a page of receipts; whether there was one."""
        rows = self._page(connection, "receipts", RECEIPT_COLUMNS)
        if rows is None:
            return False
        for row in rows:
            report = self._matching.report_of(row)
            self._statistics.receipt(
                hour_of(row.received_at), report, row.network, row.code, row.verdict
            )
        self._statistics.flush(connection)
        return True

    def _messages(self, connection: Connection) -> bool:
        """Count a page of messages, those that are finished; whether there was one."""
        rows = self._page(connection, "messages", ", ".join(Row._fields))
        if rows is None:
            return False
        ended = [Row._make(row) for row in rows if row.final]
        networks = self._networks(connection, [row.id for row in ended])
        for row in ended:
            network = row.network or networks.get(row.id) or network_of(None, row.recipient_key)
            self._statistics.finished_before(row._replace(network=network))
            if network and network != row.network:
                execute(
                    connection,
                    f"UPDATE messages SET network = {self._mark} WHERE id = {self._mark}",
                    (network, row.id),
                )
        self._statistics.flush(connection)
        return True

    def _networks(self, connection: Connection, messages: Sequence[int]) -> dict[int, str]:
        """The first network that the receipts of each of these messages name."""
        if not messages:
            return {}
        marks = ", ".join([self._mark] * len(messages))
        found = fetch(
            connection,
            f"SELECT message_ref, network FROM receipts WHERE message_ref IN ({marks}) "
            "AND network IS NOT NULL AND kind <> 'reply' ORDER BY id DESC",
            messages,
        )
        return {message: counted(network) for message, network in found if network}

    def _page(self, connection: Connection, name: str, columns: str) -> Sequence[Any] | None:
        """The next rows that are to be counted, the position set behind them; None at the end."""
        self._statistics.begin()
        limit = _PAGES * self._turns.batch
        ((position, boundary),) = fetch(
            connection,
            f"SELECT position, boundary FROM statistics_fill WHERE name = {self._mark}",
            (name,),
        )
        if position >= boundary:
            return None
        rows = connection.exec_driver_sql(
            f"SELECT {columns} FROM {name} WHERE id > {int(position)} AND id <= {int(boundary)} "
            f"ORDER BY id LIMIT {limit}"
        ).all()
        execute(
            connection,
            f"UPDATE statistics_fill SET position = {self._mark} WHERE name = {self._mark}",
            (rows[-1].id if len(rows) == limit else boundary, name),
        )
        return rows
