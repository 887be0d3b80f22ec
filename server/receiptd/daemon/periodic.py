"""A service that does something now and then, in a thread beside the reactor's."""

from __future__ import annotations

from threading import Event
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred


class Periodic(Service):
    """Runs again and again, one run at a time, until it is stopped."""

    first: float
    """Seconds from the start to the first run: not in the middle of the start."""
    every: float
    """Seconds from the end of a run to the next one."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._stop = Event()
        """Ends a run, within a transaction's time."""
        self._next: Any = None
        self._under_way: Deferred[None] | None = None

    def startService(self) -> None:
        """Have the first run in a while."""
        super().startService()
        self._stop.clear()
        self._next = self._reactor.callLater(self.first, self._begin)

    def stopService(self) -> Deferred[None] | None:
        """End the run that is under way, which takes no longer than a transaction."""
        super().stopService()
        self._stop.set()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        return self._under_way

    def run(self) -> Deferred[None] | None:
        """Begin a run: when it is over, successful or not; None where there is nothing to do."""
        raise NotImplementedError

    def _begin(self) -> None:
        self._next = None
        self._under_way = self.run()
        if self._under_way is None:
            self._again(None)
        else:
            self._under_way.addCallback(self._again)

    def _again(self, _: None) -> None:
        self._under_way = None
        if self.running:
            self._next = self._reactor.callLater(self.every, self._begin)
