"""Metrics of forwarding, as prometheus-client takes them: what the process that forwards has
counted, and how the destinations are by what the database says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from receiptd.forward.metrics import ForwardMetrics
from receiptd.store.forward_status import Status


def families(told: Mapping[str, Any] | None, statuses: Sequence[Status]) -> Iterator[Metric]:
    """All of them.

    :param told: what `forward.metrics.read` gave.
    :param statuses: of the destinations.
    """
    ours = ForwardMetrics()
    for counts in ours.counts:
        family = CounterMetricFamily(counts.name, counts.text, labels=counts.labels)
        for labels, value in (told or {}).get("counts", {}).get(counts.name, ()):
            family.add_metric([str(each) for each in labels], value)
        yield family
    for histogram in ours.histograms:
        histograms = HistogramMetricFamily(histogram.name, histogram.text, labels=["destination"])
        bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
        tallies = (told or {}).get("tallies", {}).get(histogram.name, {})
        for label, (*tally, total) in sorted(tallies.items()):
            buckets, count = [], 0.0
            for bound, more in zip(bounds, tally, strict=True):
                count += more
                buckets.append((bound, count))
            histograms.add_metric([label], buckets, total)
        yield histograms
    in_flight = GaugeMetricFamily(
        "receiptd_forward_in_flight", "Requests that are under way.", labels=["destination"]
    )
    for name, number in (told or {}).get("in_flight", {}).items():
        in_flight.add_metric([name], number)
    yield in_flight
    now = datetime.now(UTC)
    for name, text, value in (
        (
            "waiting",
            "Events that are not dealt with; of what was not looked at, those that filters leave "
            "out count as well.",
            lambda each: each.waiting,
        ),
        (
            "oldest_waiting_seconds",
            "Since the oldest of them happened; 0 where none waits.",
            lambda each: max((now - each.oldest_at).total_seconds(), 0) if each.oldest_at else 0,
        ),
        ("dead", "Dead letters, which wait for a person.", lambda each: each.dead),
        (
            "breaker_open",
            "Whether the destination fails, so that it is only tried now and then.",
            lambda each: each.state == "failing",
        ),
        ("paused", "Whether the destination is paused.", lambda each: each.state == "paused"),
        (
            "stopped",
            "Whether no process forwards to the destination.",
            lambda each: each.state == "stopped",
        ),
    ):
        gauge = GaugeMetricFamily(f"receiptd_forward_{name}", text, labels=["destination"])
        for each in statuses:
            gauge.add_metric([each.name], value(each))
        yield gauge
