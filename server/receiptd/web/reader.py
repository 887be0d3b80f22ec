"""Reading the store in threads of its own, so that neither the reactor nor the writer waits."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, event
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from receiptd.store.database.engine import open_engine
from receiptd.store.database.errors import AWAY, StoreAway, cause

THREADS = 4

MOST_WAITING = 64
"""Reads that may wait for a thread before others are turned away."""

LONGEST = 10
"""Seconds after which PostgreSQL gives a statement up."""

SHUTDOWN_TIMEOUT = 5.0
"""Seconds that the server's end waits for reads that are under way."""

_log = Logger(namespace="receiptd.web")

T = TypeVar("T")


class Unavailable(Exception):
    """A read that was not made: too many wait, or the database does not answer. The same read
    will do in a while."""


class Reader:
    """Reads, a few at a time, with an engine of its own that writes nothing."""

    def __init__(self, reactor: Any, url: str, name: str, threads: int = THREADS) -> None:
        self._reactor = reactor
        self.engine = open_engine(url, writes=False)
        if self.engine.dialect.name == "postgresql":
            event.listen(self.engine, "begin", _limit)
        # A thread is made when there is something to read. One that a database never answers
        # must not keep the process from ending.
        self._pool = ThreadPool(0, threads, name)
        self._pool.threadFactory = _Daemon
        self._most = threads + MOST_WAITING
        self._under_way = 0
        self._away = False
        self._idle: Deferred[None] | None = None

    @property
    def database(self) -> str:
        """Which database it is: `sqlite` or `postgresql`."""
        return self.engine.dialect.name

    def start(self) -> None:
        """Begin to read what is asked for."""
        self._pool.start()

    def read(self, function: Callable[[Engine], T]) -> Deferred[T]:
        """What `function` returns, called in a thread. Fails with `Unavailable` where too many
        reads wait already, or where the database does not answer."""
        if self._under_way >= self._most:
            failed: Deferred[T] = Deferred()
            failed.errback(Unavailable("too many requests are being answered: try later"))
            return failed
        self._under_way += 1
        read: Deferred[T] = deferToThreadPool(self._reactor, self._pool, function, self.engine)
        return read.addCallbacks(self._answered, self._failed).addBoth(self._done)

    def _answered(self, result: T) -> T:
        self._away = False
        return result

    def _failed(self, failure: Failure) -> Any:
        if not isinstance(failure.value, AWAY):
            return failure
        # Once, and not for each who asks meanwhile; of one that is awaited the store tells.
        if not self._away and not isinstance(failure.value, StoreAway):
            self._away = True
            _log.error("the database does not answer: {error}", error=cause(failure.value))
        raise Unavailable("the database does not answer: try later")

    def _done(self, result: Any) -> Any:
        self._under_way -= 1
        if not self._under_way and self._idle:
            idle, self._idle = self._idle, None
            idle.callback(None)
        return result

    async def stop(self) -> None:
        """End once the reads under way are done, or after `SHUTDOWN_TIMEOUT` seconds."""
        if self._under_way:
            self._idle = Deferred()
            await self._idle.addTimeout(SHUTDOWN_TIMEOUT, self._reactor, lambda *_: None)
        if not self._under_way:
            self._pool.stop()
        self.engine.dispose()


def _limit(connection: Connection) -> None:
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{LONGEST}s'")


class _Daemon(Thread):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, daemon=True, **options)
