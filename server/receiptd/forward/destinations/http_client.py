"""HTTP requests to an application that is trusted with nothing: bounded in time, in bytes and in
where they go. Connections are kept and used again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, TimeoutMixin, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer
from zope.interface import implementer

from receiptd.forward.destinations.connecting import Network, check_address
from receiptd.forward.destinations.faults import Answer

MOST_READ = 64 * 1024
"""Bytes of an answer's body that are read."""

MOST_RECEIVED = 256 * 1024
"""Bytes that may come back for one request, header, body, TLS and all, before the connection is
cut."""

IDLE = 20
"""Seconds that a connection is kept without a request. Shorter than most servers keep theirs, so
that it is seldom the server that closes first."""


class _Connection(ProtocolWrapper, TimeoutMixin):
    """Counts what comes back, and ends with the time that a request may take."""

    def makeConnection(self, transport: Any) -> None:
        self._received = 0
        self.setTimeout(self._patience)
        super().makeConnection(transport)

    @property
    def _patience(self) -> float:
        return cast(_Bounded, self.factory).patience + IDLE

    def write(self, data: bytes) -> None:
        self._begin()
        super().write(data)

    def writeSequence(self, data: Sequence[bytes]) -> None:
        self._begin()
        super().writeSequence(data)

    def _begin(self) -> None:
        self._received = 0
        self.setTimeout(self._patience)

    def dataReceived(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > MOST_RECEIVED:
            self._abort()
            return
        super().dataReceived(data)

    def timeoutConnection(self) -> None:
        self._abort()

    def _abort(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.setTimeout(None)
        super().connectionLost(reason)


class _Bounded(WrappingFactory):
    """Makes such connections, to permitted addresses alone."""

    protocol = _Connection
    noisy = False

    def __init__(self, wrapped: Any, networks: Sequence[Network], patience: float) -> None:
        super().__init__(wrapped)
        self._networks = networks
        self.patience = patience

    def buildProtocol(self, addr: Any) -> Any:
        check_address(addr.host, self._networks)
        return super().buildProtocol(addr)


@implementer(IStreamClientEndpoint)
class _Endpoint:
    def __init__(self, endpoint: Any, networks: Sequence[Network], patience: float) -> None:
        self._endpoint = endpoint
        self._networks = networks
        self._patience = patience

    def connect(self, factory: Any) -> Deferred[Any]:
        connected: Deferred[Any] = self._endpoint.connect(
            _Bounded(factory, self._networks, self._patience)
        )
        return connected.addCallback(lambda wrapper: wrapper.wrappedProtocol)


@implementer(IAgentEndpointFactory)
class _Endpoints:
    def __init__(self, reactor: Any, networks: Sequence[Network], timeout: float) -> None:
        self._reactor = reactor
        self._networks = networks
        self._timeout = timeout

    def endpointForURI(self, uri: URI) -> Any:
        host = uri.host.decode("ascii").strip("[]")
        endpoint: Any = _Endpoint(
            HostnameEndpoint(self._reactor, host, uri.port, timeout=self._timeout),
            self._networks,
            self._timeout,
        )
        if uri.scheme == b"https":
            # Twisted's own: the system's certificates, or those that SSL_CERT_FILE names.
            endpoint = wrapClientTLS(ssl.optionsForClientTLS(host), endpoint)
        return endpoint


@implementer(IBodyProducer)
class _Body:
    """A request's body, all of which is there."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._data)
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def stopProducing(self) -> None: ...


class _Reading(Protocol):
    """Reads an answer's body, up to `MOST_READ`."""

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._close())
        self._data = bytearray()

    def dataReceived(self, data: bytes) -> None:
        if len(self._data) < MOST_READ:
            self._data += data[: MOST_READ - len(self._data)]
            if len(self._data) >= MOST_READ:
                self._close()
                self._end()

    def connectionLost(self, reason: Any = None) -> None:
        self._end()

    def _close(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.loseConnection()

    def _end(self) -> None:
        if not self.done.called:
            self.done.callback(bytes(self._data))


class Client:
    """Makes requests."""

    def __init__(
        self, reactor: Any, *, networks: Sequence[Network], concurrency: int, timeout: float
    ) -> None:
        """
        :param networks: where it may connect to; none: everywhere.
        :param concurrency: connections that are kept.
        :param timeout: seconds that a request may take, its answer included.
        """
        self._reactor = reactor
        self._timeout = timeout
        self._pool = HTTPConnectionPool(reactor, persistent=True)
        self._pool.maxPersistentPerHost = concurrency
        self._pool.cachedConnectionTimeout = IDLE
        self._pool.retryAutomatically = False
        self._agent = Agent.usingEndpointFactory(
            reactor, _Endpoints(reactor, networks, timeout), self._pool
        )

    async def request(
        self, method: bytes, url: str, headers: Mapping[bytes, bytes], body: bytes
    ) -> Answer:
        """Make a request.

        :raises Exception: where there is no answer; `describe` says why.
        """
        deadline = self._reactor.seconds() + self._timeout
        asked: Deferred[Any] = self._agent.request(
            method,
            url.encode("ascii"),
            Headers({name: [value] for name, value in headers.items()}),
            _Body(body) if body or method == b"POST" else None,
        )
        response = await asked.addTimeout(self._timeout, self._reactor)
        reading = _Reading()
        response.deliverBody(reading)
        left = max(deadline - self._reactor.seconds(), 0.001)
        data = await reading.done.addTimeout(left, self._reactor)
        return Answer(
            response.code,
            data,
            _header(response.headers, b"Retry-After"),
            _header(response.headers, b"Webhook-Delivery"),
        )

    async def close(self) -> None:
        """Close the connections that are kept."""
        await self._pool.closeCachedConnections()


def _header(headers: Headers, name: bytes) -> str | None:
    found = headers.getRawHeaders(name)
    return found[-1].decode("iso8859-1") if found else None
