"""A worker as its supervisor sees it: its process, its reports, and how often it has died."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol

from receiptd.config import Config
from receiptd.daemon.orders import LONGEST_REPORT, ORDERS, pack
from receiptd.daemon.worker import Order

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
