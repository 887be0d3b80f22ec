"""The handler of /metrics: what was counted, in the format that Prometheus reads."""

from __future__ import annotations

import platform
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, literal_column, select
from sqlalchemy.exc import SQLAlchemyError
from twisted.internet.defer import Deferred

from receiptd import __version__
from receiptd.metrics.counters import Metrics
from receiptd.metrics.workers import Shared, Total
from receiptd.store.forward_status import Status, statuses
from receiptd.store.schema import messages
from receiptd.web.operating.health import Look, Readiness, may_ask
from receiptd.web.problem import PRIVATE, answer_failure
from receiptd.web.reader import Reader
from receiptd.web.server.request import Request
from receiptd.web.token_auth import Guard

KEEP = 5.0
"""Seconds for which the oldest message's age need not be asked for again."""


class MetricsPage:
    """Answers what all workers of this server have counted."""

    def __init__(
        self,
        reactor: Any,
        metrics: Metrics,
        shared: Shared | None,
        guard: Guard,
        readiness: Readiness,
        reader: Reader,
        forward_folder: Callable[[], Path | None] = lambda: None,
    ) -> None:
        """
        :param shared: where the other workers' counts are; None: there are none.
        :param forward_folder: where the process that forwards tells what it has counted.
        """
        self._forward_folder = forward_folder
        self._statuses = Look(reactor, lambda: reader.read(destinations), KEEP)
        self._metrics = metrics
        self._shared = shared
        self._guard = guard
        self._readiness = readiness
        self._oldest = Look(reactor, lambda: reader.read(oldest_unfinished), KEEP)
        self._build = {
            "version": __version__,
            "python": platform.python_version(),
            "database": reader.database,
        }

    def handle(self, request: Request, rest: bytes) -> None:
        """Answer `request`, as soon as what must be looked up is there."""
        Deferred.fromCoroutine(self._answer(request, rest)).addErrback(answer_failure, request)

    async def _answer(self, request: Request, rest: bytes) -> None:
        self._guard.check(request, "read", "/metrics")
        if not may_ask(request, rest):
            return
        await self._readiness.find_out()
        oldest = await self._oldest.ask()
        found = await self._statuses.ask()
        folder = self._forward_folder()
        # Imported here, since no receipt should wait for it at the start.
        from receiptd.forward.metrics import read
        from receiptd.metrics.exposition import Exposition
        from receiptd.web.operating.forward_metrics import families

        told = read(folder) if folder is not None else None
        more = [*families(told, found or []), _certificate(self._readiness.certificate)]
        page = Exposition(self._metrics, self._total(), self._build, oldest, more)
        body, content_type = page.encoded(request.header(b"Accept"))
        request.answer(200, body, content_type.encode(), (PRIVATE,))

    def _total(self) -> Total:
        snapshot = self._metrics.snapshot()
        if self._shared is None:
            return Total([snapshot])
        # First told, then shown: so nothing is ever shown that a crash would take back.
        self._shared.write(snapshot)
        return Total([snapshot | {"worker": self._shared.worker}, *self._shared.others()])


def _certificate(expires: Callable[[], datetime] | None) -> Any:
    """The family of the TLS certificate's end; without a value where there is no TLS."""
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(
        "receiptd_tls_certificate_expires_timestamp_seconds",
        "When the certificate of server.tls ends, in seconds since 1970.",
    )
    if expires is not None:
        family.add_metric([], expires().timestamp())
    return family


def destinations(engine: Engine) -> list[Status] | None:
    """How the destinations are; None where the database does not answer. In a thread."""
    try:
        with engine.connect() as connection:
            return statuses(connection)
    except SQLAlchemyError:
        return None


def oldest_unfinished(engine: Engine) -> float | None:
    """The age in seconds of the oldest message without a final state, 0 where all have one; None
    where the database does not answer. In a thread; one step in the index of these messages, whose
    ids are in the order of time."""
    columns = messages.c
    pending = select(columns.registered_at).where(literal_column("NOT final"))
    statement = pending.order_by(columns.id).limit(1)
    try:
        with engine.connect() as connection:
            registered = connection.execute(statement).scalar()
    except SQLAlchemyError:
        return None
    return max(0.0, (datetime.now(UTC) - registered).total_seconds()) if registered else 0.0
