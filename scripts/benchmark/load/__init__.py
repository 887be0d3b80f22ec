"""The load: wrk on a core of its own, 32 connections, every request a new receipt."""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.machine import pin
from benchmark.servers import PATIENCE, Failed, environment

CONNECTIONS = 32

_SCRIPTS = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Answers:
    """What one run of wrk sent and was answered."""

    sent: int
    """Requests made; the last few may have been cut off before they were sent."""
    acknowledged: int
    """Answered as received: HTTP 200, for SOAP with Report 0."""
    unmatched: int
    """Answered with Report -1: stored, but no registered message explains it."""
    refused: int
    """Answered in any other way."""
    last_refusal: str
    broken: int
    """Connections that failed."""
    seconds: float
    p50: float
    """Milliseconds until the answer, for half of the requests; p99 and p999 accordingly."""
    p99: float
    p999: float
    load_seconds: float
    """CPU time of wrk itself."""

    @property
    def stored(self) -> int:
        """How many were answered by a server that has them on disk."""
        return self.acknowledged + self.unmatched


class Load:
    """wrk, running."""

    def __init__(self, script: str, url: str, first: int, seconds: int, core: int | None) -> None:
        """Start it.

        :param script: `soap` or `query`.
        :param first: the number of the first receipt, from which its identifier is made.
        """
        self._before = _cpu_seconds()
        self._deadline = time.monotonic() + seconds + PATIENCE
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 closed in `answers`
        self._process = subprocess.Popen(
            [
                *("wrk", "--threads", "1", "--connections", str(CONNECTIONS)),
                *("--duration", f"{seconds}s", "--timeout", "30s"),
                *("--script", str(_SCRIPTS / f"{script}.lua"), url, "--", str(first)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env=environment({"LUA_PATH": f"{_SCRIPTS}/?.lua", "TZ": "Europe/Budapest"}),
            preexec_fn=partial(pin, core),
        )

    @property
    def running(self) -> bool:
        """Whether it still sends."""
        return self._process.poll() is None

    def finish(self) -> None:
        """Let it end early, with all of its figures."""
        if self.running:
            self._process.send_signal(signal.SIGINT)

    def answers(self) -> Answers:
        """Wait for its end; what came of it.

        :raises Failed: where it does not end in time or gives no figures.
        """
        try:
            self._process.wait(self._deadline - time.monotonic())
        except subprocess.TimeoutExpired:
            raise Failed("wrk did not end in time") from None
        finally:
            if self.running:
                self._process.kill()
                self._process.wait()
        self._output.seek(0)
        text = self._output.read()
        self._output.close()
        found = re.search(r"^RESULT (\{.*\})$", text, re.MULTILINE)
        if found is None:
            raise Failed(f"wrk gives no figures:\n{text}")
        figures: dict[str, Any] = json.loads(found[1])
        return Answers(**figures, load_seconds=_cpu_seconds() - self._before)


def _cpu_seconds() -> float:
    """CPU time of this process's children that have ended; wrk is the only one that ends
    between the two times it is asked for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
