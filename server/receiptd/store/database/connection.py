"""The connection that a thread keeps for its transactions."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from socket import SHUT_RDWR, socket
from time import monotonic
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from receiptd.store.database.engine import AWAITED, sqlite_file
from receiptd.store.database.errors import StoreAway, StoreError, refuses
from receiptd.store.database.log_files import Identity, LogFiles, LogLost, identity

_LOG_TIMEOUT = 0.1
"""Seconds that emptying SQLite's write-ahead log waits for readers, and keeps writers waiting."""

T = TypeVar("T")


def _identity(file: Path | None) -> Identity | None:
    """What tells the database's file from one that takes its place; None for a database in memory.

    :raises StoreAway: where there is none: SQLite would store on in what is deleted.
    """
    if file is None:
        return None
    if (found := identity(file)) is None:
        raise StoreAway(
            f"{file} is gone: put it back; or end the server and start it, to begin a new one"
        )
    return found


class LostLog:
    """Whether SQLite's write-ahead log was lost under this process: known to all of its
    connections that write, since none may then be opened, which would begin another log."""

    def __init__(self) -> None:
        self.path: Path | None = None
        """The file that was removed or replaced."""
        self.saved = False
        """Whether all that was in the log is in the database's file."""


class WriterConnection:
    """One connection for many transactions: opened when needed, and anew after a failure. For
    one thread at a time, but for `cut`, `endangered` and `awaited`."""

    def __init__(self, engine: Engine, lost: LostLog | None = None) -> None:
        """
        :param lost: shared by the connections of this process to one database.
        """
        self._engine = engine
        self._connection: Connection | None = None
        self._file = sqlite_file(str(engine.url))
        self._opened: Identity | None = None
        self._log = LogFiles(self._file) if self._file is not None else None
        self._lost = lost or LostLog()
        self._socket: socket | None = None
        self._driver: Any = None
        self._began: float | None = None

    @property
    def awaited(self) -> StoreError | None:
        """Why the database cannot be used yet, where it is awaited."""
        found = self._engine.get_execution_options().get(AWAITED)
        return found.error if found is not None else None

    @property
    def endangered(self) -> bool:
        """Whether the write-ahead log was removed and what is in it is not saved yet: `look`
        saves it."""
        if self._lost.path is not None:
            return not self._lost.saved
        return self._log is not None and self._log.lost() is not None

    def look(self) -> None:
        """Open the connection, and see that the write-ahead log is where it was.

        :raises LogLost: where it is not.
        :raises Exception: where the database cannot be opened.
        """
        if self._file is not None and self.awaited is None:
            self._connection or self._open()
            self._see_log()

    def truncate_log(self) -> bool:
        """Have SQLite copy its write-ahead log into the database and give back the log's room on
        the disk, which it keeps otherwise; whether it did. Others are hardly waited for: a reader
        may be in the way, or the database may not have room to grow."""
        if self._file is None:
            return True
        with suppress(Exception):
            self._see_log()  # where it is lost, connecting would begin another
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
        whatever went wrong: `errors.blame` tells a row's fault from the database's.

        :raises LogLost: where what is committed would not outlive the process.
        """
        try:
            if self._opened is not None and _identity(self._file) != self._opened:
                self.close(broken=True)
            connection = self._connection or self._open()
            self._began = monotonic()
            with connection.begin():
                # With the write lock: nobody begins another log meanwhile.
                self._see_log()
                result = work(connection)
            if self._log is not None and self._log.lost() is not None:
                with suppress(LogLost):
                    self._see_log()
                if not self._lost.saved:
                    raise self._log_lost()
            return result
        except LogLost:
            raise  # the connection is the only one to have what is in the log
        except Exception as error:
            if not refuses(error):
                self.close(broken=True)
            raise
        finally:
            self._began = None

    def _see_log(self) -> None:
        """See that SQLite's write-ahead log is where it was opened; else save what is in it.

        :raises LogLost: where it is not, or was not once before.
        """
        if self._log is None:
            return
        if self._lost.path is None:
            self._lost.path = self._log.lost()
        if self._lost.path is not None:
            if self._connection is not None and not self._lost.saved:
                self._save_log(self._connection)
            raise self._log_lost()

    def _save_log(self, connection: Connection) -> None:
        """Copy what is in the lost log, which `connection` still has open, into the database."""
        with suppress(Exception):
            connection.rollback()
            driver: Any = connection.connection.driver_connection
            busy, *_ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._lost.saved = not busy
        if self._lost.saved:
            self._engine.dispose()  # other connections have the lost log open, too

    def _log_lost(self) -> LogLost:
        saved = (
            "all that is stored is safe in the database's file"
            if self._lost.saved
            else "what is stored is lost if this process ends now, before it is saved"
        )
        return LogLost(
            f"{self._lost.path} was removed or replaced while it was in use: {saved}. Restart "
            "the server: until then what comes is kept in the spool"
        )

    def _open(self) -> Connection:
        if self._engine.dialect.name != "postgresql":
            if self._lost.path is not None:
                raise self._log_lost()
            if self.awaited is None:
                _identity(self._file)
            connection = self._connection = self._engine.connect()
            self._opened = _identity(self._file)
            self._driver = connection.connection.driver_connection
            if self._log is not None:
                self._watch_log(self._log)
            return connection
        # One of the pool would first be asked whether it lives, and a server that hangs does not
        # say; connecting has a limit of its own.
        self._engine.dispose()
        connection = self._connection = self._engine.connect()
        # A descriptor of our own, since the driver's number may be another's before `cut` comes
        # to know that the connection is closed.
        driver: Any = connection.connection.driver_connection
        self._socket = socket(fileno=os.dup(driver.fileno()))
        return connection

    def _watch_log(self, log: LogFiles) -> None:
        """Note which log SQLite has opened, where it has one: not every file system allows it."""
        (mode,) = self._driver.execute("PRAGMA journal_mode").fetchone()
        if mode == "wal":
            self._driver.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens it
            log.remember()

    def cut(self, after: float) -> bool:
        """Break off a transaction that has taken more than `after` seconds; whether it did.
        `transact` fails then as if the server were gone; on SQLite its statement does. For any
        thread."""
        began = self._began
        if began is None or monotonic() - began < after:
            return False
        own, self._socket = self._socket, None
        if own is not None:
            with suppress(OSError), own:
                own.shutdown(SHUT_RDWR)
            return True
        if self._file is not None and (driver := self._driver) is not None:
            self._driver = None  # once
            with suppress(Exception):  # it may be closed by now
                driver.interrupt()
                return True
        return False

    def close(self, *, broken: bool = False) -> None:
        """Close the connection, if one is open.

        :param broken: whether nobody else may be given it.
        """
        if self._log is not None:
            with suppress(LogLost):
                self._see_log()
            self._log.forget()
        self._driver = None
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
