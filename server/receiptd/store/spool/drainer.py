"""From the spool into the database: in the order of receiving, a bounded batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from sqlalchemy import Connection
from twisted.logger import Logger

from receiptd.store.database.connection import refuses
from receiptd.store.database.engine import cause
from receiptd.store.recorder import Recorder, Submission, as_rejections
from receiptd.store.spool.spool import Batch, Entry, Spool

BATCH = 500
"""Records stored in one transaction."""

_log = Logger(namespace="receiptd.store")

T = TypeVar("T")


class Transact(Protocol):
    """Does work in a transaction; returns what it returns once that is committed."""

    def __call__(self, work: Callable[[Connection], T], /) -> T:
        """Do `work`."""


class Drainer:
    """Stores what is in a spool. For one thread at a time."""

    def __init__(self, spool: Spool, recorder: Recorder, transact: Transact) -> None:
        self._spool = spool
        self.recorder = recorder
        """May be replaced, in any thread."""
        self._transact = transact
        self.stored = 0
        """Records stored so far."""
        self.refused = 0
        """Records that the database did not take, and that were set aside."""

    def step(self) -> bool:
        """Store the oldest batch; False where nothing is in the spool.

        The spool forgets the batch after the commit. Where a crash or a lost connection comes
        between, it is stored again, which the recorder finds out.

        :raises Exception: where the database does not answer, or the spool cannot be read or
            written; then nothing is lost, and the same batch is the next one's.
        """
        batch = self._spool.head(BATCH)
        if batch is None:
            return False
        refused = self._store(batch, batch.entries)
        self._spool.done(batch)
        self.stored += len(batch.entries) - refused
        self.refused += refused
        return True

    def _store(self, batch: Batch, entries: Sequence[Entry]) -> int:
        """Store entries in one transaction. One that the database refuses is set aside: they
        are halved until that one stands alone. Returns how many were refused."""
        if not entries:
            return 0
        try:
            self._transact(lambda connection: self._record(connection, entries))
        except Exception as error:
            if not refuses(error):
                raise
            if len(entries) == 1:
                self._refuse(batch, entries[0], error)
                return 1
            middle = len(entries) // 2
            return self._store(batch, entries[:middle]) + self._store(batch, entries[middle:])
        return 0

    def _record(self, connection: Connection, entries: Sequence[Entry]) -> None:
        self.recorder.record(
            connection,
            [entry.submission for entry in entries],
            [entry.received_at for entry in entries],
            again=True,
        )

    def _refuse(self, batch: Batch, entry: Entry, error: Exception) -> None:
        """Keep what was acknowledged and cannot be stored: in a file, which nobody's quota
        empties, and among the rejected posts, where people look."""
        posts = [
            Submission(None, rejection=rejection)
            for rejection in as_rejections(entry.submission, entry.received_at, error)
        ]
        path = None
        try:
            path = self._spool.refuse(batch, entry)
        except OSError as failed:
            if not posts:
                raise
            _log.error("a refused record cannot be written: {error}", error=failed)
        try:
            self._transact(
                lambda connection: self.recorder.record(
                    connection, posts, [entry.received_at] * len(posts), again=True
                )
            )
        except Exception as failed:
            if path is None or not refuses(failed):
                raise
        _log.error(
            "the database refuses a record of the spool: {error}. It is kept in {where}",
            error=cause(error),
            where=path or "rejected posts",
        )
