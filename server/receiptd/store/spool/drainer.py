"""From the spool into the database: in the order of receiving, a bounded batch at a time.

A record that cannot be stored is set aside, so that what is behind it goes on:

- One that the database refuses fails at once, and its neighbours do not: the batch is halved until
  that one stands alone.
- Where a transaction fails and it is not clear whether a record or the database is to blame, or
  where the process ended in the middle of it, fewer records are tried next, until one stands
  alone. Before each try of that one a made-up receipt is stored and undone. Where even that
  fails, the database is to blame, and no try is counted. Otherwise, after `TRIES` tries, the
  record is set aside.

What is about the database alone (it is away, full, locked, read-only) sets nothing aside, ever.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from sqlalchemy import Connection
from twisted.logger import Logger

from receiptd.store.database.errors import Blame, blame, cause, refuses
from receiptd.store.recorder import Recorder, Submission, as_rejections
from receiptd.store.spool.folder import Spool
from receiptd.store.spool.records import Entry
from receiptd.store.spool.rehearsal import store_in_vain
from receiptd.store.spool.segment import Batch, Segment

BATCH = 500
"""Records stored in one transaction."""

TRIES = 3
"""How often a record is tried alone before it is set aside."""

_NARROWING = 8
"""By how much fewer records are tried where it is not clear what is to blame: from 500 to one in
three failures, each of which may end the process."""

_log = Logger(namespace="receiptd.store")

T = TypeVar("T")


class Transact(Protocol):
    """Does work in a transaction; returns what it returns once that is committed."""

    def __call__(self, work: Callable[[Connection], T], /) -> T:
        """Do `work`."""


class NotStorable(Exception):
    """A record has ended the process, or failed without a reason that is its own."""


class Suspects(NamedTuple):
    """Records among which there is one that may not be storable."""

    segment: Segment
    end: int
    """The offset behind them."""
    size: int
    """How many of them are tried at once."""


class Drainer:
    """Stores what is in a spool. For one thread at a time."""

    def __init__(self, spool: Spool, recorder: Recorder, transact: Transact) -> None:
        self._spool = spool
        self.recorder = recorder
        """May be replaced, in any thread."""
        self._transact = transact
        self.stored = 0
        """Records stored so far."""
        self.set_aside = 0
        """Records that cannot be stored, and that were set aside."""
        self._suspects: Suspects | None = None
        # Why the record that was last tried alone was not stored.
        self._reason: Exception | None = None

    @property
    def narrows(self) -> bool:
        """Whether one of the oldest records is suspected: `step` comes to an end with it, sooner
        or later."""
        return self._suspects is not None

    def step(self) -> bool:
        """Store the oldest batch; False where nothing is in the spool.

        The spool forgets the batch after the commit. Where a crash or a lost connection comes
        between, it is stored again, which the recorder finds out.

        :raises Exception: where the database does not answer, or the spool cannot be read or
            written, or it is not clear what has failed; then nothing is lost, and the same
            records are the next batch's.
        """
        batch = self._spool.head(BATCH)
        if batch is None:
            return False
        batch = self._narrowed(batch)
        set_aside = self._attempt(batch) if batch.entries else 0
        self._spool.done(batch)
        self.stored += len(batch.entries) - set_aside
        self.set_aside += set_aside
        return True

    def _narrowed(self, batch: Batch) -> Batch:
        """As many of the batch's records as are to be tried now: fewer where one of them is
        suspected."""
        suspects = self._suspects
        if suspects is None:
            # What a process that ended has begun to store, and has not.
            last = batch.segment.attempts.last
            if last is None or last.start != batch.start or not last.tries:
                return batch
            count = max(1, batch.before(last.end))
            suspects = self._suspects = Suspects(batch.segment, last.end, _fewer(count))
        if suspects.segment is not batch.segment or batch.start >= suspects.end:
            self._suspects = None
            return batch
        return batch.first(min(suspects.size, max(1, batch.before(suspects.end))))

    def _attempt(self, batch: Batch) -> int:
        """Store the batch, as one that may fail; returns how many records were set aside."""
        attempts = batch.segment.attempts
        suspected = self._suspects is not None
        end = batch.ends[-1]
        if suspected and len(batch.entries) == 1:
            last = attempts.last
            if last is not None and last[:2] == (batch.start, end) and last.tries >= TRIES:
                self._give_up(batch)
                return 1
            self._probe()
        begun = False

        def begin() -> None:
            # Not before the transaction has begun: waiting for a database is no record's fault.
            nonlocal begun
            if not begun:
                begun = True
                attempts.begin(batch.start, end)

        try:
            set_aside = self._store(batch, batch.entries, begin)
        except Exception as error:
            if begun and blame(error) is Blame.UNCLEAR:
                self._suspects = Suspects(batch.segment, end, _fewer(len(batch.entries)))
                self._reason = error
                _log.warn(
                    "{count} records of the spool were not stored: {error}. Fewer are tried next",
                    count=len(batch.entries),
                    error=cause(error),
                )
            elif begun:
                attempts.take_back()
            raise
        self._reason = None
        return set_aside

    def _probe(self) -> None:
        """See that the database stores what is surely storable.

        :raises Exception: where it does not.
        """
        self._transact(lambda connection: store_in_vain(connection, self.recorder))

    def _store(self, batch: Batch, entries: Sequence[Entry], begin: Callable[[], None]) -> int:
        """Store entries in one transaction. One that the database refuses is set aside: they
        are halved until that one stands alone. Returns how many were set aside."""

        def record(connection: Connection) -> None:
            begin()
            self.recorder.record(
                connection,
                [entry.submission for entry in entries],
                [entry.received_at for entry in entries],
                again=True,
            )

        try:
            self._transact(record)
        except Exception as error:
            if not refuses(error):
                raise
            if len(entries) == 1:
                self._put_aside(batch, entries[0], error)
                return 1
            middle = len(entries) // 2
            return self._store(batch, entries[:middle], begin) + self._store(
                batch, entries[middle:], begin
            )
        return 0

    def _give_up(self, batch: Batch) -> None:
        """Set aside the one record of `batch`, which was tried often enough."""
        attempts = batch.segment.attempts
        why = self._reason or NotStorable("the server ended each time while it was stored")
        tries = attempts.begin(batch.start, batch.ends[-1]) - 1
        error = NotStorable(f"tried {tries} times: {cause(why)}")
        # What ends the process may do so as a rejected post, too: this is tried once.
        self._put_aside(batch, batch.entries[0], error, lists=tries == TRIES)
        self._suspects = self._reason = None

    def _put_aside(
        self, batch: Batch, entry: Entry, error: Exception, *, lists: bool = True
    ) -> None:
        """Keep what was acknowledged and cannot be stored: among the rejected posts, where people
        look, and in a file, which nobody's quota empties.

        :param lists: whether it is to be among the rejected posts.
        """
        posts = [
            Submission(None, rejection=rejection)
            for rejection in as_rejections(entry.submission, entry.received_at, error)
        ]
        if not lists:
            posts = []
        if posts:
            try:
                self._transact(
                    lambda connection: self.recorder.record(
                        connection, posts, [entry.received_at] * len(posts), again=True
                    )
                )
            except Exception as failed:
                if blame(failed) is Blame.DATABASE:
                    raise  # nothing is kept yet: it is tried again
                _log.error("a record cannot be kept as rejected: {error}", error=cause(failed))
                posts = []
        path = None
        try:
            path = self._spool.set_aside(batch, entry)
        except OSError as failed:
            if not posts:
                raise
            _log.error("a record cannot be set aside in a file: {error}", error=failed)
        _log.error(
            "a record of the spool cannot be stored: {error}. It is kept in {where}; when the "
            "cause is mended: receiptd spool retry",
            error=cause(error),
            where=path or "rejected posts",
        )


def _fewer(count: int) -> int:
    return max(1, count // _NARROWING)
