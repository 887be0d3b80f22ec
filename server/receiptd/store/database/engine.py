"""Opening the database: engine, pragmas, migrations, and the one-server lock of SQLite."""

from __future__ import annotations

import fcntl
import os
import pwd
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)

from receiptd.errors import UserError
from receiptd.store.schema import REVISION

BUSY_TIMEOUT = 5.0
"""Seconds that SQLite waits for another process's transaction; `?timeout=` in the URL says
otherwise."""

STATEMENT_TIMEOUT = 10.0
"""Seconds that PostgreSQL may take for a statement of those who write, another process's turn
included, unless the role, the database or the URL's `options` say otherwise."""

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

_FILE_MODE = 0o640
"""Of a new database: it holds people's phone numbers."""

_TURN = 7251930846
"""The key of PostgreSQL's advisory lock for writing; any number nobody else uses."""


AWAITED = "awaited"
"""The execution option that an engine has whose database did not answer at the start: an
`awaited.LateDatabase`."""


class StoreError(UserError):
    """A store that cannot be opened; the text says why and what to do."""


class StoreAway(StoreError):
    """A database that does not answer now and may later, without anybody mending `store.url`."""


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
    except (ArgumentError, NoSuchModuleError) as error:
        raise StoreError(f"store.url: {error}") from None
    except ModuleNotFoundError as error:
        raise StoreError(
            f"store.url: {error}. PostgreSQL needs: pip install 'receiptd[postgresql]'"
        ) from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_immediate if writes else _begin_deferred)
    else:
        event.listen(engine, "connect", _speak_utc)
        if writes:
            event.listen(engine, "connect", _limit_statements)
            event.listen(engine, "begin", _take_turn)
    return engine


def parse(url: str) -> URL:
    """`url` as SQLAlchemy has it, with psycopg for PostgreSQL. A password among the parameters,
    where libpq takes one as well, is put in its usual place, where it is hidden.

    :raises ArgumentError: where it is none.
    """
    parsed = make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    password = parsed.query.get("password")
    if isinstance(password, str):
        parsed = parsed.difference_update_query(["password"]).set(password=password)
    return parsed


def shown(url: URL) -> str:
    """`url` (as `parse` gives it) for people: without passwords, also that of a client's key."""
    return url.difference_update_query(["sslpassword"]).render_as_string()


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
    reads = connection.get_execution_options().get("reads")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _begin_deferred(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN")


def _speak_utc(connection: Any, _record: Any) -> None:
    # In the server's own zone, times of the first and of the last year could not be read.
    connection.execute("SET timezone = 'UTC'")
    connection.commit()


def _limit_statements(connection: Any, _record: Any) -> None:
    connection.execute(
        "SELECT set_config('statement_timeout', %s, false) "
        "WHERE current_setting('statement_timeout') = '0'",
        (f"{STATEMENT_TIMEOUT * 1000:.0f}",),
    )
    connection.commit()


def _take_turn(connection: Any) -> None:
    options = connection.get_execution_options()
    if options.get("reads"):
        return
    if options.get("patient"):
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_TURN})")


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite URL; None for another database."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return None
    return Path(parsed.database)


