"""The retention service: deletes what is older than the configuration keeps, every hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from receiptd.store.database.errors import StoreError
from receiptd.store.retention import Elsewhere, Pruned, Pruning

FIRST = 60.0
"""Seconds from the start to the first run."""

EVERY = 3600.0
"""Seconds from the end of a run to the next one."""

_log = Logger(namespace="receiptd.retention")


class RetentionService(Service):
    """Deletes what is old, in a thread beside the reactor's; one run at a time."""

    def __init__(self, reactor: Any, engine: Engine, keep: timedelta) -> None:
        """
        :param engine: opened for writing.
        :param keep: how long things are kept.
        """
        self._reactor = reactor
        self._engine = engine
        self._keep = keep
        self._stop = Event()
        self._next: Any = None
        self._run: Deferred[None] | None = None
        self.held = 0
        """Old receipts that the last run has left, since a destination still needs them."""

    def startService(self) -> None:
        """Have the first run in a while: not in the middle of the start."""
        super().startService()
        self._stop.clear()
        self._next = self._reactor.callLater(FIRST, self._begin)

    def stopService(self) -> Deferred[None] | None:
        """End the run that is under way, which takes no longer than a transaction."""
        super().stopService()
        self._stop.set()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        return self._run

    def _begin(self) -> None:
        self._next = None
        pruning = Pruning(self._engine, datetime.now(UTC) - self._keep, stop=self._stop)
        done: Deferred[Pruned] = deferToThreadPool(
            self._reactor, self._reactor.getThreadPool(), pruning.run
        )
        self._run = done.addCallbacks(self._done, self._failed, callbackArgs=(pruning,))
        self._run.addCallback(self._again)

    def _done(self, pruned: Pruned, pruning: Pruning) -> None:
        self.held = pruned.held
        if pruned.held:
            _log.warn(
                "{held} receipts are older than store.keep and stay, since a destination has not "
                "been told of them yet: see receiptd forward status",
                held=pruned.held,
            )
        _log.info(
            "deleted what came before {before}: {pruned}",
            before=f"{pruning.before:%Y-%m-%dT%H:%M:%SZ}",
            pruned=pruned,
        )

    def _failed(self, failure: Failure) -> None:
        if failure.check(Elsewhere):
            return  # another worker's, or the command line's: one is enough
        if not failure.check(StoreError, SQLAlchemyError):
            _log.failure("deleting what is old", failure=failure)
            return
        cause = getattr(failure.value, "orig", None) or failure.value
        _log.warn("deleting what is old: {cause}; it goes on in an hour", cause=cause)

    def _again(self, _: None) -> None:
        self._run = None
        if self.running:
            self._next = self._reactor.callLater(EVERY, self._begin)
