"""Finding out whether a database stores, by storing something and undoing it.

Nothing less shows it: a database that answers may be full, read-only, or lack a right or a table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from secrets import token_bytes, token_hex

from sqlalchemy import Connection

from receiptd.receipt import Kind, Receipt, State
from receiptd.store.database.errors import Blame, blame
from receiptd.store.recorder import Recorder, Submission

_SAMPLE = 100
"""Of a submission that was not stored, how many receipts or messages are tried again."""

_BALLAST = 128 * 1024
"""Bytes for which the database's disk must have room: as much as a post may well need."""

_TRIES = 3
"""How often what was not stored is tried where the database stores something else."""

Transact = Callable[[Callable[[Connection], None]], None]


class Rehearsal:
    """What the database did not store, of each kind one, to be tried again. For one thread at a
    time."""

    def __init__(self) -> None:
        self._failed: dict[tuple[bool, bool], tuple[Submission, datetime]] = {}
        self._tries = 0

    def note(self, submission: Submission, now: datetime) -> None:
        """The database has not stored `submission`, received at `now`."""
        sample = submission._replace(
            ticket=None,
            receipts=submission.receipts[:_SAMPLE],
            messages=submission.messages[:_SAMPLE],
        )
        self._failed[bool(submission.receipts), bool(submission.messages)] = sample, now

    def clear(self) -> None:
        """Forget what was noted."""
        self._failed.clear()
        self._tries = 0

    @property
    def samples(self) -> list[tuple[Submission, datetime]]:
        """What was noted."""
        return list(self._failed.values())

    def run(
        self,
        transact: Transact,
        recorder: Recorder,
        samples: Sequence[tuple[Submission, datetime]],
    ) -> bool:
        """Find out whether the database stores again, by `samples`; whether these can be stored.

        :raises Exception: where it does not store, or it is not clear yet.
        """
        storable = True
        try:
            transact(lambda connection: store_in_vain(connection, recorder, samples))
        except Exception as error:
            found = blame(error)
            if found is Blame.DATABASE:
                raise
            # Whatever is wrong with them: does it store something else?
            transact(lambda connection: store_in_vain(connection, recorder))
            self._tries += 1
            if found is Blame.UNCLEAR and self._tries < _TRIES:
                raise
            storable = False
        # Some disks tell only when they are to keep something that there is no room for it.
        transact(_write_nothing)
        return storable


def store_in_vain(
    connection: Connection,
    recorder: Recorder,
    samples: Sequence[tuple[Submission, datetime]] = (),
) -> None:
    """Store `samples`, or a made-up receipt where there are none, and undo it: whoever sent them
    was told that they are not stored."""
    submissions, times = zip(*(samples or [(_made_up(), datetime.now(UTC))]), strict=True)
    recorder.record(connection, submissions, times)
    if connection.dialect.name == "sqlite":
        _write_ballast(connection)
    connection.rollback()


def _made_up() -> Submission:
    """A receipt of no endpoint, of the size that a post may well have. Random, since PostgreSQL
    would compress anything else."""
    receipt = Receipt(
        endpoint="",
        provider="",
        kind=Kind.DELIVERY,
        message_id=token_hex(16),
        state=State.ENROUTE,
        code=None,
        recipient=None,
        reported_at=None,
        raw=token_bytes(_BALLAST),
    )
    return Submission(None, [receipt])


def _write_ballast(connection: Connection) -> None:
    """Have SQLite write to its disk what this transaction has changed, and more, though it will
    not be committed: what its cache has no place for goes there at once."""
    size = connection.exec_driver_sql("PRAGMA cache_size").scalar_one()
    connection.exec_driver_sql("PRAGMA cache_size = 1")
    connection.exec_driver_sql("CREATE TABLE ballast (bytes)")
    connection.exec_driver_sql(f"INSERT INTO ballast VALUES (zeroblob({_BALLAST}))")
    connection.exec_driver_sql(f"PRAGMA cache_size = {size}")


def _write_nothing(connection: Connection) -> None:
    """Change nothing, but by writing: a disk that is full shows only so."""
    connection.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")
