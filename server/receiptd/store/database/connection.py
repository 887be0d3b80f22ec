"""The connection that a thread keeps for its transactions, and what its errors mean."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from socket import SHUT_RDWR, socket
from sqlite3 import SQLITE_FULL, SQLITE_IOERR
from time import monotonic
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from receiptd.store.database.engine import AWAITED, StoreAway, StoreError, sqlite_code, sqlite_file

_LOG_TIMEOUT = 0.1
"""Seconds that emptying SQLite's write-ahead log waits for readers, and keeps writers waiting."""

T = TypeVar("T")


def _identity(file: Path | None) -> tuple[int, int] | None:
    """By which it is told whether a path still is of the file that was opened; None for a database
    in memory.

    :raises StoreAway: where there is none: SQLite would store on in what is deleted.
    """
    if file is None:
        return None
    try:
        found = file.stat()
    except FileNotFoundError:
        raise StoreAway(
            f"{file} is gone: put it back; or end the server and start it, to begin a new one"
        ) from None
    return found.st_dev, found.st_ino


class WriterConnection:
    """One connection for many transactions: opened when needed, and anew after a failure. For
    one thread at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._file = sqlite_file(str(engine.url))
        self._opened: tuple[int, int] | None = None
        self._socket: socket | None = None
        self._began: float | None = None

    @property
    def awaited(self) -> StoreError | None:
        """Why the database cannot be used yet, where it is awaited."""
        found = self._engine.get_execution_options().get(AWAITED)
        return found.error if found is not None else None

    def truncate_log(self) -> bool:
        """Have SQLite copy its write-ahead log into the database and give back the log's room on
        the disk, which it keeps otherwise; whether it did. Others are hardly waited for: a reader
        may be in the way, or the database may not have room to grow."""
        if self._file is None:
            return True
        with suppress(Exception):
            _identity(self._file)  # where there is none, connecting would make one
            connection = self._engine.raw_connection()  # as this is not done in a transaction
            try:
                cursor = connection.cursor()
                cursor.execute(f"PRAGMA busy_timeout = {_LOG_TIMEOUT * 1000:.0f}")
                busy, *_ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                return not busy
            finally:
                connection.invalidate()  # for others it would have too little patience
        return False

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in a transaction; returns what it returns once that is committed. Raises
        whatever went wrong: `refuses` tells a row's fault from the database's."""
        try:
            if self._opened is not None and _identity(self._file) != self._opened:
                self.close(broken=True)
            connection = self._connection or self._open()
            self._began = monotonic()
            with connection.begin():
                return work(connection)
        except Exception as error:
            if not refuses(error):
                self.close(broken=True)
            raise
        finally:
            self._began = None

    def _open(self) -> Connection:
        if self._engine.dialect.name != "postgresql":
            if self.awaited is None:
                _identity(self._file)
            self._connection = self._engine.connect()
            self._opened = _identity(self._file)
            return self._connection
        # One of the pool would first be asked whether it lives, and a server that hangs does not
        # say; connecting has a limit of its own.
        self._engine.dispose()
        connection = self._connection = self._engine.connect()
        # A descriptor of our own, since the driver's number may be another's before `cut` comes
        # to know that the connection is closed.
        driver: Any = connection.connection.driver_connection
        self._socket = socket(fileno=os.dup(driver.fileno()))
        return connection

    def cut(self, after: float) -> bool:
        """Break the connection where the transaction has taken more than `after` seconds; whether
        it did. `transact` fails then as if the server were gone. For any thread; on SQLite, which
        has a limit of its own, nothing is done."""
        began, own = self._began, self._socket
        if began is None or own is None or monotonic() - began < after:
            return False
        self._socket = None
        with suppress(OSError), own:
            own.shutdown(SHUT_RDWR)
        return True

    def close(self, *, broken: bool = False) -> None:
        """Close the connection, if one is open.

        :param broken: whether nobody else may be given it.
        """
        own, self._socket = self._socket, None
        if own is not None:
            own.close()
        if self._connection is None:
            return
        connection, self._connection = self._connection, None
        with suppress(Exception):  # one that is broken need not close well
            if broken:
                connection.invalidate()
            connection.close()


def lacks_room(error: Exception) -> bool:
    """Whether `error` may be about a disk of SQLite's that is full. Where not a write fails for it
    but another call, as that for the log's index, or it is a quota, that is an I/O error."""
    return sqlite_code(error) in (SQLITE_IOERR, SQLITE_FULL)


def refuses(error: Exception) -> bool:
    """Whether `error` is about what was to be stored, which alone must then be set aside. All
    other errors of a database are its own state, which will pass: it does not answer, is full,
    locked, read-only, or not as it should be."""
    if isinstance(error, DataError | IntegrityError):
        return True
    if not isinstance(error, SQLAlchemyError):
        # A value that the driver cannot convert, or a mistake of ours in handling it.
        return not isinstance(error, OSError | MemoryError | StoreError)
    # PostgreSQL's class 54, a limit exceeded, such as that of an index's entries.
    return str(getattr(getattr(error, "orig", None), "sqlstate", "")).startswith("54")
