"""TLS on a connection: who makes its OpenSSL side, and how it ends.

Twisted's own TLS transport closes both sides as soon as the peer has closed its own. A peer may do
that right behind its request and wait for the answer (RFC 8446, section 6.1). So OpenSSL's side
keeps that back from Twisted until the answer has gone out.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IHalfCloseableProtocol, IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from zope.interface import implementer

from receiptd.web.server.certificates import Material, agree_on_protocol, context_of, words

_PLAIN_HTTP = ("http request", "https proxy request")
"""What OpenSSL says of a client that speaks plain HTTP (openssl/sslerr.h)."""

_log = Logger(namespace="receiptd.tls")


@implementer(IOpenSSLServerConnectionCreator)
class _Creator:
    """Makes the TLS side of new connections."""

    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    def factory(self, served: Any) -> TLSMemoryBIOFactory:
        """Serves `served`, a Twisted factory, under TLS."""
        creator: Any = self
        factory = TLSMemoryBIOFactory(creator, False, served)
        factory.protocol = _Transport
        return factory

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """A new connection's TLS side.

        :param protocol: the connection's `_Transport`.
        """
        return _Connection(self._context, protocol)


class Certificates(_Creator):
    """TLS by our own settings."""

    def __init__(self, material: Material) -> None:
        super().__init__(context_of(material))

    def use(self, material: Material) -> None:
        """Go by `material`, for the connections that come from now on."""
        self._context = context_of(material)


class Foreign(_Creator):
    """TLS by the certificates and settings of a Twisted endpoint, such as `ssl:`."""

    def __init__(self, options: Any) -> None:
        """
        :param options: what the endpoint has made: `CertificateOptions`, or what else has a
            `getContext`.
        """
        super().__init__(options.getContext())
        # Twisted's own way ends the handshake of a client that offers other protocols alone.
        self._context.set_alpn_select_callback(agree_on_protocol)


class _Connection(SSL.Connection):
    """OpenSSL's side of a connection, as Twisted's TLS transport drives it."""

    def __init__(self, context: SSL.Context, transport: _Transport) -> None:
        super().__init__(context, None)
        self.http_transport = transport

    def do_handshake(self) -> None:
        """Go on with the handshake; say why it failed, since whose certificate or version is
        refused would otherwise have nothing to go by."""
        try:
            super().do_handshake()
        except SSL.WantReadError:
            raise
        except SSL.Error as error:
            self.http_transport.handshake_failed(words(error))
            raise

    def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
        """What has come. That the peer has closed its side is kept back while it is answered."""
        try:
            return super().recv(bufsiz, flags)
        except SSL.ZeroReturnError:
            if self.http_transport.peer_closed():
                raise SSL.WantReadError from None
            raise


@implementer(IHalfCloseableProtocol)
class _Transport(BufferingTLSTransport):
    """Twisted's TLS transport, which answers a peer that has closed its sending side."""

    transport: Any
    tcp_ended = False
    """Whether the peer has closed TCP's sending side, so that no word of its own can come."""

    def peer_closed(self) -> bool:
        """That the peer has closed its sending side; whether it waits for an answer."""
        if self.disconnecting or not getattr(self.wrappedProtocol, "owes_answers", False):
            return False
        self.wrappedProtocol.readConnectionLost()
        return True

    def handshake_failed(self, why: str) -> None:
        """Say why there is no TLS."""
        if why in _PLAIN_HTTP:
            why += ": plain HTTP was spoken to a port that takes TLS: use https://"
        _log.info(
            "no TLS with {peer}: {error}",
            peer=getattr(self.getPeer(), "host", "a local socket"),
            error=why,
        )

    def loseConnection(self) -> None:
        """Close our side; asked for a second time, do not wait for the peer's any more."""
        again = self.disconnecting
        super().loseConnection()
        if again or self.tcp_ended:
            self.transport.loseConnection()

    def readConnectionLost(self) -> None:
        """The peer has closed TCP's sending side."""
        self.tcp_ended = True
        if not self.peer_closed():
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """TLS has no such thing."""
