"""The fallback of the writer where the database does not store: posts go into the spool.

As long as anything is in the spool, all posts go there, so that they are stored in the order in
which they came. A thread of its own drains it, so that nobody waits for a database that hangs.

Threads: `begin` and `take` are called in the writer's thread; `start`, `stop` and `renew` in the
reactor's; `_run` and all below it is the spool's own thread. `backlog` may be asked in any.

Longer than 300 lines because one lock guards both the switch and the thread that drains: apart,
neither could be checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from threading import Event, Lock, Thread
from time import monotonic
from typing import NamedTuple

from twisted.logger import Logger

from receiptd.receipt import ACCEPTED
from receiptd.store.database.connection import WriterConnection
from receiptd.store.database.errors import StoreAway, StoreError, cause, lacks_room
from receiptd.store.database.log_files import LogLost
from receiptd.store.recorder import Recorder, Stored, Submission
from receiptd.store.spool.drainer import Drainer
from receiptd.store.spool.folder import Spool, SpoolFull
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


class Backlog(NamedTuple):
    """What the spool holds, and why."""

    since: datetime | None
    """When posts began to go to the spool (aware, UTC); None while they go to the database."""
    reason: str
    """What the database said then, empty where only the spool of an ended process is drained."""
    records: int
    """How many posts wait in the spool."""
    bytes: int
    full: bool
    """Whether the spool did not take what came last: it was answered busy."""
    set_aside: int = 0
    """How many records are set aside, since they cannot be stored."""
    remedy: str = ""
    """What somebody has to do before the database stores again; empty where it may by itself."""


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
        self.active = False
        """Whether posts go to the spool."""
        self._spool = spool
        self._connection = connection
        self._drainer = Drainer(spool, recorder, connection.transact)
        self._now = now
        self._drained = drained
        # Guards `active` and appending to the spool.
        self._lock = Lock()
        self._since: datetime | None = None
        self._began = 0.0
        self._reason = ""
        self._remedy = ""
        self._before = (0, 0)
        self._full = False
        self._looked_at = 0.0
        # Whether the database has stored anything since it last did not.
        self._stores = False
        self._rehearsal = Rehearsal()
        # Whether its disk was full, and its log has not given back its room since.
        self._lacked_room = False
        self._uncounted = False
        self._wake = Event()
        self._stopping = Event()
        self._deadline = 0.0
        self._thread = Thread(target=self._run, name="store-spool", daemon=True)

    @property
    def backlog(self) -> Backlog:
        """What the spool holds; may be asked for in any thread."""
        spool = self._spool
        return Backlog(
            self._since,
            self._reason,
            spool.records,
            spool.size,
            self._full,
            spool.records_set_aside,
            self._remedy,
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
        answers: list[Stored | Exception] = [DatabaseAway(self._reason)] * len(batch)
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
        if self._lacked_room and self._connection.truncate_log():
            self._lacked_room = False
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
        self._lacked_room |= lacks_room(error)
        told, self._reason = self._reason, cause(error)
        lost = isinstance(error, LogLost)
        self._remedy = "its write-ahead log was removed: restart the server" if lost else ""
        self._begin()
        # What somebody has to mend is told even where something else was told before.
        lasts = lost or (isinstance(error, StoreError) and not isinstance(error, StoreAway))
        if not told or (lasts and self._reason != told):
            _log.error(
                "the database does not store: {reason}. What comes is acknowledged and kept in "
                "{folder} until it does",
                reason=self._reason,
                folder=self._spool.folder,
            )

    def _begin(self) -> None:
        if not self.active:
            self._since, self._began = self._now(), monotonic()
            self._before = self._drainer.stored, self._drainer.set_aside
            self.active = True
            self._wake.set()

    def _end(self) -> None:
        stored, set_aside = self._before
        begins = "the database stores again" if self._reason else "the spool is drained"
        _log.info(
            "{begins}, after {seconds:.1f} s: of the spool {stored} posts were stored, "
            "{set_aside} set aside",
            begins=begins,
            seconds=monotonic() - self._began,
            stored=self._drainer.stored - stored,
            set_aside=self._drainer.set_aside - set_aside,
        )
        self._since, self._reason, self._remedy, self._full = None, "", "", False
        self._lacked_room = False
        self._rehearsal.clear()
        self.active = False