def check_file(url: str, *, create: bool) -> None:
    """See that SQLite's file can be used before SQLite says less clearly that it cannot.

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
    if not os.access(file if file.exists() else folder, os.W_OK) or not os.access(folder, os.W_OK):
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


def revision(engine: Engine) -> str | None:
    """The migration that the database stands at; None for an empty one.

    :raises StoreAway: where the database does not answer now.
    :raises StoreError: where it will not, such as for a wrong password.
    """
    try:
        # Looked at as a reader: a server can start while another process is writing.
        with engine.execution_options(reads=True).connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            return str(found) if found is not None else None
    except SQLAlchemyError as error:
        raise _trouble(engine, error) from error


def upgrade(engine: Engine) -> str | None:
    """Bring the database to `REVISION`; returns what it stood at.

    :raises StoreAway: where it does not answer now.
    :raises StoreError: where it will not, is newer than this receiptd, or cannot be changed.
    """
    file = sqlite_file(str(engine.url))
    if file is not None and not file.exists():
        try:
            file.touch(_FILE_MODE)
        except OSError as error:
            raise StoreError(f"{file}: cannot be made: {error.strerror}") from None
    before = revision(engine)
    if before == REVISION:
        return before
    if before is not None and before > REVISION:
        raise StoreError(
            f"{shown(engine.url)}: the database is at revision {before}, this "
            f"receiptd knows {REVISION}: upgrade receiptd"
        )
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "receiptd:store/migrations")
    config.set_main_option("path_separator", "os")
    try:
        # Patient, since an index of a large table takes its time.
        with engine.execution_options(patient=True).begin() as connection:
            # Of two servers that start together the second waits above and finds it done here.
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except SQLAlchemyError as error:
        if isinstance(error, OperationalError) or may_pass(error):
            raise _trouble(engine, error) from error
        raise StoreError(
            f"{shown(engine.url)}: the database cannot be brought to revision "
            f"{REVISION}: {cause(error)}. What its role may not do, another one may: run "
            "receiptd db upgrade with --database and that one's URL"
        ) from error
    return before


def require(engine: Engine) -> None:
    """See that the database stands at `REVISION`.

    :raises StoreAway: where it does not answer now.
    :raises StoreError: where it does not, with the command that mends it.
    """
    found = revision(engine)
    if found != REVISION:
        stands = f"at revision {found}" if found else "empty"
        raise StoreError(
            f"{shown(engine.url)}: the database is {stands}, this receiptd needs "
            f"{REVISION}: run receiptd db upgrade"
        )


def unreachable(engine: Engine, error: SQLAlchemyError) -> str:
    """A sentence for a database that does not answer; the password stays out of it."""
    return f"{shown(engine.url)}: the database does not answer: {_said(error)}"


def cause(error: BaseException) -> str:
    """What the database itself says, in one line: without the statement, which may be long."""
    text = _said(error)
    return text.splitlines()[0] if text else type(error).__name__


def _said(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error).strip()


def _trouble(engine: Engine, error: SQLAlchemyError) -> StoreError:
    kind = StoreAway if may_pass(error) else StoreError
    return kind(unreachable(engine, error))


_PASSING_SQLITE = (5, 6, 13)
"""SQLITE_BUSY, SQLITE_LOCKED, SQLITE_FULL."""

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
"""Of a connection that was not made only a text tells why. In these words it is somebody's to
mend; in others, or in another language, it is taken to pass: a server that starts and spools
loses no receipt, and has it in its log."""


def sqlite_code(error: BaseException) -> int | None:
    """SQLite's primary result code; None where the error is none of SQLite's."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    return code & 0xFF if code is not None else None  # extended codes have more above


def may_pass(error: SQLAlchemyError) -> bool:
    """Whether a database that has failed so may answer later without anything being mended in
    the configuration: it is away, starts, stops, is full or locked. So may a host name that is
    not known: where containers come and go, their names do too."""
    if not isinstance(error, DBAPIError):
        return False
    code = sqlite_code(error)
    if code is not None:
        return code in _PASSING_SQLITE
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return str(state).startswith(_PASSING_STATES)
    text = str(error.orig)
    return isinstance(error, OperationalError) and not any(each in text for each in _LASTING)


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


def _run(
    connection: Connection,
    query: str,
    parameters: Sequence[object],
    result: Callable[[Any], Any],
) -> Any:
    driver = connection.dialect.loaded_dbapi
    cursor = connection.connection.cursor()
    try:
        cursor.execute(query, parameters)
        return result(cursor)
    except driver.Error as error:
        raise DBAPIError.instance(
            query, tuple(parameters), error, driver.Error, dialect=connection.dialect
        ) from error
    finally:
        cursor.close()


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
        """:raises StoreError: where another server has it."""
        if self._path is None:
            return
        try:
            file = self._path.open("a+")
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            database = str(self._path).removesuffix("-lock")
            raise StoreError(
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
