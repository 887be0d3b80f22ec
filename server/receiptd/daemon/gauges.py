"""The gauges of one process: values that are read when /metrics is asked for."""

from __future__ import annotations

from collections.abc import Callable

from receiptd.metrics.counters import Gauge
from receiptd.pipeline import Pipeline
from receiptd.store.writer import Writer
from receiptd.web.operating.health import Readiness
from receiptd.web.server.site import Site


def gauges(
    site: Site,
    pipeline: Pipeline,
    writer: Writer,
    readiness: Readiness,
    spool_limit: Callable[[], int],
    held: Callable[[], int],
) -> list[Gauge]:
    """The gauges of the process that these belong to.

    :param spool_limit: the bytes that the spool may take, by the configuration in force.
    :param held: how many old receipts stay for a destination's sake.
    """
    return [
        Gauge(
            "receiptd_queue_depth",
            "Posts that wait to be stored.",
            lambda: pipeline.waiting,
        ),
        Gauge(
            "receiptd_connections",
            "Open connections of clients.",
            lambda: len(site.connections),
        ),
        Gauge(
            "receiptd_spool_records",
            "Posts in the spool that are not in the database yet.",
            lambda: writer.backlog.records,
        ),
        Gauge(
            "receiptd_spool_set_aside",
            "Records in the spool's folder that could not be stored and were set aside.",
            lambda: writer.backlog.set_aside,
            max,
        ),
        Gauge(
            "receiptd_retention_held_receipts",
            "Receipts older than store.keep that stay, since a destination still needs them.",
            held,
            max,
        ),
        Gauge(
            "receiptd_spool_bytes",
            "Bytes of the posts in the spool.",
            lambda: writer.backlog.bytes,
        ),
        Gauge(
            "receiptd_spool_limit_bytes",
            "How many bytes the spools of all workers may take together.",
            spool_limit,
            max,
        ),
        Gauge(
            "receiptd_degraded",
            "Whether any worker writes posts to the spool.",
            lambda: writer.backlog.since is not None,
            max,
        ),
        Gauge(
            "receiptd_ready",
            "Whether every worker can store receipts, as /readyz answers.",
            lambda: readiness.latest().ready,
            min,
        ),
    ]
