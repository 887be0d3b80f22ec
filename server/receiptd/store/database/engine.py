"""Opening the database: its URL, engine, pragmas and limits, and whether its file can be used."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    NoSuchModuleError,
)

from receiptd.store.database.errors import StoreError, file_of
from receiptd.store.database.postgresql import prepare_sessions
from receiptd.store.database.read_only import let_read
from receiptd.store.database.revision import ANY, QUERY, check

BUSY_TIMEOUT = 5.0
"""Seconds that SQLite waits for another process's transaction; `?timeout=` in the URL says
otherwise."""

_POSTGRESQL = {
    "connect_timeout": 5,  # seconds
    # A server that vanished without a word is given up after 10 s, while the kernel alone would
    # wait for a quarter of an hour.
    "tcp_user_timeout": 10_000,  # milliseconds
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}
"""libpq's parameters; the URL may say otherwise."""

_NO_PSYCOPG = (
    "PostgreSQL needs psycopg. In a checkout: .venv/bin/pip install -e '.[postgresql]'; "
    "elsewhere: pip install 'psycopg[binary]', with the pip of receiptd's own environment"
)

AWAITED = "awaited"
"""The execution option that an engine has whose database did not answer at the start: an
`awaited.LateDatabase`."""


def open_engine(url: str, *, writes: bool = True) -> Engine:
    """An engine for `url`.

    With `writes`, transactions that write come one after the other, whatever process they are
    of: on SQLite they take its write lock at their start, on PostgreSQL an advisory lock. So ids
    are in the order of the commits, and what one transaction looked up stays true until its end.
    On SQLite moreover: write-ahead log, every commit on disk before it returns
    (`synchronous=FULL`).

    :raises StoreError: where the URL names no database that receiptd can use.
    """
    try:
        parsed = parse(url)
        engine = create_engine(parsed, **_options(parsed))
    except NoSuchModuleError as error:
        raise StoreError(f"store.url: {error}") from None
    except (ArgumentError, ValueError):
        # What SQLAlchemy says may name a part of the URL, and that may be one of its password.
        raise StoreError(
            "store.url: cannot be read as a URL (it is not shown here): expected "
            "sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
        ) from None
    except ModuleNotFoundError as error:
        raise StoreError(f"store.url: {error}. {_NO_PSYCOPG}") from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_immediate if writes else _begin_deferred)
        if not writes:
            let_read(engine)
    else:
        prepare_sessions(engine, writes=writes)
    return engine


def parse(url: str) -> URL:
    """`url` as SQLAlchemy has it, with psycopg for PostgreSQL. A password among the parameters,
    where libpq takes one as well, is put in its usual place, where it is hidden.

    :raises ArgumentError: where it is none.
    :raises ValueError: where its port is no number.
    """
    parsed = make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    password = parsed.query.get("password")
    if password is not None:
        # libpq takes the last one, too.
        password = password if isinstance(password, str) else password[-1]
        parsed = parsed.difference_update_query(["password"]).set(password=password)
    return parsed


def _options(url: URL) -> dict[str, Any]:
    sqlite = url.get_backend_name() == "sqlite"
    defaults = {"timeout": BUSY_TIMEOUT, "check_same_thread": False} if sqlite else _POSTGRESQL
    arguments = {name: value for name, value in defaults.items() if name not in url.query}
    return {"connect_args": arguments, "pool_pre_ping": not sqlite}


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # BEGIN is ours: see _begin_immediate
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        # Pages: a checkpoint every 40 MB writes a page once that many commits changed.
        "wal_autocheckpoint=10000",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: Any) -> None:
    options = connection.get_execution_options()
    if options.get("reads"):
        _begin_deferred(connection)
        return
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    if not options.get(ANY):
        check(fetch(connection, QUERY, ()), connection.engine.url)


def _begin_deferred(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN")


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite URL; None for another database."""
    return file_of(make_url(url))


def check_file(url: str, *, create: bool, writes: bool = True) -> None:
    """See that SQLite's file can be used before SQLite says less clearly that it cannot.

    :param writes: whether it is to be written to, or only read.
    :raises StoreError: naming the file or folder and what is wrong with it.
    """
    file = sqlite_file(url)
    if file is None:
        return
    folder = file.parent
    try:
        for path in (folder, file):
            with suppress(FileNotFoundError, NotADirectoryError):
                path.stat()
    except PermissionError:
        raise StoreError(f"{file}: hidden from user {_user()}. {_let_in(folder)}") from None
    if not folder.is_dir():
        raise StoreError(f"{folder}: no such folder for the database {file.name}: make it first")
    if file.is_dir():
        raise StoreError(f"{file}: is a folder: store.url must name a file")
    if not file.exists() and not create:
        raise StoreError(
            f"{file}: no such database. If it is another one, name it with --config FILE or "
            "--database URL; else start the server once, or run: receiptd db upgrade"
        )
    may = partial(os.access, effective_ids=True)
    if not writes:
        if not may(file, os.R_OK):
            raise StoreError(f"{file}: not readable by user {_user()}. {_let_in(folder)}")
        return
    if not may(file if file.exists() else folder, os.W_OK) or not may(folder, os.W_OK):
        raise StoreError(
            f"{file}: not writable by user {_user()}, or its folder {folder} is not. "
            + _let_in(folder)
        )


def _user() -> str:
    """Who we are."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a number without a name, as in containers
        return str(os.geteuid())


def _let_in(folder: Path) -> str:
    """What to do about a folder that is closed to us."""
    user = _user()
    owner = None
    for path in (folder, *folder.absolute().parents):
        with suppress(OSError, KeyError):
            owner = path.owner()
            break
    if owner in (None, user):
        return f"Let user {user} read and write both"
    return f"Run this as its owner (sudo -u {owner} receiptd ...), or let user {user} write both"


def fetch(connection: Connection, query: str, parameters: Sequence[object]) -> list[Any]:
    """The rows of a query in the driver's own SQL, as tuples. For rows that are looked up by
    their keys, SQLAlchemy's results would take longer than the database.

    :raises DBAPIError: as SQLAlchemy's own statements do.
    """
    found: list[Any] = _run(connection, query, parameters, lambda cursor: cursor.fetchall())
    return found


def execute(connection: Connection, statement: str, parameters: Sequence[object]) -> None:
    """Run a statement in the driver's own SQL that returns nothing, as `fetch` does.

    :raises DBAPIError: as SQLAlchemy's own statements do.
    """
    _run(connection, statement, parameters, lambda _cursor: None)


def execute_many(connection: Connection, statement: str, rows: Sequence[Sequence[object]]) -> None:
    """Run a statement for each of `rows`, as `execute` does."""
    _run(connection, statement, rows, lambda _cursor: None, many=True)


def _run(
    connection: Connection,
    query: str,
    parameters: Sequence[Any],
    result: Callable[[Any], Any],
    *,
    many: bool = False,
) -> Any:
    driver = connection.dialect.loaded_dbapi
    cursor = connection.connection.cursor()
    try:
        if many:
            cursor.executemany(query, parameters)
        else:
            cursor.execute(query, parameters)
        return result(cursor)
    except driver.Error as error:
        raise DBAPIError.instance(
            query, tuple(parameters), error, driver.Error, dialect=connection.dialect
        ) from error
    finally:
        cursor.close()
