"""What is counted for Prometheus: cheap to count, and right where several processes serve.

Counting is a look-up in a dictionary: thousands of receipts are counted each second, and the
counters of prometheus-client, which take a lock, cost four times as much, and twelve times where
processes share them through mapped files. That library writes the format (see
`metrics/exposition.py`). `metrics/workers.py` adds up what several processes have counted.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any, NamedTuple, TypeAlias

from twisted.logger import Logger

from receiptd import __version__

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)

MOST_CODES = 50
"""Codes of one endpoint that have a series of their own, in one process. The vendors' tables have
fewer, but for those that pass on each network's."""

LONGEST_CODE = 40
"""Characters of a code that is a label."""

OTHER = "other"

_log = Logger(namespace="receiptd.metrics")

Labels: TypeAlias = tuple[str | int, ...]

Snapshot: TypeAlias = dict[str, Any]
"""What one process has counted, as JSON has it: see `Metrics.snapshot`."""


class Counts(defaultdict[Labels, int]):
    """A counter: `counts["soap", "invalid"] += 1`, with a value for each label."""

    def __init__(self, name: str, text: str, *labels: str) -> None:
        super().__init__(int)
        self.name = name
        self.text = text
        self.labels = labels


class Histogram:
    """How many values were at most as large as each bound, for each value of a label."""

    def __init__(
        self, name: str, text: str, bounds: Sequence[float], label: str | None = None
    ) -> None:
        """
        :param bounds: upper bounds, ascending.
        """
        self.name = name
        self.text = text
        self.bounds = bounds
        self.label = label
        self.tallies: defaultdict[str, list[float]] = defaultdict(self._empty)
        """Of each label's value: how many are in each bucket, one more for those above all
        bounds, and last the sum. Without a label it is that of ''."""
        if label is None:
            self.tallies[""] = self._empty()

    def observe(self, value: float, label: str = "") -> None:
        """Count a value. For one thread at a time."""
        tally = self.tallies[label]
        tally[bisect_left(self.bounds, value)] += 1
        tally[-1] += value

    def _empty(self) -> list[float]:
        return [0] * (len(self.bounds) + 2)


class Gauge(NamedTuple):
    """A gauge: a value that is read on scrape."""

    name: str
    text: str
    read: Callable[[], float]
    join: Callable[[Iterable[float]], float] = sum
    """Makes one value of the values of all workers."""


class Metrics:
    """Everything that one process counts."""

    def __init__(self) -> None:
        self.receipts = Counts(
            "receiptd_receipts_total",
            "Receipts that were acknowledged, by what they say and what became of them.",
            *("endpoint", "provider", "kind", "state", "verdict", "code"),
        )
        self._codes: defaultdict[str, dict[str | None, str]] = defaultdict(lambda: {None: ""})
        self.rejected = Counts(
            "receiptd_rejected_posts_total",
            "Posts that were not taken as receipts: invalid, unauthorized and unreadable ones are "
            "kept, busy (503) and limited (429) ones are not.",
            *("endpoint", "reason"),
        )
        self.ignored = Counts(
            "receiptd_ignored_posts_total",
            "Posts that are no receipts and need not be, such as a provider's pings: answered as "
            "taken, and not kept.",
            "endpoint",
        )
        self.unread = Counts(
            "receiptd_unread_fields_total",
            "Values in stored receipts that could not be read, and are kept as they came.",
            *("endpoint", "field"),
        )
        self.faults = Counts(
            "receiptd_soap_faults_total", "SOAP faults sent, by faultcode.", "endpoint", "code"
        )
        self.responses = Counts(
            "receiptd_http_responses_total", "HTTP responses, whatever they answer.", "code"
        )
        self.log_lines_lost = Counts(
            "receiptd_log_lines_lost_total", "Lines of the log that could not be written."
        )
        self.log_lines_lost[()] = 0
        self.requests = Histogram(
            "receiptd_request_seconds",
            "From a post's last byte to its answer.",
            SECONDS,
            "endpoint",
        )
        self.batches = Histogram("receiptd_batch_size", "Posts stored in one transaction.", SIZES)
        self.commits = Histogram(
            "receiptd_commit_seconds",
            "From the writer's taking a batch to its being on disk, matching included.",
            SECONDS,
        )
        self.gauges: list[Gauge] = []
        self.counts: tuple[Counts, ...] = (
            *(
                self.receipts,
                self.rejected,
                self.ignored,
                self.unread,
                self.faults,
                self.responses,
                self.log_lines_lost,
            ),
        )
        self.histograms = (self.requests, self.batches, self.commits)

    def expect(self, endpoint: str) -> None:
        """Show an endpoint's counters, as 0, before its first post."""
        self.requests.tallies[endpoint]
        for reason in ("invalid", "unauthorized", "unreadable", "busy"):
            self.rejected[endpoint, reason] += 0
        self.ignored[(endpoint,)] += 0

    def code(self, endpoint: str, code: str | None) -> str:
        """A receipt's code as a label: the first `MOST_CODES` of an endpoint as they are, any
        further one as `other`. Codes come from outside, and each makes a series."""
        known = self._codes[endpoint]
        label = known.get(code)
        if label is None:
            if code is None or len(known) > MOST_CODES or len(code) > LONGEST_CODE:
                return OTHER
            label = known[code] = code if code.isprintable() else OTHER
        return label

    def stored(self, size: int, seconds: float) -> None:
        """Count a batch of `size` posts that is on disk. Called in the writer's thread."""
        self.batches.observe(size)
        self.commits.observe(seconds)

    def snapshot(self) -> Snapshot:
        """All of it, as JSON has it."""
        return {
            "version": __version__,
            "pid": os.getpid(),
            "at": monotonic(),
            "counts": {
                each.name: [[list(labels), value] for labels, value in each.items()]
                for each in self.counts
            },
            "tallies": {
                each.name: {label: list(tally) for label, tally in each.tallies.items()}
                for each in self.histograms
            },
            "gauges": {each.name: each.read() for each in self.gauges},
        }

    def go_on_from(self, earlier: Snapshot) -> None:
        """Go on from the counts of an earlier process."""
        for labels, _ in earlier["counts"].get(self.receipts.name, ()):
            self.code(labels[0], labels[-1] or None)
        for counts in self.counts:
            for labels, value in earlier["counts"].get(counts.name, ()):
                counts[tuple(labels)] += value
        for histogram in self.histograms:
            for label, tally in earlier["tallies"].get(histogram.name, {}).items():
                ours = histogram.tallies[label]
                ours[:] = [one + other for one, other in zip(ours, tally, strict=True)]
