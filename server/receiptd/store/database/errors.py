"""What a database's error means: to whom it matters, and whether it passes.

This is the one place that decides it. The writer, the drainer of the spool, the reader of the API
and the command line ask here, so that they agree: what one takes for a database that is away,
another must not take for a row that cannot be stored.
"""

from __future__ import annotations

import sqlite3
from enum import Enum
from pathlib import Path

from sqlalchemy import URL, Engine
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from receiptd.errors import UserError


class StoreError(UserError):
    """A store that cannot be used; the text says why and what to do."""


class StoreAway(StoreError):
    """A database that does not answer now and may later, without anybody mending `store.url`."""


class StoreTaken(StoreError):
    """Another process is at what may be done by one at a time: it serves the database, deletes
    what is old, or keeps the database locked."""


class Blame(Enum):
    """What is at fault where a transaction has failed."""

    ROW = "row"
    """What was to be stored: alone it fails again, and its neighbours do not."""
    DATABASE = "database"
    """The database's own state, which will pass or be mended: whatever is stored fails."""
    UNCLEAR = "unclear"
    """One or the other. The connection broke off, a statement or our own code took too long or
    too much memory: only storing something else shows which."""


_SQLITE_ROW = frozenset({sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH})

_SQLITE_DATABASE = frozenset(
    {
        sqlite3.SQLITE_ERROR,  # no such table or column
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)

_STATES_ROW = ("54",)
"""SQLSTATEs of PostgreSQL, or their classes (its manual, appendix A): a limit exceeded, such as
that of an index's entries."""

_STATES_DATABASE = (
    "25006",  # read-only: a standby
    "28",  # who we are is not accepted
    "42",  # no such table or column, or no right to it
    "53",  # out of disk, memory, connections
    "55",  # in use, or not as it must be
    "57P01",  # an administrator ends the connection
    "57P03",  # it starts or stops
    "57P04",  # the database was dropped
)

_PASSING_SQLITE = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL})

_PASSING_STATES = ("08", "40", "53", "55", "57", "25006")
"""SQLSTATEs, or their classes: no connection, rolled back, out of resources, in use, an
operator's intervention (a server that starts or stops), read-only (a standby)."""

_LASTING = (
    "authentication failed",
    "no password supplied",
    "does not exist",  # a role, a database, a certificate's file
    "pg_hba.conf",
    "not permitted to log in",
    "permission denied",
    "does not support SSL",
    "certificate verify failed",
    "invalid ",  # sslmode, port, … of the URL
)
"""Where no connection was made, only a text tells why. In these words it is somebody's to
mend; in others, or in another language, it is taken to pass: a server that starts and spools
loses no receipt, and has it in its log."""

AWAY = (OperationalError, InterfaceError, PoolTimeout, StoreAway)
"""Errors of a read that mean that the database does not answer: the reader asks again later."""


def blame(error: BaseException) -> Blame:
    """What is at fault where a transaction has failed with `error`."""
    if isinstance(error, DataError | IntegrityError):
        return Blame.ROW
    if isinstance(error, StoreError):
        return Blame.DATABASE
    if not isinstance(error, SQLAlchemyError):
        # A value that the driver cannot convert, or a mistake of ours in handling it. Memory,
        # descriptors or the disk may be short for everybody.
        return Blame.UNCLEAR if isinstance(error, OSError | MemoryError) else Blame.ROW
    code = sqlite_code(error)
    if code is not None:
        if code in _SQLITE_ROW:
            return Blame.ROW
        return Blame.DATABASE if code in _SQLITE_DATABASE else Blame.UNCLEAR
    state = _sqlstate(error)
    if state.startswith(_STATES_ROW):
        return Blame.ROW
    return Blame.DATABASE if state.startswith(_STATES_DATABASE) else Blame.UNCLEAR


def refuses(error: BaseException) -> bool:
    """Whether `error` is about what was to be stored, which alone must then be set aside."""
    return blame(error) is Blame.ROW


def may_pass(error: SQLAlchemyError) -> bool:
    """Whether a database that has failed so may answer later without anything being mended in
    the configuration: it is away, starts, stops, is full or locked. So may a host name that is
    not known: where containers come and go, their names do too."""
    if not isinstance(error, DBAPIError):
        return False
    code = sqlite_code(error)
    if code is not None:
        return code in _PASSING_SQLITE
    state = _sqlstate(error)
    if state:
        return state.startswith(_PASSING_STATES)
    text = str(error.orig)
    return isinstance(error, OperationalError) and not any(each in text for each in _LASTING)


def lacks_room(error: BaseException) -> bool:
    """Whether `error` may be about a full disk of SQLite's. Where a call other than a write fails
    for it, as that for the log's index, or where a quota is full, SQLite says "I/O error"."""
    return sqlite_code(error) in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL)


def is_locked(error: BaseException) -> bool:
    """Whether `error`, met while waiting for the write turn, says that another process has it:
    SQLite is busy; PostgreSQL's statement timeout has cancelled the wait."""
    return (
        sqlite_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        or _sqlstate(error) == "57014"
    )


def sqlite_code(error: BaseException) -> int | None:
    """SQLite's primary result code; None where the error is none of SQLite's."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    return code & 0xFF if code is not None else None  # extended codes have more above


def _sqlstate(error: BaseException) -> str:
    """PostgreSQL's five characters; empty where it has said nothing, as of a lost connection."""
    return str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")


# --- For people


def file_of(url: URL) -> Path | None:
    """The file of a SQLite URL; None for another database. Absolute, since the working directory
    is seen neither in the log nor in an error."""
    if url.get_backend_name() != "sqlite" or not url.database:
        return None
    return Path(url.database).absolute()


def shown(url: URL) -> str:
    """`url` (as `engine.parse` gives it) for people: without passwords, also that of a client's
    key, and with the whole path of SQLite's file."""
    secret = [name for name in url.query if name.lower().endswith("password")]
    url = url.difference_update_query(secret)
    if (file := file_of(url)) is not None:
        url = url.set(database=str(file))
    return url.render_as_string()


def unreachable(engine: Engine, error: Exception) -> str:
    """A sentence for a database that does not answer; the password stays out of it."""
    said = _said(error)
    password = engine.url.password
    if password:
        said = said.replace(str(password), "***")
    if "no password supplied" in said:
        said += (
            ". Name a file with the password as store.password_file, or one of libpq's kind with "
            "PGPASSFILE"
        )
    return f"{shown(engine.url)}: the database does not answer: {said}"


def trouble(engine: Engine, error: SQLAlchemyError) -> StoreError:
    """`error` as one of the store's: `StoreAway` where it may pass."""
    kind = StoreAway if may_pass(error) else StoreError
    return kind(unreachable(engine, error))


def cause(error: BaseException) -> str:
    """What the database itself says, in one line: without the statement, which may be long."""
    text = _said(error)
    return text.splitlines()[0] if text else type(error).__name__


def _said(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error).strip()
