"""The end of a site's connections: whoever has sent a request is answered, and reads the answer.

While a site is stopping, each answer says `Connection: close` (RFC 9112, section 9.6), unless
another request was sent behind it already. A connection without a request gets a last call: a
client that had just decided to use it would otherwise find it closed, without knowing why. Then
it is closed as well, and so is one with half a request. Nothing holds the stop for ever: there is
a deadline.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from receiptd.web.server.poll import readable

if TYPE_CHECKING:
    from receiptd.web.server.connection import Connection
    from receiptd.web.server.site import Site

LAST_CALL = 1.0
"""Seconds in which a connection that has no request may still bring one."""

PARTING = 0.5
"""Seconds that a client has to close its side behind the last answer: until then it is read and
dropped what it sends, since a reset would take the answer with it."""

LOOK = 0.05
"""Seconds between looks at the connections."""

_log = Logger(namespace="receiptd.web")


class GracefulShutdown:
    """Ends the connections of one site."""

    def __init__(self, site: Site, reactor: Any, seconds: float) -> None:
        """
        :param seconds: how long it may take.
        """
        self._site = site
        self._reactor = reactor
        now = reactor.seconds()
        self._deadline = now + seconds
        self._last_call = now + min(LAST_CALL, seconds / 2)
        self._done: Deferred[int] = Deferred()
        self._looks = task.LoopingCall(self._look)
        self._looks.clock = reactor
        site.stopping = True

    def end(self) -> Deferred[int]:
        """Fires as soon as no connection is left, with the number of requests that were not
        answered before the deadline."""
        self._looks.start(LOOK).addErrback(self._done.errback)
        return self._done

    def _look(self) -> None:
        now = self._reactor.seconds()
        if now >= self._deadline:
            self._finish(self._cut())
            return
        connections = list(self._site.connections)
        if now >= self._last_call:
            idle = [each for each in connections if not each.busy and each.left is None]
            for connection in self._quiet(idle):
                connection.leave()
        parted = [
            each for each in connections if each.left is not None and now - each.left >= PARTING
        ]
        for connection in self._quiet(parted):
            connection.transport.loseConnection()
        if not self._site.connections:
            self._finish(0)

    @staticmethod
    def _quiet(connections: Iterable[Connection]) -> list[Connection]:
        """Those that have sent nothing but what was read."""
        some = {each.transport.fileno(): each for each in connections}
        for descriptor in readable(each.transport for each in some.values()):
            del some[descriptor]
        return list(some.values())

    def _cut(self) -> int:
        """End what is left; how many requests were being answered."""
        left = list(self._site.connections)
        unanswered = sum(each.busy for each in left)
        if left:
            _log.warn(
                "the time to stop is over: {left} connections are cut, {unanswered} requests "
                "stay without an answer",
                left=len(left),
                unanswered=unanswered,
            )
        for connection in left:
            connection.abort()
        return unanswered

    def _finish(self, unanswered: int) -> None:
        self._looks.stop()
        self._done.callback(unanswered)
