"""The retention service: deletes what is older than the configuration keeps, every hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from receiptd.daemon.periodic import Periodic
from receiptd.store.database.errors import StoreError
from receiptd.store.retention import Elsewhere, Pruned, Pruning

FIRST = 60.0
"""Seconds from the start to the first run."""

EVERY = 3600.0
"""Seconds from the end of a run to the next one."""

_log = Logger(namespace="receiptd.retention")


class RetentionService(Periodic):
    """Deletes what is old, in a thread beside the reactor's; one run at a time."""

    first = FIRST
    every = EVERY

    def __init__(self, reactor: Any, engine: Engine, keep: timedelta) -> None:
        """
        :param engine: opened for writing.
        :param keep: how long things are kept.
        """
        super().__init__(reactor)
        self._engine = engine
        self._keep = keep
        self.held = 0
        """Old receipts that the last run has left, since a destination still needs them."""

    def run(self) -> Deferred[None]:
        """Delete what is old by now."""
        pruning = Pruning(self._engine, datetime.now(UTC) - self._keep, stop=self._stop)
        done: Deferred[Pruned] = deferToThreadPool(
            self._reactor, self._reactor.getThreadPool(), pruning.run
        )
        return done.addCallbacks(self._done, self._failed, callbackArgs=(pruning,))

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
