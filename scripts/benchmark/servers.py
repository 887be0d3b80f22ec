"""A server under measurement: started, found, watched by its CPU time and memory, ended."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmark.machine import TICKS, pin

PATIENCE = 20.0
"""Seconds that a server has for starting, and for ending."""

_ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)")


class Failed(Exception):
    """Something that could not be measured; the text says what and why."""


class Server:
    """A server in a process of its own, with whatever processes it starts itself."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        core: int | None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Start it. Its log, `folder`/log, is where it says which port it chose."""
        self.log = folder / "log"
        self.started = time.perf_counter()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(variables or {}),
                preexec_fn=partial(pin, core),
            )

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self._process.pid

    def wait_for_port(self) -> int:
        """The port that it listens on, as soon as it says so.

        :raises Failed: where it ends or says nothing.
        """
        end = time.monotonic() + PATIENCE
        while True:
            text = self.log.read_text(errors="replace")
            if found := _ADDRESS.search(text):
                return int(found[1])
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise Failed("the server does not serve")
            time.sleep(0.001)

    def cpu_seconds(self) -> float:
        """User and system time so far, of all its processes."""
        used = 0
        for pid in self._pids():
            # The command's name, in brackets, may hold spaces.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used += int(fields[11]) + int(fields[12])
        return used / TICKS

    def resident_megabytes(self) -> float:
        """Memory of its largest process, the one that serves."""
        return max(_resident(pid) for pid in self._pids())

    def stop(self) -> None:
        """Let it finish what it has begun and end; its processes are gone afterwards."""
        pids = self._pids() if self._process.poll() is None else []
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in pids[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _pids(self) -> list[int]:
        """Its own first, then those of its descendants."""
        found = [self.pid]
        for pid in found:
            with contextlib.suppress(OSError):  # it may end meanwhile
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += map(int, (task / "children").read_text().split())
        return found


def _resident(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without receiptd's own variables, and with `variables`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RECEIPTD_")}
    return {**kept, **variables}


def program(name: str) -> str:
    """The path of a program of this virtual environment."""
    return str(Path(sys.executable).with_name(name))


@contextlib.contextmanager
def ended(server: Server) -> Iterator[Server]:
    """`server`, which is ended whatever happens; of a failure its log tells more."""
    try:
        yield server
    except Failed as error:
        log = server.log.read_text(errors="replace")
        raise Failed(f"{error}\nThe server's log ends with:\n{log[-2000:]}") from None
    finally:
        server.stop()
