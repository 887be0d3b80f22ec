"""The files beside an open SQLite database, without which it loses what is not in it yet.

In WAL mode commits are in `receipts.db-wal` until a checkpoint copies them into `receipts.db`.
Where somebody removes that file, whoever has it open reads and writes on as before, but the next
process will not find it. As long as this process lives, what it has open can still be copied.

SQLite makes both files with a database's first connection and deletes them with its last one. So
they stay the same as long as a connection is open, and only then they are compared here.

Nothing here opens them. Whoever closes a descriptor of one of SQLite's files drops all locks that
SQLite has on it in this process (POSIX advisory locks), and two processes then spoil the database
(https://www.sqlite.org/howtocorrupt.html, section 2.2).
"""

from __future__ import annotations

from pathlib import Path

from receiptd.store.database.errors import StoreAway

Identity = tuple[int, int]
"""The device and the inode of a file."""


class LogLost(StoreAway):
    """SQLite's write-ahead log was removed or replaced under a running server."""


def identity(path: Path) -> Identity | None:
    """What tells the file at `path` from one that takes its place; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


class LogFiles:
    """The `-wal` and the `-shm` that a connection has open. `lost` is for any thread."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._paths = [database.with_name(database.name + end) for end in ("-wal", "-shm")]
        self._known: list[Identity | None] = []
        self._known_database: Identity | None = None

    def remember(self) -> None:
        """Take those that are there for those of a connection that has just opened them."""
        self._known_database = identity(self._database)
        self._known = [identity(path) for path in self._paths]

    def forget(self) -> None:
        """There is no connection any more."""
        self._known = []

    def lost(self) -> Path | None:
        """The file that is not where it was opened; None where both are, or none is open. None
        too where the database itself is not there, for then they are not missed."""
        opened = self._known  # another thread may forget them meanwhile
        if not opened or identity(self._database) != self._known_database:
            return None
        for path, known in zip(self._paths, opened, strict=True):
            if known is None or identity(path) != known:
                return path
        return None
