"""Connections to an AMQP broker: pika's, made by Twisted, bounded in time and to networks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from pika import ConnectionParameters
from pika.adapters.twisted_connection import TwistedChannel, TwistedProtocolConnection
from pika.exceptions import AMQPConnectionError
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from receiptd.forward.destinations.broker import TlsOptions
from receiptd.forward.destinations.connecting import Network, check_address

LONGEST_GREETING = 256 * 1024
"""Bytes that may come before the broker is known to be one."""

CLOSING = 2.0
"""Seconds that a broker has to say goodbye."""


class Connection(TwistedProtocolConnection):
    """One to a broker."""

    ready: Deferred[Any] | None
    """Fires once the broker has let us in; None from then on."""

    def __init__(self, parameters: ConnectionParameters, reactor: Any) -> None:
        super().__init__(parameters, custom_reactor=reactor)
        self.blocked = ""
        """Why the broker takes nothing now; empty where it does."""
        self.returned: WeakKeyDictionary[TwistedChannel, set[str]] = WeakKeyDictionary()
        """By channel the message-ids of what was returned and is not confirmed yet."""
        self._reactor = reactor
        self._greeted = 0
        self._impl.add_on_connection_blocked_callback(self._block)
        self._impl.add_on_connection_unblocked_callback(self._unblock)

    def _block(self, _connection: object, frame: Any) -> None:
        self.blocked = str(frame.method.reason) or "no reason is given"

    def _unblock(self, _connection: object, _frame: object) -> None:
        self.blocked = ""

    def note_returned(self, channel: TwistedChannel) -> None:
        """Note what is returned in `channel`."""
        names = self.returned[channel] = set()
        channel.add_on_return_callback(
            lambda message: names.add(str(message.properties.message_id))
        )

    def dataReceived(self, data: bytes) -> None:
        """What is no AMQP ends the connection."""
        if self.ready is not None:
            self._greeted += len(data)
        try:
            if self._greeted > LONGEST_GREETING:
                raise AMQPConnectionError("it says too much for a broker")
            super().dataReceived(data)
        except Exception as error:
            self._on_connection_failed(self._impl, error)
            self.abort()

    def _on_connection_failed(self, _connection: object, error: Exception | None = None) -> None:
        # pika's own says only how often it was tried.
        ready, self.ready = self.ready, None
        if ready is not None:
            ready.errback(error or AMQPConnectionError("the connection broke off"))

    def connectionLost(self, reason: Failure) -> None:
        """It has ended. What the broker said before counts, which pika forgets."""
        said = self._impl._error
        if said is not None:
            self._on_connection_failed(self._impl, said)
            reason = Failure(said)
        super().connectionLost(reason)
        if self.closed is not None:
            self.closed.addErrback(lambda _: None)

    def abort(self) -> None:
        """End it at once; what the broker has not read it never will."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    async def end(self) -> None:
        """End it in good order, or else at once."""
        closed = self.closed
        if not self.is_open or self.blocked or closed is None:
            self.abort()
            return
        done: Deferred[None] = Deferred()
        closed.addBoth(lambda _: done.callback(None))
        self.close()
        await done.addTimeout(CLOSING, self._reactor, lambda *_: self.abort())


class _Factory(Factory):
    noisy = False

    def __init__(
        self, parameters: ConnectionParameters, reactor: Any, networks: Sequence[Network]
    ) -> None:
        self._parameters = parameters
        self._reactor = reactor
        self._networks = networks

    def buildProtocol(self, addr: Any) -> Any:
        check_address(addr.host, self._networks)
        return Connection(self._parameters, self._reactor)


async def connect(
    reactor: Any,
    address: tuple[str, int],
    parameters: ConnectionParameters,
    *,
    tls: TlsOptions | None,
    networks: Sequence[Network],
    timeout: float,
) -> Connection:
    """Connect to a broker.

    :param tls: None: without.
    :param timeout: seconds for the TCP connection; the caller bounds the whole.
    :raises Exception: where it is not there, or does not let us in.
    """
    host, port = address
    endpoint: Any = HostnameEndpoint(reactor, host, port, timeout=timeout)
    if tls is not None:
        endpoint = wrapClientTLS(_tls(host, tls), endpoint)
    connection: Connection = await endpoint.connect(_Factory(parameters, reactor, networks))
    ready = connection.ready
    try:
        if ready is not None:
            await ready
    except BaseException:
        connection.ready = None
        connection.abort()
        raise
    return connection


_CERTIFICATE = re.compile(
    rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----"  # RFC 7468, section 5
)


def _tls(host: str, options: TlsOptions) -> Any:
    """What Twisted has to know to check the broker's certificate and to show ours."""
    trust = own = None
    if options.ca is not None:
        found = _CERTIFICATE.findall(Path(options.ca).read_bytes())
        trust = ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(each) for each in found])
    chain: list[Any] = []
    if options.certificate is not None:
        data = Path(options.certificate).read_bytes()
        key = Path(options.key).read_bytes() if options.key else data
        own = ssl.PrivateCertificate.loadPEM(key + b"\n" + data)
        others = map(ssl.Certificate.loadPEM, _CERTIFICATE.findall(data)[1:])
        chain = [each.original for each in others]
    return ssl.optionsForClientTLS(
        host,
        trustRoot=trust,
        clientCertificate=own,
        extraCertificateOptions={"extraCertChain": chain} if chain else {},
    )


def why(error: BaseException) -> str:
    """In words what the broker said, or what went wrong on the way."""
    code, text = getattr(error, "reply_code", None), getattr(error, "reply_text", None)
    if code is not None:
        return f"the broker says {code} {text}"
    return str(error) or type(error).__name__
