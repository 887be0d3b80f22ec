"""The lock of the one server that may serve a SQLite file."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import IO

from receiptd.store.database.engine import sqlite_file
from receiptd.store.database.errors import StoreError, StoreTaken

_MODE = 0o600


def open_lock(path: Path) -> IO[str]:
    """The file at `path`, made where it is missing, to be locked: for its owner alone, since a
    file that others can read can be locked by them.

    :raises StoreError: where it cannot be written.
    """
    try:
        file = open(path, "a+", opener=lambda name, flags: os.open(name, flags, _MODE))  # noqa: SIM115
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from None
    with suppress(OSError):  # one that an older version made
        if os.fstat(file.fileno()).st_mode & 0o777 != _MODE:
            os.fchmod(file.fileno(), _MODE)
    return file


class ServerLock:
    """Held by the one server that may write a SQLite file (its workers share it).

    A lock of the operating system on a file beside the database: it is gone with the process
    that held it, however that ended.
    """

    def __init__(self, url: str) -> None:
        self._file: IO[str] | None = None
        database = sqlite_file(url)
        self._path = database.with_name(database.name + "-lock") if database else None

    @classmethod
    def inherited(cls, url: str, descriptor: int) -> ServerLock:
        """One that a supervisor took and has passed on: it is held until all who have it are
        gone."""
        lock = cls(url)
        lock._path = None
        lock._file = os.fdopen(descriptor)
        return lock

    def fileno(self) -> int | None:
        """The descriptor to pass on; None where nothing is locked, or has to be."""
        return self._file.fileno() if self._file else None

    def take(self) -> None:
        """Take it.

        :raises StoreTaken: where another server has it.
        :raises StoreError: where its file cannot be written.
        """
        if self._path is None:
            return
        file = open_lock(self._path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            database = str(self._path).removesuffix("-lock")
            raise StoreTaken(
                f"{database}: another receiptd (process {holder}) serves this database already. "
                f"Stop that one, or give this one another with --database"
            ) from None
        self._file = file
        # Only for who is refused; a disk that is full for it is no reason not to start.
        with suppress(OSError):
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let another server have it."""
        if self._file:
            self._file.close()
            self._file = None
