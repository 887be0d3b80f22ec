"""What is counted for Prometheus: cheap to count, and right where several processes serve.

Counting is a look-up in a dictionary: thousands of receipts are counted each second, and the
counters of prometheus-client, which take a lock, cost four times as much, and twelve times where
processes share them through mapped files. That library writes the format (`web/exposition.py`).

Where a supervisor runs several workers, it names a folder in `_RECEIPTD_METRICS_FOLDER`. Each
worker takes a number there, and once a second writes what it has counted to a file of that number
(`Shared`); whichever worker is asked adds the others' files to its own. A worker that is started
in place of a dead one takes over its number and goes on from its counts, so that no sum ever falls
back, which Prometheus would take for a restart and count everything again.
"""

from __future__ import annotations

import fcntl
import json
import os
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import IO, Any, NamedTuple, TypeAlias

from twisted.logger import Logger

from receiptd import __version__

FOLDER_VARIABLE = "_RECEIPTD_METRICS_FOLDER"
"""Names the folder that the workers of one supervisor share;
whoever starts the workers makes it, empty, and deletes it. It is no key of the configuration."""

FRESH = 10.0
"""Seconds for which a worker that has not written is taken to live."""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)

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
    """How often values were at most so large, for each value of a label or in all."""

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
    """What is so many now: read when it is asked for."""

    name: str
    text: str
    read: Callable[[], float]
    join: Callable[[Iterable[float]], float] = sum
    """Makes one of the workers' values."""


class Metrics:
    """All that one process counts."""

    def __init__(self) -> None:
        self.receipts = Counts(
            "receiptd_receipts_total",
            "Receipts that were acknowledged, by what they say and what became of them.",
            *("endpoint", "provider", "kind", "state", "verdict"),
        )
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
        """Have an endpoint seen before anything comes to it."""
        self.requests.tallies[endpoint]
        for reason in ("invalid", "unauthorized", "unreadable", "busy"):
            self.rejected[endpoint, reason] += 0
        self.ignored[(endpoint,)] += 0

    def stored(self, size: int, seconds: float) -> None:
        """That a batch of `size` posts is on disk; for the writer's thread."""
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
        """Count on from what another process had counted."""
        for counts in self.counts:
            for labels, value in earlier["counts"].get(counts.name, ()):
                counts[tuple(labels)] += value
        for histogram in self.histograms:
            for label, tally in earlier["tallies"].get(histogram.name, {}).items():
                ours = histogram.tallies[label]
                ours[:] = [one + other for one, other in zip(ours, tally, strict=True)]


class Total:
    """What several processes have counted together."""

    def __init__(self, snapshots: Iterable[Snapshot]) -> None:
        self.counts: dict[str, dict[Labels, int]] = {}
        self.tallies: dict[str, dict[str, list[float]]] = {}
        self.gauges: dict[str, list[float]] = {}
        self.processes: dict[int, int] = {}
        """The numbers of the processes that live, by worker."""
        for worker, snapshot in enumerate(snapshots):
            self._add(snapshot.get("worker", worker), snapshot)

    def _add(self, worker: int, snapshot: Snapshot) -> None:
        for name, values in snapshot["counts"].items():
            counts = self.counts.setdefault(name, {})
            for labels, value in values:
                counts[tuple(labels)] = counts.get(tuple(labels), 0) + value
        for name, tallies in snapshot["tallies"].items():
            ours = self.tallies.setdefault(name, {})
            for label, tally in tallies.items():
                before = ours.get(label)
                ours[label] = (
                    [one + other for one, other in zip(before, tally, strict=True)]
                    if before
                    else tally
                )
        if abs(monotonic() - snapshot["at"]) < FRESH:
            self.processes[worker] = snapshot["pid"]
            for name, value in snapshot["gauges"].items():
                self.gauges.setdefault(name, []).append(value)


class Shared:
    """The folder in which the workers of one supervisor tell each other what they have counted.

    `worker-3.json` is what the worker of number 3 has counted, written as a whole. The number is
    whose lock on `worker-3.lock` one has: it is free again as soon as its process has ended.
    """

    def __init__(self, folder: Path) -> None:
        """Take a number.

        :raises OSError: where the folder cannot be used.
        """
        self._folder = folder
        self.worker, self._lock = _numbered(folder)
        self._failing = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Shared | None:
        """The folder that the environment names; None where it names none, or one that cannot
        be used: metrics are no reason not to take receipts."""
        folder = environment.get(FOLDER_VARIABLE)
        if not folder:
            return None
        try:
            return cls(Path(folder))
        except OSError as error:
            _log.error(
                "{variable} names {folder}, which cannot be used: {error}. Each worker's "
                "/metrics tells of that worker alone",
                variable=FOLDER_VARIABLE,
                folder=folder,
                error=error,
            )
            return None

    def earlier(self) -> Snapshot | None:
        """What the worker that had this number before had counted."""
        return self._read(self._path(self.worker))

    def write(self, snapshot: Snapshot) -> None:
        """Tell the others."""
        path = self._path(self.worker)
        unfinished = path.with_suffix(".new")
        try:
            unfinished.write_text(json.dumps(snapshot))
            unfinished.replace(path)
            self._failing = False
        except OSError as error:
            if not self._failing:
                _log.error("{path} cannot be written: {error}", path=path, error=error)
            self._failing = True

    def others(self) -> list[Snapshot]:
        """What the others have told, those that have ended too."""
        ours = self._path(self.worker)
        found = []
        for path in sorted(self._folder.glob("worker-*.json")):
            if path != ours and (snapshot := self._read(path)) is not None:
                found.append(snapshot)
        return found

    def close(self, last: Snapshot) -> None:
        """Leave what was counted to be added up, and let another have the number."""
        self.write(last | {"gauges": {}, "at": -FRESH})
        self._lock.close()

    def _path(self, worker: int) -> Path:
        return self._folder / f"worker-{worker}.json"

    @staticmethod
    def _read(path: Path) -> Snapshot | None:
        # It may be gone by now, or be something else.
        with suppress(OSError, ValueError, TypeError, KeyError):
            snapshot: Snapshot = json.loads(path.read_bytes())
            # Another version may count other things, and in other buckets.
            if snapshot["version"] == __version__:
                return snapshot | {"worker": int(path.stem.removeprefix("worker-"))}
        return None


def _numbered(folder: Path) -> tuple[int, IO[str]]:
    """The smallest number that no living process has, and the file whose lock says so."""
    folder.mkdir(exist_ok=True)
    worker = 0
    while True:
        # Its owner's alone: whoever may read it could lock it.
        descriptor = os.open(folder / f"worker-{worker}.lock", os.O_WRONLY | os.O_CREAT, 0o600)
        file = os.fdopen(descriptor, "w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return worker, file
        except BlockingIOError:
            file.close()
            worker += 1
