"""One connection's socket: what is sent at once, backpressure, and how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet import tcp
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, ISSLTransport
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from receiptd.web.server.poll import readable

if TYPE_CHECKING:
    from receiptd.web.server.request import Request
    from receiptd.web.server.site import Site

LINGER = 2.0
"""Seconds that a refused sender has to read the answer before its connection is cut."""

READ_SIZE = 8192
"""Bytes that are read of a socket at once, several receipts' worth. Making and giving back
Twisted's 64 kB for each read costs more than the second read of a larger post."""

MOST_BEHIND = 2 * READ_SIZE
"""Bytes that may wait behind a request that is being answered; then no more are read."""


@implementer(IHalfCloseableProtocol, IPushProducer)
class Link(Protocol):
    """One connection's socket."""

    transport: Any

    def __init__(self, site: Site) -> None:
        self.site = site
        self.request: Request | None = None
        """The request that is being answered."""
        self.persistent = True
        """Whether the connection outlives the request that is being answered."""
        self.left: float | None = None
        """When our side was closed (the reactor's seconds)."""
        self.until = 0.0
        """When a connection whose side we have closed is cut."""
        self.address: str | None = None
        """The peer's address; None for a Unix socket."""
        self.secure = False
        """Whether it is under TLS."""
        self.behind = b""
        """What has come and waits for its turn."""
        self.paused = False
        """Whether the peer takes no answers for now."""
        self.ended = False
        """Whether the peer has closed its sending side."""
        self.active = 0.0
        """When something last came or went."""
        self.seconds = site.reactor.seconds
        self._reading = True
        self._sends = False
        """Whether answers may go to the socket at once, instead of by way of the reactor's next
        round: on plain TCP, as long as everything before them has gone out."""

    @property
    def host(self) -> Any:
        """The socket's own address, as Twisted has it."""
        return self.transport.getHost()

    def connectionMade(self) -> None:
        """The connection is open."""
        transport = self.transport
        self.active = self.seconds()
        self._sends = type(transport) is tcp.Server
        self.secure = ISSLTransport.providedBy(transport)
        self.address = getattr(transport.getPeer(), "host", None)
        transport.bufferSize = READ_SIZE
        transport.registerProducer(self, True)

    def readConnectionLost(self) -> None:
        """The peer has closed its sending side."""
        self.ended = True

    def writeConnectionLost(self) -> None:
        """Our own doing, in `leave`."""

    def write(self, data: bytes) -> None:
        """Send `data`; what the socket does not take at once goes the usual way."""
        if self._sends:
            try:
                sent = self.transport.getHandle().send(data)
            except OSError:
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
            self._sends = False
        self.transport.write(data)

    def pauseProducing(self) -> None:
        """The peer takes no more answers for now: until it does, none of its requests are read.
        Whoever sends requests and never reads would otherwise fill the memory with answers."""
        self.paused = True
        self.active = self.seconds()
        self.steer()
        if self.request is not None and self.request.producer is not None:
            self.request.producer.pauseProducing()

    def resumeProducing(self) -> None:
        """The peer has taken what was sent."""
        self.paused = False
        self.active = self.seconds()
        self.steer()
        if self.request is not None and self.request.producer is not None:
            self.request.producer.resumeProducing()

    def stopProducing(self) -> None:
        """The transport takes no more; `connectionLost` follows."""

    def steer(self) -> None:
        """Read on, or do not."""
        reads = not self.paused and len(self.behind) <= MOST_BEHIND
        if reads is not self._reading and not self.ended and self.left is None:
            self._reading = reads
            if reads:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    @property
    def busy(self) -> bool:
        """Whether a whole request waits for its answer."""
        return self.request is not None and self.request.producer is None

    def be_last(self) -> None:
        """See that the connection ends with the answer that is about to be sent, unless more
        was sent behind the request already."""
        if not self.behind and not readable([self.transport]):
            self.persistent = False

    def leave(self, seconds: float | None = None) -> None:
        """Close our side behind what was answered, and drop what still comes: closed as a whole,
        the connection would be reset by that, and the answer lost with it.

        :param seconds: until the connection is cut; `idle_seconds` where left out.
        """
        if self.left is not None:
            return
        self.left = self.seconds()
        self.until = self.left + (seconds or self.site.settings.idle_seconds)
        self.behind = b""
        transport = self.transport
        transport.unregisterProducer()
        if not self._reading and not self.ended:
            transport.resumeProducing()
        if self.secure or self.ended:
            transport.loseConnection()
        else:
            transport.loseWriteConnection()

    def loseConnection(self) -> None:
        """Close a connection that has no request."""
        if self.site.stopping:
            self.leave()
        elif self.left is None:
            self.left = self.seconds()
            self.until = self.left + LINGER
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def abort(self) -> None:
        """End the connection at once."""
        self.transport.abortConnection()
