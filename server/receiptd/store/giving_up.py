"""Giving messages up: one that has had no final state for long counts as finished.

Its state stays what its receipts said, and `gave_up_at` says when that was. A receipt that comes
later is taken into account as ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from threading import Event

from sqlalchemy import Connection, Engine, literal_column, select

from receiptd.store.candidates import Row
from receiptd.store.database.engine import execute, open_engine
from receiptd.store.database.single_run import Task, single_run
from receiptd.store.database.write_turns import WriteTurns
from receiptd.store.matching import Matching
from receiptd.store.networks import network_of
from receiptd.store.schema import iso, messages
from receiptd.store.statistics_keys import finished

SHARE = 0.2
"""Of the time, how much this may keep others from writing."""

PAGE = 1000
"""Messages looked at together, by a reader, whom nobody waits for."""

GIVING_UP = Task(7251930849, "-give-up", "another process gives messages up already")


class GivingUp:
    """One run over the database."""

    def __init__(
        self, engine: Engine, before: datetime, now: datetime, *, stop: Event | None = None
    ) -> None:
        """
        :param engine: opened for writing.
        :param before: messages that were registered before this time (aware) are given up.
        :param now: when that is.
        :param stop: ends the run when set: after the transaction that is under way.
        """
        self._matching = Matching(engine, {})
        self._before = before
        self._now = now
        self._text_types = engine.dialect.name == "sqlite"
        self._mark = "?" if self._text_types else "%s"
        self._stop = stop or Event()
        self._turns = WriteTurns(engine, share=SHARE, rest=self._stop.wait)
        self._url = engine.url.render_as_string(hide_password=False)

    def run(self) -> int:
        """Give up what is old; returns how many messages that were.

        :raises Elsewhere: where a run over this database is under way already.
        :raises StoreTaken: where the database stays locked.
        """
        given_up = after = 0
        reader = open_engine(self._url, writes=False)
        try:
            with single_run(reader, self._url, GIVING_UP):
                while not self._stop.is_set():
                    with reader.connect() as connection:
                        # By id, which is in the order of time but for a clock that was wrong.
                        page = connection.execute(
                            select(messages.c.id, messages.c.registered_at)
                            .where(literal_column("NOT final"), messages.c.id > after)
                            .order_by(messages.c.id)
                            .limit(PAGE)
                        ).all()
                    old = [row.id for row in page if row.registered_at < self._before]
                    while old and not self._stop.is_set():
                        some, old = old[: self._turns.batch], old[self._turns.batch :]
                        given_up += self._turns.take(partial(self._give_up, some))
                    if not page or page[-1].registered_at >= self._before:
                        break
                    after = page[-1].id
        finally:
            reader.dispose()
        return given_up

    def _give_up(self, ids: Sequence[int], connection: Connection) -> int:
        """Those of `ids` that have no final state yet; returns how many."""
        matching = self._matching
        matching.begin(self._now)
        now: object = iso(self._now) if self._text_types else self._now
        marks = ", ".join([self._mark] * len(ids))
        rows = connection.exec_driver_sql(
            f"SELECT {', '.join(Row._fields)} FROM messages WHERE id IN ({marks}) AND NOT final",
            tuple(ids),
        ).all()
        for row in map(Row._make, rows):
            network = row.network or network_of(None, row.recipient_key)
            after = row._replace(final=True, gave_up_at=now, network=network)
            matching.statistics.message(connection, row.id, None, finished(after))
            execute(
                connection,
                "UPDATE messages SET final = {0}, gave_up_at = {0}, network = {0} "
                "WHERE id = {0}".replace("{0}", self._mark),
                (True, now, network or None, row.id),
            )
        matching.statistics.flush(connection)
        matching.events.states(connection, sorted(row.id for row in rows), now)
        return len(rows)
