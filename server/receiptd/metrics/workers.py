"""What several processes have counted together, so that any of them can answer /metrics.

A supervisor of several workers names a folder in `_RECEIPTD_METRICS_FOLDER`. Each worker takes a
number there. Once a second it writes what it has counted to a file of that number (`Shared`). The
worker that is asked adds the files of the others to its own counts. A worker that replaces a dead
one takes over its number and goes on from its counts. So no sum ever falls: Prometheus would take
that for a restart, and count everything again.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import IO

from twisted.logger import Logger

from receiptd import __version__
from receiptd.metrics.counters import Labels, Snapshot

FOLDER_VARIABLE = "_RECEIPTD_METRICS_FOLDER"
"""Names the folder that the workers of one supervisor share. The supervisor makes it, empty, and
deletes it. It is not a key of the configuration."""

FRESH = 10.0
"""Seconds after its last write for which a worker counts as alive."""

_log = Logger(namespace="receiptd.metrics")


class Total:
    """What several processes have counted together."""

    def __init__(self, snapshots: Iterable[Snapshot]) -> None:
        self.counts: dict[str, dict[Labels, int]] = {}
        self.tallies: dict[str, dict[str, list[float]]] = {}
        self.gauges: dict[str, list[float]] = {}
        self.processes: dict[int, int] = {}
        """The process IDs of the living workers, by their number."""
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

    `worker-3.json` holds what worker 3 has counted; it is always replaced as a whole. The number
    belongs to the process that has the lock on `worker-3.lock`, until that process ends.
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
        """The folder that the environment names. None if it names none, or one that cannot be
        used: that must not keep the server from receiving."""
        folder = environment.get(FOLDER_VARIABLE)
        if not folder:
            return None
        try:
            return cls(Path(folder))
        except OSError as error:
            _log.error(
                "{variable} names {folder}, which cannot be used: {error}. Each worker's "
                "/metrics shows that worker only",
                variable=FOLDER_VARIABLE,
                folder=folder,
                error=error,
            )
            return None

    def earlier(self) -> Snapshot | None:
        """What the earlier worker of this number had counted; None if there was none."""
        return self._read(self._path(self.worker))

    def write(self, snapshot: Snapshot) -> None:
        """Write `snapshot` for the others."""
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
        """What the other workers have written, including those that have ended."""
        ours = self._path(self.worker)
        found = []
        for path in sorted(self._folder.glob("worker-*.json")):
            if path != ours and (snapshot := self._read(path)) is not None:
                found.append(snapshot)
        return found

    def close(self, last: Snapshot) -> None:
        """Leave the last counts to be added up, and free the number."""
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
    """The smallest number that no living process has, and its locked file."""
    folder.mkdir(exist_ok=True)
    worker = 0
    while True:
        # Only for its owner: a user who may read it could lock it.
        descriptor = os.open(folder / f"worker-{worker}.lock", os.O_WRONLY | os.O_CREAT, 0o600)
        file = os.fdopen(descriptor, "w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return worker, file
        except BlockingIOError:
            file.close()
            worker += 1
