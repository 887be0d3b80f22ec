"""Tells open pages that something was stored, so that they ask for what they show again.

An event says no more than the newest receipt's id: what changed is in the page, which is
rendered in one place. Pages take turns, `MOST_TOLD` of them every `POLL` seconds: that is what
open consoles cost receiving, however many there are.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import task
from twisted.python.failure import Failure

from receiptd.store.paging import newest_id
from receiptd.store.schema import receipts
from receiptd.web.problem import Problem
from receiptd.web.reader import Reader
from receiptd.web.server.request import Request

EVENT_STREAM = b"text/event-stream; charset=utf-8"

MOST = 64
"""Open streams, in each process."""

POLL = 2.0
"""Seconds between looks for something new, while anybody watches."""

MOST_TOLD = 2
"""Streams that are told at one look, those first that have waited longest: each of them has a
page rendered. Of ten open consoles each is up to date within ten seconds."""

KEEP_ALIVE = 15.0
"""Seconds of silence after which a comment is sent: proxies cut connections that are silent."""

LONGEST = 300.0
"""Seconds after which a stream ends. The page opens another one, if its session still counts."""

_HEADERS = (
    b"Cache-Control: no-store\r\n",
    b"X-Accel-Buffering: no\r\n",
    b"X-Content-Type-Options: nosniff\r\n",
)


class Live:
    """All open streams."""

    def __init__(self, reactor: Any, reader: Reader) -> None:
        self._reactor = reactor
        self._reader = reader
        self._open: set[_Stream] = set()
        self._looking = False
        self._stopped = False
        self._tick = task.LoopingCall(self._look)
        self._tick.clock = reactor

    def __len__(self) -> int:
        """How many there are."""
        return len(self._open)

    def open(self, request: Request, seconds: float) -> None:
        """Answer with a stream.

        :param seconds: how long the session lasts.
        :raises Problem: 503 where there are too many, or the server is about to end.
        """
        if self._stopped or len(self._open) >= MOST:
            raise Problem.unavailable("no more pages can be told at once what is new", 30)
        end = self._reactor.seconds() + min(seconds, LONGEST)
        stream = _Stream(self, request, end)
        self._open.add(stream)
        request.begin(stream, EVENT_STREAM, _HEADERS)
        stream.send(b"retry: 3000\n\n", self._reactor.seconds())
        if not self._tick.running:
            self._tick.start(POLL)

    def closed(self, stream: _Stream) -> None:
        """That a stream has ended."""
        self._open.discard(stream)
        if not self._open and self._tick.running:
            self._tick.stop()

    def stop(self) -> None:
        """End all of them, and open none."""
        self._stopped = True
        for stream in list(self._open):
            stream.finish()

    def _look(self) -> None:
        now = self._reactor.seconds()
        for stream in list(self._open):
            stream.look_after(now)
        if self._open and not self._looking:
            self._looking = True
            self._reader.read(lambda engine: newest_id(engine, receipts)).addCallbacks(
                self._found, _unreadable
            ).addBoth(self._looked)

    def _found(self, newest: int) -> None:
        now = self._reactor.seconds()
        waiting = [stream for stream in self._open if stream.waits(newest)]
        for stream in sorted(waiting, key=lambda each: each.told_at)[:MOST_TOLD]:
            stream.tell(newest, now)

    def _looked(self, _result: object) -> None:
        self._looking = False


def _unreadable(_failure: Failure) -> None:
    """The database does not answer: the streams stay open, and the pages say so themselves."""


class _Stream:
    def __init__(self, live: Live, request: Request, end: float) -> None:
        self._live = live
        self._request = request
        self._end = end
        self._paused = False
        self._active = 0.0
        self._told: int | None = None
        self.told_at = 0.0

    def waits(self, newest: int) -> bool:
        """Whether it is to be told of something new. At first it is not: the page is new."""
        if self._told is None:
            self._told = newest
        return newest != self._told and not self._paused

    def tell(self, newest: int, now: float) -> None:
        self._told, self.told_at = newest, now
        self.send(b"event: stored\ndata: %d\n\n" % newest, now)

    def send(self, data: bytes, now: float) -> None:
        if not self._paused:  # what was not told is in the next thing that is
            self._active = now
            self._request.write(data)

    def look_after(self, now: float) -> None:
        if now >= self._end:
            if self._paused:
                self._request.cut()
            else:
                self.finish()
        elif now - self._active > KEEP_ALIVE:
            self.send(b": still there\n\n", now)

    def finish(self) -> None:
        self._request.end()
        self._live.closed(self)

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False

    def stopProducing(self) -> None:
        self._live.closed(self)
