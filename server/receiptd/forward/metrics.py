"""What a sender process counts, and how it tells the processes that answer /metrics.

It writes a file as a whole once a second; whoever is asked for metrics reads it. The daemon makes
the file's folder, and names it where it starts the process. How much waits is not counted here:
the database says it.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from receiptd import __version__
from receiptd.metrics.counters import SECONDS, Counts, Histogram

FILE = "forward.json"

LAG_SECONDS = (*SECONDS, 60.0, 300.0, 1800.0, 7200.0, 86400.0)


class ForwardMetrics:
    """All that one sender process counts."""

    def __init__(self) -> None:
        self.events = Counts(
            "receiptd_forward_events_total",
            "Events by what became of an attempt: taken, failed (the destination's fault), "
            "refused (tried again on the schedule), dead, or filtered (not wanted there).",
            *("destination", "outcome"),
        )
        self.attempts = Histogram(
            "receiptd_forward_attempt_seconds",
            "From the beginning of a request to its answer.",
            SECONDS,
            "destination",
        )
        self.lag = Histogram(
            "receiptd_forward_lag_seconds",
            "From an event to its being taken.",
            LAG_SECONDS,
            "destination",
        )
        self.in_flight: dict[str, int] = {}
        """Requests that are under way, by destination."""
        self.counts = (self.events,)
        self.histograms = (self.attempts, self.lag)

    def expect(self, name: str) -> None:
        """Have a destination seen before anything is sent to it."""
        for outcome in ("taken", "failed", "refused", "dead", "filtered"):
            self.events[name, outcome] += 0
        for histogram in self.histograms:
            histogram.tallies[name]

    def write(self, folder: Path) -> None:
        """Tell what was counted.

        :raises OSError: where the folder cannot be written to.
        """
        text = json.dumps(
            {
                "version": __version__,
                "pid": os.getpid(),
                "counts": {
                    each.name: [[list(labels), value] for labels, value in each.items()]
                    for each in self.counts
                },
                "tallies": {
                    each.name: {label: list(tally) for label, tally in each.tallies.items()}
                    for each in self.histograms
                },
                "in_flight": self.in_flight,
            }
        )
        new = folder / f"{FILE}.new"
        new.write_text(text)
        new.replace(folder / FILE)

    def go_on_from(self, folder: Path) -> None:
        """Count on from what the process before had counted, so that no sum falls back."""
        earlier = read(folder)
        if earlier is None:
            return
        for counts in self.counts:
            for labels, value in earlier["counts"].get(counts.name, ()):
                counts[tuple(labels)] += value
        for histogram in self.histograms:
            for label, tally in earlier["tallies"].get(histogram.name, {}).items():
                ours = histogram.tallies[label]
                ours[:] = [one + other for one, other in zip(ours, tally, strict=True)]


def read(folder: Path) -> dict[str, Any] | None:
    """What the sender process has told; None where there is none."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        found: dict[str, Any] = json.loads((folder / FILE).read_bytes())
        if found["version"] == __version__:
            return found
    return None
