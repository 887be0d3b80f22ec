"""The statistics service: counts what an older receiptd stored, and gives up messages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from receiptd.daemon.periodic import Periodic
from receiptd.store.candidates import Policy
from receiptd.store.database.errors import StoreError
from receiptd.store.database.single_run import Elsewhere
from receiptd.store.giving_up import GivingUp
from receiptd.store.statistics_fill import FillIn

FIRST = 5.0
"""Seconds from the start to the first run."""

EVERY = 60.0
"""Seconds from the end of a run to the next one."""

_log = Logger(namespace="receiptd.statistics")


class StatisticsService(Periodic):
    """Does both in a thread beside the reactor's; one run at a time."""

    first = FIRST
    every = EVERY

    def __init__(
        self,
        reactor: Any,
        engine: Engine,
        policies: Mapping[str, Policy],
        unfinished_after: timedelta | None,
    ) -> None:
        """
        :param engine: opened for writing.
        :param policies: see `renew`.
        """
        super().__init__(reactor)
        self._engine = engine
        self._filled = False
        self._failing = False
        self.renew(policies, unfinished_after)

    def renew(self, policies: Mapping[str, Policy], unfinished_after: timedelta | None) -> None:
        """Go by a new configuration, from the next run on.

        :param policies: by endpoint name.
        :param unfinished_after: so long after its registration a message without a final state
            is given up; None: never.
        """
        self._policies = policies
        self._unfinished_after = unfinished_after

    def run(self) -> Deferred[None] | None:
        """Count what is not counted yet, and give up what is due."""
        if self._filled and self._unfinished_after is None:
            return None
        done: Deferred[None] = deferToThreadPool(
            self._reactor,
            self._reactor.getThreadPool(),
            self._work,
            self._policies,
            self._unfinished_after,
        )
        return done.addCallbacks(self._done, self._failed)

    def _work(self, policies: Mapping[str, Policy], unfinished_after: timedelta | None) -> None:
        """Called in a thread of the reactor's pool."""
        if not self._filled:
            try:
                found = FillIn(self._engine, policies, stop=self._stop).run()
                self._filled = not self._stop.is_set()
                if found and self._filled:
                    _log.info("all that an older version stored is counted in the statistics")
            except Elsewhere:
                pass  # another worker's: one is enough
        if unfinished_after is not None and not self._stop.is_set():
            now = datetime.now(UTC)
            try:
                count = GivingUp(self._engine, now - unfinished_after, now, stop=self._stop).run()
            except Elsewhere:
                return
            if count:
                _log.info(
                    "gave up {count} messages: no final state within store.unfinished_after",
                    count=count,
                )

    def _done(self, _: None) -> None:
        self._failing = False

    def _failed(self, failure: Failure) -> None:
        if not failure.check(StoreError, SQLAlchemyError):
            _log.failure("counting in the statistics", failure=failure)
            return
        if not self._failing:
            cause = getattr(failure.value, "orig", None) or failure.value
            _log.warn("counting in the statistics: {cause}; it goes on later", cause=cause)
        self._failing = True
