"""What was counted, as prometheus-client takes it: families of samples. Imported by whoever reads
/metrics, so that a start does not wait for that library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from receiptd.metrics.counters import Histogram, Metrics
from receiptd.metrics.workers import Total


class Exposition(Collector):
    """All families of one answer."""

    def __init__(
        self,
        metrics: Metrics,
        total: Total,
        build: dict[str, str],
        oldest: float | None,
        more: Iterable[Metric] = (),
    ) -> None:
        """
        :param metrics: says what the counters are called and for.
        :param total: their values, of all workers.
        :param oldest: the age in seconds of the oldest message without a final state; None where
            it could not be found out.
        :param more: further families.
        """
        self._more = more
        self._metrics = metrics
        self._total = total
        self._build = build
        self._oldest = oldest

    def encoded(self, accept: str) -> tuple[bytes, str]:
        """The page and its content type.

        :param accept: the header of that name.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self), content_type

    def collect(self) -> Iterable[Metric]:
        """The families."""
        yield from self._counts()
        for histogram in self._metrics.histograms:
            yield self._histogram(histogram)
        for gauge in self._metrics.gauges:
            value = gauge.join(self._total.gauges[gauge.name])
            yield GaugeMetricFamily(gauge.name, gauge.text, value)
        yield GaugeMetricFamily(
            "receiptd_workers", "Processes that serve.", len(self._total.processes)
        )
        oldest = GaugeMetricFamily(
            "receiptd_oldest_unfinished_message_seconds",
            "Since the oldest message without a final state was registered; 0 where all have one.",
        )
        if self._oldest is not None:
            oldest.add_metric([], self._oldest)
        yield oldest
        build = GaugeMetricFamily(
            "receiptd_build_info", "What this receiptd is.", labels=list(self._build)
        )
        build.add_metric(list(self._build.values()), 1)
        yield build
        yield from self._more
        yield from self._processes()

    def _counts(self) -> Iterator[Metric]:
        for counts in self._metrics.counts:
            family = CounterMetricFamily(counts.name, counts.text, labels=counts.labels)
            values = self._total.counts[counts.name]
            for labels in sorted(values, key=str):
                family.add_metric([str(label) for label in labels], values[labels])
            yield family

    def _histogram(self, histogram: Histogram) -> Metric:
        family = HistogramMetricFamily(
            histogram.name,
            histogram.text,
            labels=[histogram.label] if histogram.label is not None else [],
        )
        tallies = self._total.tallies[histogram.name]
        bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
        for label in sorted(tallies):
            *tally, total = tallies[label]
            buckets = []
            count = 0.0
            for bound, more in zip(bounds, tally, strict=True):
                count += more
                buckets.append((bound, count))
            family.add_metric([label] if histogram.label is not None else [], buckets, total)
        return family

    def _processes(self) -> Iterator[Metric]:
        """CPU time, memory, open files and start of each worker."""
        families: dict[str, Metric] = {}
        for worker, process in sorted(self._total.processes.items()):
            for found in ProcessCollector(pid=partial(int, process), registry=None).collect():
                family = families.setdefault(
                    found.name, Metric(found.name, found.documentation, found.type)
                )
                for sample in found.samples:
                    family.add_sample(sample.name, {"worker": str(worker)}, sample.value)
        yield from families.values()
