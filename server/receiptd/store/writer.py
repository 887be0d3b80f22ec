"""The group-commit writer: one thread that stores what waits in one transaction at a time.

Whoever submits is answered after the commit, never before. While a commit waits for the disk,
the next receipts gather; so the slower the disk, the larger the transactions, and one fsync
serves them all. What the database does not take goes by way of the spool (`spool.fallback`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic

from sqlalchemy import Engine
from twisted.logger import Logger

from receiptd.store.database.connection import LostLog, WriterConnection
from receiptd.store.database.errors import cause, refuses
from receiptd.store.database.log_files import LogLost
from receiptd.store.database.watchdog import DRAINING, TRANSACTION_TIMEOUT, Watchdog
from receiptd.store.matching import Policy
from receiptd.store.recorder import (
    Quota,
    Recorder,
    Stored,
    Submission,
    as_rejections,
)
from receiptd.store.spool.fallback import Fallback
from receiptd.store.spool.folder import Spool, default_folder
from receiptd.store.spool.outage import Backlog

__all__ = ["LARGEST_BATCH", "Backlog", "Quota", "Result", "Stored", "Submission", "Writer"]

LARGEST_BATCH = 500
"""Submissions in one transaction: bounds how long one waits for its neighbours."""

_LOOK = 1.0
"""Seconds between attempts to save what is in a write-ahead log that was removed."""

_log = Logger(namespace="receiptd.store")

Result = tuple[Submission, Stored | Exception]
"""A submission with what became of it, or with what kept it from being stored."""


class Writer:
    """Stores submissions. `put` may be called from any thread."""

    def __init__(
        self,
        engine: Engine,
        *,
        policies: Mapping[str, Policy],
        quota: Quota,
        regions: Mapping[str, str | None] | None = None,
        spool: Spool | None = None,
        deliver: Callable[[list[Result]], None],
        drained: Callable[[], object] = lambda: None,
        timed: Callable[[int, float], object] = lambda size, seconds: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """
        :param policies: by endpoint name, for every endpoint.
        :param regions: by whose national forms a provider's phone numbers are read where
            messages are registered.
        :param spool: where what the database does not take is kept until it does; if None, in
            the folder that is usual for this database.
        :param deliver: called in the writer's thread with the results of each transaction.
        :param drained: called in another thread when what was spooled has been stored.
        :param timed: called in the writer's thread with how many submissions are on disk now, and
            how many seconds that took.
        """
        if spool is None:
            spool = Spool(default_folder(engine.url.render_as_string(hide_password=False)))
        self._engine = engine

        def recorder() -> Recorder:
            return Recorder(engine, policies=policies, quota=quota, regions=regions)

        self._recorder = recorder()
        lost = LostLog()
        self._connection = WriterConnection(engine, lost)
        draining = WriterConnection(engine, lost)
        self._fallback = Fallback(spool, recorder(), draining, now=now, drained=drained)
        limits = {draining: DRAINING}
        if engine.dialect.name == "postgresql":  # SQLite waits no longer than its own limit
            limits[self._connection] = TRANSACTION_TIMEOUT
        self._watch = Watchdog(limits, self._look_soon)
        self._looked_at = 0.0
        self._deliver = deliver
        self._timed = timed
        self._now = now
        self._queue: SimpleQueue[list[Submission] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="store-writer", daemon=True)

    def start(self) -> None:
        """Begin to store what is put, and before it what was spooled earlier.

        :raises StoreError: where the spool cannot be used.
        """
        self._fallback.start()
        self._queue.put([])
        self._watch.start()
        self._thread.start()

    def renew(
        self,
        *,
        policies: Mapping[str, Policy],
        quota: Quota,
        regions: Mapping[str, str | None] | None = None,
    ) -> None:
        """Go by a new configuration, from the next transaction on."""
        for go_by in (self._go_by, self._fallback.go_by):
            go_by(Recorder(self._engine, policies=policies, quota=quota, regions=regions))

    def _go_by(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @property
    def running(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def backlog(self) -> Backlog:
        """What waits in the spool, and whether posts go there; may be asked for in any
        thread."""
        return self._fallback.backlog

    def stop(self) -> None:
        """Store what was put before, or spool it, then end; blocks until that is done."""
        self._watch.hurry()
        self._queue.put(None)
        self._thread.join()
        self._fallback.stop()
        self._watch.stop()

    def put(self, submissions: list[Submission]) -> None:
        """Hand over submissions; each one's result is delivered after its commit."""
        # Here and not where they are stored: one that is spooled has to keep its nonce.
        self._queue.put([each.distinct() for each in submissions])

    def _look_soon(self) -> None:
        """Have the writer's thread look at the write-ahead log where that was removed. Called in
        the watchdog's thread."""
        if self._connection.endangered and monotonic() - self._looked_at > _LOOK:
            self._looked_at = monotonic()
            self._queue.put([])

    def _look(self) -> None:
        """See that what is stored outlives the process; where it does not, posts go to the spool
        from now on, also where none comes just now."""
        try:
            self._connection.look()
        except LogLost as error:
            self._fallback.begin(error, [], self._now())
        except Exception:  # the next post meets it
            self._connection.close(broken=True)

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            last = False
            while len(batch) < LARGEST_BATCH:
                try:
                    more = self._queue.get_nowait()
                except Empty:
                    break
                if more is None:
                    last = True
                    break
                batch = batch + more
            if not batch:
                self._look()
                if last:
                    break
                continue
            begun = monotonic()
            try:
                results = self._settle(batch)
            except Exception as error:
                # A mistake of ours: these are answered as not stored, and the next may well be.
                _log.failure("storing a batch of {size}", size=len(batch))
                results = [error] * len(batch)
            self._timed(len(batch), monotonic() - begun)
            self._deliver(list(zip(batch, results, strict=True)))
            if last:
                break
        self._connection.close()

    def _settle(self, batch: list[Submission]) -> Sequence[Stored | Exception]:
        """What becomes of each submission."""
        now = self._now()
        if self._fallback.active and (answers := self._fallback.take(batch, now)) is not None:
            return answers
        return self._store(batch, now)

    def _store(self, batch: list[Submission], now: datetime) -> Sequence[Stored | Exception]:
        """Store `batch` in one transaction. One submission that the database refuses must not
        take its neighbours along: the batch is halved until that one stands alone."""
        try:
            return self._connection.transact(
                lambda connection: self._recorder.record(connection, batch, [now] * len(batch))
            )
        except Exception as error:
            if not refuses(error):
                # Nobody may know whether it was committed. If it was, the drainer finds that
                # out by the time of receiving, which stays the same.
                return self._fallback.begin(error, batch, now)
            if len(batch) == 1:
                self._keep_refused(batch[0], now, error)
                return [error]
        middle = len(batch) // 2
        return [*self._store(batch[:middle], now), *self._store(batch[middle:], now)]

    def _keep_refused(self, submission: Submission, now: datetime, error: Exception) -> None:
        """Keep the post of receipts that the database refuses: it may never be sent again."""
        _log.error("the database refuses a row: {error}", error=cause(error))
        posts = [
            Submission(None, rejection=each) for each in as_rejections(submission, now, error)
        ]
        if not posts:
            return
        try:
            self._connection.transact(
                lambda connection: self._recorder.record(connection, posts, [now] * len(posts))
            )
        except Exception as failed:  # it is answered as not stored in any case
            _log.error("its post cannot be kept: {error}", error=cause(failed))
