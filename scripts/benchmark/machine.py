"""The machine that is measured on: its cores, its disk, and what else it is doing."""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import interpreter

TICKS = os.sysconf("SC_CLK_TCK")
"""Units of CPU time a second, in /proc."""

_IDLE = (3, 4)
"""The columns of /proc/stat's first line that are no work: idle, and waiting for a disk."""


class Cores(NamedTuple):
    """Who runs where; None: wherever the system likes."""

    server: int | None
    load: int | None

    @property
    def text(self) -> str:
        """For people."""
        if self.server is None:
            return "not pinned, since there are fewer than two: the load takes from the server"
        return f"server on core {self.server}, load on core {self.load}"


def choose_cores() -> Cores:
    """A core for the server and another for the load, of those that this process may use."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[1]) if len(usable) > 1 else Cores(None, None)


def pin(core: int | None) -> None:
    """Keep this thread, and what it starts, on `core`."""
    if core is not None:
        os.sched_setaffinity(0, {core})


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Keep this thread, and the threads it starts, on `core` for a while."""
    before = os.sched_getaffinity(0)
    pin(core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def filesystem(folder: Path) -> str:
    """The type of the file system that `folder` is on."""
    mounts = []
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mounted_on, kind, *_ = line.split()
        if folder.is_relative_to(mounted_on.replace("\\040", " ")):
            mounts.append((len(mounted_on), kind))
    return max(mounts)[1] if mounts else "unknown"


def fsync_microseconds(folder: Path, times: int = 100) -> float:
    """How long it takes, in the middle, until 4 kB more of a file are on disk."""
    found = []
    path = folder / "fsync"
    with path.open("wb", buffering=0) as file:
        for _ in range(times):
            file.write(bytes(4096))
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            found.append(time.perf_counter() - begun)
    path.unlink()
    return statistics.median(found) * 1e6


def busy_seconds() -> float:
    """CPU time that all processes together have used since the machine started."""
    columns = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    return sum(int(ticks) for i, ticks in enumerate(columns) if i not in _IDLE) / TICKS


def description(folder: Path, cores: Cores) -> list[str]:
    """What a reader of the figures should know of where they were measured."""
    kind = filesystem(folder)
    lines = [
        f"{platform.system()} {platform.release()}, {os.cpu_count()} cores ({cores.text}), "
        f"load average {os.getloadavg()[0]:.1f}",
        interpreter.description(),
        f"database in {folder} ({kind}), fsync of 4 kB there: {fsync_microseconds(folder):.0f} µs",
    ]
    if kind in ("tmpfs", "ramfs"):
        lines.append(
            "WARNING: that is no disk, so a commit costs nothing and the figures are too good; "
            "name a folder on a disk with BENCH_DIR"
        )
    if not interpreter.optimized():
        lines.append(
            "WARNING: this Python was built without profile-guided optimization and takes a fifth "
            "to a quarter longer; name a distribution's Python with PYTHON"
        )
    return lines
