"""A task that one process at a time does on a database: several workers and machines share it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from sqlalchemy import Engine, func, select, text

from receiptd.store.database.engine import sqlite_file
from receiptd.store.database.errors import StoreTaken, shown
from receiptd.store.database.server_lock import open_lock


class Elsewhere(StoreTaken):
    """The task is under way already, in this process or another."""


class Task(NamedTuple):
    """What is done by one at a time."""

    key: int
    """PostgreSQL's advisory lock; any number nobody else uses."""
    suffix: str
    """Of the lock file beside SQLite's file."""
    elsewhere: str
    """What is said where another process does it."""


@contextmanager
def single_run(reader: Engine, url: str, task: Task) -> Iterator[None]:
    """Held by the one who does `task`. It ends with its process, however that ends.

    :param reader: opened for reading, on the database of `url`.
    :raises Elsewhere: where another one holds it.
    """
    file = sqlite_file(url)
    if file is None:
        # Of a transaction, not of a session, which is not ours alone behind a pooler. Between its
        # statements such a transaction keeps no row from being vacuumed (READ COMMITTED).
        with reader.connect() as connection:
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            takes = select(func.pg_try_advisory_xact_lock(task.key))
            if not connection.execute(takes).scalar_one():
                raise Elsewhere(f"{shown(reader.url)}: {task.elsewhere}")
            yield
        return
    with open_lock(file.with_name(file.name + task.suffix)) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Elsewhere(f"{file}: {task.elsewhere}") from None
        yield
