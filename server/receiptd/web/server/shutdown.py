"""The end of a site's connections: whoever has sent a request is answered, and reads the answer.

While a site is stopping, each answer says `Connection: close` (RFC 9112, section 9.6), unless
another request was sent behind it already. A connection without a request gets a last call: a
client that had just decided to use it would else find it closed, without knowing why. Then it is
closed as well, and so is one with half a request. Nothing holds the stop for ever: there is a
deadline.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from receiptd.web.server.readable import readable

if TYPE_CHECKING:
    from receiptd.web.server.http import Channel, Site

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
        channels = list(self._site.channels)
        if now >= self._last_call:
            idle = [each for each in channels if not each.busy and each.left is None]
            for channel in self._quiet(idle):
                channel.leave()
        parted = [
            each for each in channels if each.left is not None and now - each.left >= PARTING
        ]
        for channel in self._quiet(parted):
            channel.transport.loseConnection()
        if not self._site.channels:
            self._finish(0)

    @staticmethod
    def _quiet(channels: Iterable[Channel]) -> list[Channel]:
        """Those that have sent nothing but what was read."""
        some = {each.transport.fileno(): each for each in channels}
        for descriptor in readable(each.transport for each in some.values()):
            del some[descriptor]
        return list(some.values())

    def _cut(self) -> int:
        """End what is left; how many requests were being answered."""
        left = list(self._site.channels)
        unanswered = sum(each.busy for each in left)
        if left:
            _log.warn(
                "the time to stop is over: {left} connections are cut, {unanswered} requests "
                "stay without an answer",
                left=len(left),
                unanswered=unanswered,
            )
        for channel in left:
            channel.transport.abortConnection()
        return unanswered

    def _finish(self, unanswered: int) -> None:
        self._looks.stop()
        self._done.callback(unanswered)
