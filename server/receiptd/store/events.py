"""Writing events: in the transaction that stores receipts or changes messages, so that there is
no receipt without its event and no event without its receipt.

A transaction that stores writes its events last: first those of its receipts, then those of the
messages whose state they changed. The statements run inside the database; nothing is done here
for each event.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from receiptd.store.database.engine import execute
from receiptd.store.event_tables import ADOPTED, STATE, STORED

_MOST_IDS = 500
"""Rows named in one statement."""

_OF_MESSAGE = "m.state, m.final, m.state_at, m.delivered, m.parts, m.price"

_INSERT = (
    "INSERT INTO events (id, at, type, receipt_id, message_ref, verdict, "
    "state, final, state_at, delivered, parts, price) "
)

_FROM_RECEIPTS = "r LEFT JOIN messages m ON m.id = r.message_ref"


class EventWriter:
    """Writes events, in transactions of others."""

    def __init__(self, dialect: str) -> None:
        """
        :param dialect: `sqlite` or `postgresql`.
        """
        self._returns = dialect == "postgresql"
        self._mark = "%s" if self._returns else "?"

    def stored(self, connection: Connection, count: int) -> None:
        """That the newest `count` receipts were stored by this transaction."""
        if count:
            self._write(
                connection,
                count,
                f"r.received_at, {STORED}, r.id, r.message_ref, r.verdict, {_OF_MESSAGE} "
                f"FROM (SELECT id, received_at, message_ref, verdict FROM receipts "
                f"WHERE id > 0 ORDER BY id DESC LIMIT {self._mark}) "
                f"{_FROM_RECEIPTS}",
                "r.id",
                (count,),
            )

    def adopted(self, connection: Connection, receipts: Sequence[int], at: object) -> None:
        """That these receipts have found their messages.

        :param at: when, as the database takes it.
        """
        for start in range(0, len(receipts), _MOST_IDS):
            some = receipts[start : start + _MOST_IDS]
            marks = ", ".join([self._mark] * len(some))
            self._write(
                connection,
                len(some),
                f"{self._time}, {ADOPTED}, r.id, r.message_ref, r.verdict, {_OF_MESSAGE} "
                f"FROM receipts {_FROM_RECEIPTS} WHERE r.id IN ({marks})",
                "r.id",
                (at, *some),
            )

    def states(self, connection: Connection, messages: Sequence[int], at: object) -> None:
        """That the state of these messages has changed.

        :param at: when, as the database takes it.
        """
        for start in range(0, len(messages), _MOST_IDS):
            some = messages[start : start + _MOST_IDS]
            marks = ", ".join([self._mark] * len(some))
            self._write(
                connection,
                len(some),
                f"{self._time}, {STATE}, NULL, m.id, NULL, {_OF_MESSAGE} "
                f"FROM messages m WHERE m.id IN ({marks})",
                "m.id",
                (at, *some),
            )

    @property
    def _time(self) -> str:
        return f"CAST({self._mark} AS timestamptz)" if self._returns else self._mark

    def _write(
        self,
        connection: Connection,
        count: int,
        rest: str,
        order: str,
        parameters: tuple[object, ...],
    ) -> None:
        """Write `count` events.

        :param rest: what is selected behind the id, and from where.
        :param order: in whose order they get their ids.
        """
        number = f"row_number() OVER (ORDER BY {order})"
        if self._returns:
            execute(
                connection,
                "WITH taken AS (UPDATE event_log SET last = last + %s RETURNING last) "
                f"{_INSERT}SELECT (SELECT last FROM taken) - %s + {number}, {rest}",
                (count, count, *parameters),
            )
            return
        execute(connection, "UPDATE event_log SET last = last + ?", (count,))
        execute(
            connection,
            f"{_INSERT}SELECT (SELECT last FROM event_log) - ? + {number}, {rest}",
            (count, *parameters),
        )
