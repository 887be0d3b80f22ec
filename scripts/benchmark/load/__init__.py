"""The load: wrk on a core of its own, 32 connections, every request a new receipt."""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
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
    of_threads: tuple[int, ...] = ()
    """Requests made by each thread of wrk."""
    unanswered: tuple[int, ...] = ()
    """The numbers of the requests that were not answered; known only where each connection has a
    thread of its own."""

    @property
    def stored(self) -> int:
        """How many were answered by a server that has them on disk."""
        return self.acknowledged + self.unmatched

    def numbers(self) -> Iterator[int]:
        """The numbers of all receipts that were sent, for a run that began with 0."""
        threads = len(self.of_threads)
        for thread, count in enumerate(self.of_threads):
            yield from range(thread, thread + threads * count, threads)


class Load:
    """wrk, running."""

    def __init__(
        self,
        script: str,
        url: str,
        first: int,
        seconds: int,
        core: int | None,
        *,
        threads: int = 1,
    ) -> None:
        """Start it.

        :param script: `soap` or `query`.
        :param first: the number of the first receipt, from which its identifier is made.
        :param threads: of wrk; as many as `CONNECTIONS`, and it knows which number each answer
            is to, at the price of some of its speed.
        """
        self._before = _cpu_seconds()
        self._deadline = time.monotonic() + seconds + PATIENCE
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 closed in `answers`
        self._process = subprocess.Popen(
            [
                *("wrk", "--threads", str(threads), "--connections", str(CONNECTIONS)),
                *("--duration", f"{seconds}s", "--timeout", "30s"),
                *(
                    "--script",
                    str(_SCRIPTS / f"{script}.lua"),
                    url,
                    "--",
                    str(first),
                    str(threads),
                ),
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
        unanswered = figures.pop("unanswered")
        of_threads = tuple(figures.pop("of_threads"))
        return Answers(
            **figures,
            of_threads=of_threads,
            # With several connections to a thread an answer does not tell its request.
            unanswered=tuple(unanswered) if len(of_threads) == CONNECTIONS else (),
            load_seconds=_cpu_seconds() - self._before,
        )


def _cpu_seconds() -> float:
    """CPU time of this process's children that have ended; wrk is the only one that ends
    between the two times it is asked for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
