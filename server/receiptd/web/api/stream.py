"""Receipts and events as they come: server-sent events (WHATWG HTML, section 9.2).

Ids are in the order of the commits, in whichever process those happen, so whoever has seen the
receipt with one id goes on behind it: without gaps and without repeats.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import Engine
from twisted.internet import task
from twisted.logger import Logger
from twisted.python.failure import Failure

from receiptd.web.api.feeds import EventBatch, Feed
from receiptd.web.problem import Problem
from receiptd.web.reader import Reader, Unavailable
from receiptd.web.server.request import Request

EVENT_STREAM = b"text/event-stream; charset=utf-8"

MOST_STREAMS = 64

POLL = 0.5
"""Seconds between looks for what other processes have stored, while anybody watches."""

REST = 0.05
"""Seconds that a stream rests after it has caught up: what comes meanwhile is read at once."""

REST_EACH = 0.005
"""The same for each open stream, where that is longer: many of them leave time for receipts."""

KEEP_ALIVE = 15.0
"""Seconds of silence after which a comment is sent: proxies cut connections that are silent."""

STALLED = 120.0
"""Seconds after which a client that takes nothing is cut off, since it takes up a stream."""

RETRY = 2000
"""Milliseconds after which a client should connect again."""

_HEADERS = (
    b"Cache-Control: no-store\r\n",
    # nginx would otherwise hold events back until its buffer is full
    b"X-Accel-Buffering: no\r\n",
)

_log = Logger(namespace="receiptd.web")


class Streams:
    """All open streams."""

    def __init__(self, reactor: Any, reader: Reader) -> None:
        self.reactor = reactor
        self.reader = reader
        self._open: set[Stream] = set()
        self._tick = task.LoopingCall(self._look)
        self._tick.clock = reactor
        self._looking: set[Callable[[Engine], int]] = set()
        self._stopped = False

    def __len__(self) -> int:
        """How many there are; may be asked in any thread."""
        return len(self._open)

    async def open(self, request: Request, feed: Feed, after: int | None) -> None:
        """Answer `request` with a stream.

        :param after: begin behind this id; None: with what comes from now on.
        :raises Problem: 503 where there are too many streams, the database does not answer, or
            the server is about to end.
        """
        if self._stopped:
            raise Problem.unavailable("the server is about to end: connect again")
        if len(self._open) >= MOST_STREAMS:
            raise Problem.unavailable(f"{MOST_STREAMS} streams are open, which is the most", 30)
        stream = Stream(self, request, feed)
        self._open.add(stream)
        if not self._tick.running:
            self._tick.start(POLL, now=False)
        if after is None:
            try:
                after = await self.reader.read(feed.newest)
            except Exception:
                stream.close()
                raise
        if request.gone:
            stream.close()
        if not stream.closed:
            stream.begin(after)

    def wake(self) -> None:
        """Something was stored by this process."""
        for stream in self._open:
            stream.wake()

    def closed(self, stream: Stream) -> None:
        """That a stream has ended."""
        self._open.discard(stream)
        if not self._open and self._tick.running:
            self._tick.stop()

    def stop(self) -> None:
        """End all streams, and open none; clients will connect again, and go on where they
        were."""
        self._stopped = True
        for stream in list(self._open):
            stream.finish()

    def _look(self) -> None:
        now = self.reactor.seconds()
        for stream in list(self._open):
            stream.look_after(now)
        for newest in {stream.feed.newest for stream in self._open} - self._looking:
            self._looking.add(newest)
            self.reader.read(newest).addCallbacks(
                partial(self._found, newest), _unreadable
            ).addBoth(partial(self._looked, newest))

    def _found(self, newest: Callable[[Engine], int], number: int) -> None:
        for stream in self._open:
            if stream.feed.newest == newest and stream.position < number:
                stream.wake()

    def _looked(self, newest: Callable[[Engine], int], _result: object) -> None:
        self._looking.discard(newest)


def _unreadable(failure: Failure) -> None:
    """The database does not answer: streams stay open and go on as soon as it does."""
    if not isinstance(failure.value, Unavailable):
        _log.failure("reading for streams", failure=failure)


class Stream:
    """One client's stream. It reads on only while the client takes what was sent."""

    def __init__(self, streams: Streams, request: Request, feed: Feed) -> None:
        self._streams = streams
        self._request = request
        self.feed = feed
        self.position = 0
        """The id that it has got to."""
        self.closed = False
        self._begun = False
        self._told = 0
        """The id that the client would resume behind."""
        self._busy = False
        """Whether it reads, or rests."""
        self._waiting = False
        """Whether to read again as soon as it can."""
        self._paused = False
        self._active = 0.0
        """When something was last sent, or the client last took something."""

    def begin(self, after: int) -> None:
        """Send the header, then what there is behind the id `after`."""
        self._request.begin(self, EVENT_STREAM, _HEADERS)
        self._begun = True
        self.position = after
        # An id of its own, without data, is no event, but what a client resumes behind.
        self._send(f"retry: {RETRY}\nid: {after}\n\n".encode(), after)
        self.wake()

    def wake(self) -> None:
        """There may be something to read."""
        if not self._begun:
            return
        if self._busy or self._paused:
            self._waiting = True
            return
        self._busy, self._waiting = True, False
        feed, position = self.feed, self.position
        self._streams.reader.read(lambda engine: feed.read(engine, position)).addCallbacks(
            self._send_batch, self._failed
        )

    def _send_batch(self, batch: EventBatch) -> None:
        self._busy = False
        if self.closed:
            return
        self.position = batch.position
        if batch.events:
            self._send(batch.events, batch.position)
        if batch.more:
            self.wake()
        else:
            self._rest(max(REST, REST_EACH * len(self._streams)))

    def _failed(self, failure: Failure) -> None:
        _unreadable(failure)
        self._waiting = True
        self._rest(POLL)

    def _rest(self, seconds: float) -> None:
        if not self.closed:
            self._busy = True
            self._streams.reactor.callLater(seconds, self._rested)

    def _rested(self) -> None:
        self._busy = False
        if self._waiting and not self.closed:
            self.wake()

    def _send(self, data: bytes, told: int) -> None:
        self._told = told
        self._active = self._streams.reactor.seconds()
        self._request.write(data)

    def look_after(self, now: float) -> None:
        """Keep a silent stream alive, cut off a client that takes nothing."""
        if not self._begun:
            return
        if self._paused:
            if now - self._active > STALLED:
                self._request.cut()
        elif now - self._active > KEEP_ALIVE:
            seen = f"id: {self.position}\n" if self.position != self._told else ""
            self._send(f": still there\n{seen}\n".encode(), self.position)

    def finish(self) -> None:
        """End the answer as HTTP ends one."""
        if self._begun and not self.closed:
            self.closed = True
            self._request.end()
        self.close()

    def close(self) -> None:
        """That the client has gone, or the answer has ended."""
        self.closed = True
        self._streams.closed(self)

    def pauseProducing(self) -> None:
        """The client does not take more now."""
        self._paused = True
        self._active = self._streams.reactor.seconds()

    def resumeProducing(self) -> None:
        """The client has taken what was sent."""
        self._paused = False
        self._active = self._streams.reactor.seconds()
        if self._waiting:
            self.wake()

    def stopProducing(self) -> None:
        """The client has gone."""
        self.close()
