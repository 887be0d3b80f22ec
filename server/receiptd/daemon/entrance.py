"""Where connections come in: the sockets, the site that serves them, and TLS."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from twisted.internet import defer

from receiptd.config import Server
from receiptd.daemon.certificate_files import SecureSite
from receiptd.daemon.deferreds import at_once
from receiptd.daemon.listeners import Listeners
from receiptd.daemon.start_lines import url_of
from receiptd.web.server.limits import raise_descriptors
from receiptd.web.server.site import Handler, Site

if TYPE_CHECKING:
    from receiptd.web.server.certificates import Files, Material


class Entrance:
    """The server's sockets, and the site behind them. `bind` comes first."""

    site: Site

    def __init__(self, reactor: Any, listeners: Listeners, material: Material | None) -> None:
        """
        :param listeners: with the sockets that the process was started with.
        :param material: the certificates, if a supervisor watches their files; see `use`.
        """
        self._reactor = reactor
        self._listeners = listeners
        self._material = material
        self._bound: defer.Deferred[None] | None = None
        self.tls: SecureSite | None = None
        """None without TLS."""

    def bind(
        self, server: Server, trees: Mapping[bytes, Handler], responses: MutableMapping[Any, int]
    ) -> None:
        """Bind the sockets, which may need root.

        :param responses: counts the answers of the site.
        :raises ListenError: if an address or the certificates cannot be used.
        """
        possible = raise_descriptors(server.connections)
        self.site = Site(
            {},
            trees=trees,
            settings=server.model_copy(update={"connections": possible}),
            responses=responses,
            reactor=self._reactor,
        )
        if server.tls is not None:
            self.tls = SecureSite(server.tls, self.site, self._reactor, self._material)
        self._bound = defer.Deferred.fromCoroutine(
            self._listeners.bind(
                self._reactor,
                server.listen,
                self.site,
                server.tls.listen if server.tls else (),
                self.tls.factory if self.tls else None,
            )
        )
        at_once(self._bound)

    @property
    def bound(self) -> bool:
        """Whether `bind` was called."""
        return self._bound is not None

    @property
    def descriptions(self) -> list[str]:
        """Twisted endpoint descriptions of the sockets."""
        return self._listeners.descriptions

    @property
    def files(self) -> Files | None:
        """The certificate files; None if a supervisor watches them, or without TLS."""
        return self.tls.files if self.tls is not None else None

    def accept(self, listening: defer.Deferred[list[str]]) -> None:
        """Accept connections once all sockets are bound.

        :param listening: fires with the addresses then.
        """
        assert self._bound is not None
        self._bound.addCallback(self._accept).chainDeferred(listening)

    def _accept(self, _: None) -> list[str]:
        self._listeners.start(self._reactor)
        if self.tls is not None:
            self.tls.start()
        secure = self._listeners.secure
        return [url_of(each, each in secure) for each in self._listeners.addresses]

    def use(self, material: Material) -> None:
        """Use these certificates for connections that come from now on."""
        if self.tls is not None:
            self.tls.use(material)

    def renew(self, server: Server) -> None:
        """Go by a new configuration; the addresses stay."""
        possible = raise_descriptors(server.connections)
        self.site.configure(server.model_copy(update={"connections": possible}))

    def leave_files(self) -> None:
        """Stop watching the certificate files."""
        if self.tls is not None:
            self.tls.stop()

    async def stop(self) -> None:
        """Accept nothing more."""
        await self._listeners.stop(self._reactor)

    def close(self) -> None:
        """Close the sockets after a start that has failed."""
        self._listeners.close()
