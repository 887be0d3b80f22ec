"""An application that takes webhooks as quickly as Twisted can, and a bare loop that sends some.

    python -m benchmark.competitors.webhooks receive
    python -m benchmark.competitors.webhooks send URL COUNT CONCURRENCY

The receiver answers 204 to every POST; to a GET it tells as JSON how many events have come, and
when the first and the last of them did. The sender is a loop over Twisted's `Agent`: what
forwarding is measured against.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import Factory, Protocol
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers

reactor: Any = installed

BODY = json.dumps(
    {
        "type": "receipt.stored",
        "timestamp": "2026-11-25T13:13:18.571100Z",
        "data": {"receipt": {"message_id": "x" * 400}, "message": None},
    }
).encode()


class Counts:
    """What has come."""

    events = 0
    first = last = 0.0


class Receiver(Protocol):
    """Just as much HTTP as a client of ours needs."""

    transport: Any = None

    def __init__(self) -> None:
        self._data = b""

    def dataReceived(self, data: bytes) -> None:
        """Answer what is whole."""
        self._data += data
        while True:
            head, found, rest = self._data.partition(b"\r\n\r\n")
            if not found:
                return
            if head.startswith(b"GET"):
                self._data = rest
                self._tell()
                continue
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            if len(rest) < length:
                return
            body, self._data = rest[:length], rest[length:]
            now = time.time()
            Counts.first = Counts.first or now
            Counts.last = now
            Counts.events += body.count(b'"timestamp":')
            self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    def _tell(self) -> None:
        told = {"events": Counts.events, "first": Counts.first, "last": Counts.last}
        Counts.events, Counts.first = 0, 0.0
        text = json.dumps(told).encode()
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)
        )


def receive() -> None:
    """Receive until ended."""
    port = reactor.listenTCP(0, Factory.forProtocol(Receiver), interface="127.0.0.1")
    print(f"http://127.0.0.1:{port.getHost().port}/", flush=True)
    reactor.run()


async def _send(agent: Agent, url: bytes, count: int) -> None:
    from io import BytesIO

    from twisted.web.client import FileBodyProducer, readBody

    headers = Headers({b"Content-Type": [b"application/json"]})
    for _ in range(count):
        body: Any = FileBodyProducer(BytesIO(BODY))
        response = await agent.request(b"POST", url, headers, body)
        await readBody(response)


def send(url: str, count: int, concurrency: int) -> None:
    """Send, and tell how many a second."""
    pool = HTTPConnectionPool(reactor)
    pool.maxPersistentPerHost = concurrency
    agent = Agent(reactor, pool=pool)

    def begin() -> None:
        begun = time.perf_counter()
        share = count // concurrency
        tasks = [
            Deferred.fromCoroutine(_send(agent, url.encode(), share)) for _ in range(concurrency)
        ]

        def end(_: object) -> None:
            print(share * concurrency / (time.perf_counter() - begun), flush=True)
            reactor.stop()

        DeferredList(tasks).addCallback(end)

    reactor.callWhenRunning(begin)
    reactor.run()


if __name__ == "__main__":
    if sys.argv[1] == "receive":
        receive()
    else:
        send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
