"""The fallback of the writer where the database does not store: posts go into the spool.

As long as anything is in the spool, all posts go there, so that they are stored in the order in
which they came. A thread of its own drains it, so that nobody waits for a database that hangs.

Threads: `begin` and `take` are called in the writer's thread; `start`, `stop` and `renew` in the
reactor's; `_run` and all below it is the spool's own thread. `backlog` may be asked in any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from threading import Event, Lock, Thread
from time import monotonic

from twisted.logger import Logger

from receiptd.receipt import ACCEPTED
from receiptd.store.database.connection import WriterConnection
from receiptd.store.recorder import Recorder, Stored, Submission
from receiptd.store.spool.drainer import Drainer
from receiptd.store.spool.folder import Spool, SpoolFull
from receiptd.store.spool.outage import Backlog, Drained, Outage
from receiptd.store.spool.records import encode
from receiptd.store.spool.rehearsal import Rehearsal

PACE = 1.0
"""Seconds between attempts while the database does not answer."""

LOOK_AROUND = 30.0
"""Seconds between looks for segments whose process has ended."""

GRACE = 10.0
"""Seconds that the draining may go on when the server stops."""

_log = Logger(namespace="receiptd.store")


class DatabaseAway(Exception):
    """The database does not answer, and what was to be stored cannot be spooled."""


class Fallback:
    """Takes posts in the writer's stead while the database does not answer."""

    def __init__(
        self,
        spool: Spool,
        recorder: Recorder,
        connection: WriterConnection,
        *,
        now: Callable[[], datetime],
        drained: Callable[[], object] = lambda: None,
    ) -> None:
        """
        :param recorder: for the spool's own thread alone, as `connection`.
        :param drained: called in that thread when posts of the spool have been stored.
        """
        self._spool = spool
        self._outage = Outage(spool.folder, now)
        self._connection = connection
        self._drainer = Drainer(spool, recorder, connection.transact)
        self._drained = drained
        # Guards the outage and appending to the spool.
        self._lock = Lock()
        self._full = False
        self._looked_at = 0.0
        # Whether the database has stored anything since it last did not.
        self._stores = False
        self._rehearsal = Rehearsal()
        self._uncounted = False
        self._wake = Event()
        self._stopping = Event()
        self._deadline = 0.0
        self._thread = Thread(target=self._run, name="store-spool", daemon=True)

    @property
    def active(self) -> bool:
        """Whether posts go to the spool."""
        return self._outage.lasts

    @property
    def backlog(self) -> Backlog:
        """What the spool holds; may be asked for in any thread."""
        spool = self._spool
        return Backlog(
            self._outage.since,
            self._outage.reason,
            spool.records,
            spool.size,
            self._full,
            spool.records_set_aside,
            self._outage.remedy,
        )

    def go_by(self, recorder: Recorder) -> None:
        """Store by another recorder, which is for the spool's own thread alone, from now on."""
        self._drainer.recorder = recorder

    def start(self) -> None:
        """Open the spool and begin to drain it. Where the database is awaited, posts go to the
        spool from the first one on.

        :raises StoreError: where its folder cannot be used.
        """
        self._spool.open()
        if error := self._connection.awaited:
            with self._lock:
                self._away(error)
        self._spool.count_set_aside()
        self._adopt()
        self._thread.start()

    def stop(self) -> None:
        """End the draining: once the spool is empty, the database does not answer, or `GRACE`
        seconds have passed. What is left is drained after the next start, or by another
        process."""
        self._deadline = monotonic() + GRACE
        self._stopping.set()
        self._wake.set()
        self._thread.join(2 * GRACE)
        if self.active:
            _log.warn(
                "{records} posts stay in {folder} until a receiptd starts that can store them",
                records=self._spool.records,
                folder=self._spool.folder,
            )
        # The database may hang for longer. Then the spool stays locked until the process ends.
        if not self._thread.is_alive():
            self._spool.close()

    def begin(
        self, error: Exception, batch: Sequence[Submission], now: datetime
    ) -> list[Stored | Exception]:
        """The database has not stored `batch`: spool it, and what comes from now on.

        :param now: when the batch was received (aware, UTC).
        :returns: for each submission the verdicts, which are acceptance, or what kept it from
            being spooled.
        """
        with self._lock:
            self._away(error)
            for each in batch:
                self._rehearsal.note(each, now)
            return self._take(batch, now)

    def take(self, batch: Sequence[Submission], now: datetime) -> list[Stored | Exception] | None:
        """Spool `batch`, as `begin` does; None where the database has all by now, and may be
        given this as well."""
        with self._lock:
            return self._take(batch, now) if self.active else None

    def _take(self, batch: Sequence[Submission], now: datetime) -> list[Stored | Exception]:
        # Messages are not spooled: whoever registers them can try again, and is told of each
        # what became of it, which only the database knows.
        answers: list[Stored | Exception] = [DatabaseAway(self._outage.reason)] * len(batch)
        records: list[bytes] = []
        spooled: list[int] = []
        for index, submission in enumerate(batch):
            if submission.messages:
                continue
            try:
                records.append(encode(submission, now))
                spooled.append(index)
            except (TypeError, ValueError) as error:
                _log.error("a post cannot be spooled: {error}", error=error)
                answers[index] = error
        for index in spooled[: self._append(records)]:
            answers[index] = [ACCEPTED] * len(batch[index].receipts)
        return answers

    def _append(self, records: Sequence[bytes]) -> int:
        """How many of the records are on disk."""
        try:
            self._spool.append(records)
        except SpoolFull as error:
            if not self._full:
                self._full = True
                _log.critical("the spool is full, posts are answered busy: {error}", error=error)
            return error.kept
        if records:
            self._has_room()
        return len(records)

    # --- The thread that drains

    def _run(self) -> None:
        while self._goes_on():
            try:
                self._look_for_room()
                if self.active:
                    self._drain()
                else:
                    self._wake.wait(LOOK_AROUND)
                    self._wake.clear()
                    self._adopt()
                    self._spool.count_set_aside()
            except Exception as error:
                with self._lock:
                    self._away(error)
                self._stopping.wait(PACE)
                if self._stopping.is_set():
                    break
        self._connection.close()

    def _goes_on(self) -> bool:
        if self._stopping.is_set():
            return self.active and monotonic() < self._deadline
        return True

    def _look_for_room(self) -> None:
        """Find out whether a spool that was full takes posts again: /readyz says that it does
        not, so there may be none to find it out by."""
        if not self._full or monotonic() - self._looked_at < PACE:
            return
        self._looked_at = monotonic()
        if self._spool.has_room():
            with self._lock:
                self._has_room()

    def _has_room(self) -> None:
        if self._full:
            self._full = False
            _log.warn("the spool takes posts again")

    def _drain(self) -> None:
        """Store the oldest batch; end the fallback where there is none, and the database is known
        to store again."""
        if self._outage.lacked_room and self._connection.truncate_log():
            self._outage.lacked_room = False
        if self._uncounted:
            self._uncounted = False
            self._spool.count()
        if self._drainer.step():
            self._stores = True
            self._drained()
        elif not self._stores:
            self._stores = True  # until it is found otherwise, by the writer perhaps
            self._rehearse()
        with self._lock:
            if self._spool.empty and self._stores:
                self._end()

    def _rehearse(self) -> None:
        """Find out whether the database stores again, by what it did not store.

        :raises Exception: where it does not.
        """
        with self._lock:
            samples = self._rehearsal.samples
        recorder = self._drainer.recorder
        if not self._rehearsal.run(self._connection.transact, recorder, samples):
            with self._lock:
                self._rehearsal.clear()  # of no use for this: it cannot be stored in any case

    def _adopt(self) -> None:
        """Drain what processes left that have ended."""
        with self._lock:
            try:
                adopted = self._spool.adopt()
            except OSError as error:
                _log.error("{folder}: {error}", folder=self._spool.folder, error=error.strerror)
                return
            if adopted:
                self._uncounted = True
                self._begin()
                _log.info(
                    "storing what an earlier process left in {folder}", folder=self._spool.folder
                )

    def _away(self, error: Exception) -> None:
        self._stores = False
        if self._outage.away(error, self._done):
            self._wake.set()

    def _begin(self) -> None:
        if self._outage.begin(self._done):
            self._wake.set()

    def _end(self) -> None:
        self._full = False
        self._rehearsal.clear()
        self._outage.end(self._done)

    @property
    def _done(self) -> Drained:
        return Drained(self._drainer.stored, self._drainer.set_aside)
