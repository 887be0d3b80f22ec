"""All destinations of a configuration: a sender for each, and the database for all of them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from threading import Thread
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from receiptd.config import Config, Forward
from receiptd.forward.metrics import ForwardMetrics
from receiptd.forward.sender import Sender
from receiptd.store import event_reader
from receiptd.store.database.engine import open_engine
from receiptd.store.database.errors import StoreError, cause
from receiptd.store.database.write_turns import WriteTurns

AWAIT = 1.0
"""Seconds between two looks for a database that does not answer at the start."""

SHARE = 0.2
"""Of the time, how much forwarding may keep others from writing."""

TURN_TIMEOUT = 8.0
"""Seconds that a turn to write is waited for: less than a lease holds."""

_log = Logger(namespace="receiptd.forward")

T = TypeVar("T")


class Store:
    """The database, used in threads: two that read, and one that writes."""

    def __init__(self, reactor: Any, url: str) -> None:
        self._reactor = reactor
        self._reading = open_engine(url, writes=False)
        self._writing = open_engine(url)
        self._turns = WriteTurns(self._writing, share=SHARE, patience=TURN_TIMEOUT)
        self._readers = _pool(2, "forward-read")
        self._writers = _pool(1, "forward-write")

    def start(self) -> None:
        """Begin."""
        self._readers.start()
        self._writers.start()

    def read(self, function: Callable[[Connection], T]) -> Deferred[T]:
        """What `function` returns, in a transaction that only reads."""

        def run() -> T:
            with self._reading.connect() as connection:
                return function(connection)

        return deferToThreadPool(self._reactor, self._readers, run)

    def write(self, function: Callable[[Connection], T]) -> Deferred[T]:
        """What `function` returns, in a transaction that may write; after its commit."""
        return deferToThreadPool(self._reactor, self._writers, self._turns.take, function)

    def stop(self) -> None:
        """End; what is under way is not waited for."""
        self._reading.dispose()
        self._writing.dispose()


def _pool(threads: int, name: str) -> ThreadPool:
    pool = ThreadPool(0, threads, name)
    pool.threadFactory = _Daemon
    return pool


class _Daemon(Thread):
    """One that a database never answers must not keep the process from ending."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, daemon=True, **options)


class Forwarder:
    """Sends what the configuration names to where it says."""

    def __init__(self, reactor: Any, config: Config, metrics: ForwardMetrics) -> None:
        self._reactor = reactor
        self._config = config
        self._metrics = metrics
        self._database = Store(reactor, config.store.url)
        self._owner = f"{socket.gethostname()} process {os.getpid()}"
        self._senders: dict[str, Sender] = {}
        self._store: str | None = None
        self._stopping = False
        self._applying: Deferred[None] | None = None

    def start(self) -> None:
        """Begin as soon as the database answers."""
        self._database.start()
        self._find_store()

    def _find_store(self) -> None:
        if not self._stopping:
            self._database.read(event_reader.log).addCallbacks(self._found, self._not_found)

    def _found(self, log: event_reader.Log) -> None:
        self._store = log.store
        self._apply()

    def _not_found(self, failure: Any) -> None:
        # The server says what is wrong with the database; it may have to be made yet.
        if not failure.check(SQLAlchemyError, StoreError):
            _log.failure("forwarding", failure=failure)
        else:
            _log.debug("forwarding waits: {error}", error=cause(failure.value))
        self._reactor.callLater(AWAIT, self._find_store)

    def renew(self, config: Config) -> None:
        """Go by a new configuration."""
        self._config = config
        if self._store is not None:
            self._apply()

    def _apply(self) -> None:
        """Have a sender for each destination, one change after the other."""
        before, self._applying = self._applying, Deferred()
        after = self._applying

        async def apply() -> None:
            if before is not None:
                await before
            try:
                await self._change()
            finally:
                after.callback(None)

        Deferred.fromCoroutine(apply()).addErrback(
            lambda failure: _log.failure("forwarding", failure=failure)
        )

    async def _change(self) -> None:
        if self._stopping:
            return
        wanted = {each.name: each for each in self._config.forward}
        for name, sender in list(self._senders.items()):
            if name not in wanted:
                del self._senders[name]
                await sender.stop()
                _log.info(
                    "{name}: not configured any more: it keeps its place and its dead letters "
                    "until: receiptd forward forget {name}",
                    name=name,
                )
            elif not sender.renew(wanted[name]):
                del self._senders[name]
                await sender.stop()
        for name, config in wanted.items():
            if name not in self._senders and not self._stopping:
                try:
                    await self._begin(config)
                except Exception:
                    _log.failure("{name}: cannot begin", name=name)

    async def _begin(self, config: Forward) -> None:
        assert self._store is not None
        sender = Sender(
            config,
            config.kind(config, self._reactor),
            self._database,
            self._reactor,
            self._metrics,
            store=self._store,
            owner=self._owner,
        )
        self._senders[config.name] = sender
        await sender.start()

    def stop(self, patience: float) -> Deferred[Any]:
        """End; fires when how far it has come is written.

        :param patience: seconds to wait for answers.
        """
        self._stopping = True
        ends = [
            Deferred.fromCoroutine(each.stop(patience)).addErrback(
                lambda failure: _log.failure("ending", failure=failure)
            )
            for each in self._senders.values()
        ]
        return DeferredList(ends).addCallback(lambda _: self._database.stop())
