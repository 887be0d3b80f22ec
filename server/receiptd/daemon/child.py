"""A worker as its supervisor sees it: its process, its reports, and how often it has died."""

from __future__ import annotations

import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol

from receiptd.config import Config
from receiptd.daemon.listeners import Listeners
from receiptd.daemon.orders import LONGEST_REPORT, ORDERS, REPORTS, pack
from receiptd.daemon.worker import LOCK, SOCKETS, Order

DEATHS = 5
WITHIN = 30.0
"""This many deaths of a worker within this many seconds are a crash loop. The worker is then
started again after a break, which doubles each time (exponential backoff)."""

SHORTEST_BREAK = 1.0
LONGEST_BREAK = 60.0
"""Seconds before a worker in a crash loop is started again."""


class Child(ProcessProtocol):
    """One worker, through all its processes."""

    transport: Any = None

    def __init__(
        self,
        number: int,
        reported: Callable[[Child, str], object],
        ended: Callable[[Child, Any], object],
    ) -> None:
        """
        :param reported: called with each word that the worker reports.
        :param ended: called when its process has ended; `exitCode` or `signal` says how.
        """
        self.number = number
        self._reported = reported
        self._ended = ended
        self._data = b""
        self.running = False
        self.ready = False
        """Whether it serves."""
        self.behind = False
        """Whether a reload was sent and is not confirmed yet."""
        self.settled = False
        """Whether it has served, or died, at least once."""
        self.heard = 0.0
        """When it last gave a sign of life."""
        self.since = 0.0
        """When it was started."""
        self.deaths: deque[float] = deque(maxlen=DEATHS)
        self.pause = 0.0
        """Seconds of its last break in a crash loop; 0 outside one."""

    def start(
        self,
        reactor: Any,
        environment: Mapping[str, str],
        listeners: Listeners,
        lock: int | None,
    ) -> None:
        """Start a process for it, which gets the sockets.

        :param lock: descriptor of the store's lock; None where the lock has none.
        :raises OSError: where no process can be started.
        """
        descriptors: dict[int, int | str] = {0: 0, 1: 1, 2: 2, ORDERS: "w", REPORTS: "r"}
        if lock is not None:
            descriptors[LOCK] = lock
        for number, listener in enumerate(listeners.all):
            descriptors[SOCKETS + number] = listener.socket.fileno()
        # Otherwise Python would look for modules in the working directory, where another user
        # may have put some.
        safe = [] if {"", str(Path.cwd())} & set(sys.path) else ["-P"]
        arguments = [sys.executable, *safe, "-m", "receiptd", "worker", str(self.number)]
        reactor.spawnProcess(
            self, sys.executable, arguments, env=environment, childFDs=descriptors
        )

    def connectionMade(self) -> None:
        """Its process has started."""
        self._data = b""
        self.running = True

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Take its reports."""
        *lines, rest = (self._data + data).split(b"\n")
        self._data = rest[:LONGEST_REPORT]  # an attacker may have taken over the worker
        for line in lines:
            self._reported(self, line.partition(b" ")[0].decode())

    def processEnded(self, reason: Any) -> None:
        """Its process has ended."""
        self.running = self.ready = self.behind = False
        self._ended(self, reason.value)

    def order(self, order: Order) -> None:
        """Send it a new configuration or new certificates."""
        if self.running:
            self.behind = self.behind or isinstance(order, Config)
            self.transport.writeToChild(ORDERS, pack(order))

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self.running:
            with suppress(ProcessExitedAlready):
                # As a number: Twisted knows the names of few.
                self.transport.signalProcess(int(number))

    def died(self, now: float) -> bool:
        """Count a death; whether it is in a crash loop."""
        self.deaths.append(now)
        return len(self.deaths) == DEATHS and now - self.deaths[0] <= WITHIN

    def lengthen_break(self) -> None:
        """Set `pause` to the next break of its crash loop."""
        self.pause = min(max(2 * self.pause, SHORTEST_BREAK), LONGEST_BREAK)

    def recovered(self, now: float) -> bool:
        """Whether it has left a crash loop; if so, its deaths are forgotten."""
        if not (self.ready and self.pause and now - self.since > WITHIN):
            return False
        self.pause = 0.0
        self.deaths.clear()
        return True


def ending(how: Any) -> str:
    """How a worker's process has ended, in words.

    :param how: its `exitCode` or `signal` says it.
    """
    if how.signal is not None:
        with suppress(ValueError):
            return f"was ended by {signal.Signals(how.signal).name}"
    return f"ended with exit code {how.exitCode}"
