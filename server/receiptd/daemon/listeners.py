"""All listening sockets of a server: bound once and early, or inherited, and closed in good order.

They begin to accept only after the privileges were dropped and the store was opened. A supervisor
binds them for its workers, and never accepts itself.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.logger import Logger, LogLevel

from receiptd.daemon.binding import BindingReactor, NotInherited, cannot_listen
from receiptd.daemon.listener import Inherited, Listener, ListenError, path_of, port_of, unlink

_log = Logger(namespace="receiptd")


class Listeners:
    """All sockets that one server listens on."""

    def __init__(
        self, inherited: Sequence[Inherited] = (), *, level: LogLevel = LogLevel.info
    ) -> None:
        """
        :param inherited: the sockets that the process was started with. If there are any,
            nothing is bound, and descriptions without a socket are skipped.
        :param level: log level of the lines about skipped descriptions.
        """
        self._level = level
        self._inherited = list(inherited)
        self._passed = bool(inherited)
        self._others: list[Any] = []
        self.all: list[Listener] = []

    async def bind(
        self,
        reactor: Any,
        descriptions: Iterable[str],
        factory: Any,
        tls: Iterable[str] = (),
        tls_factory: Any = None,
    ) -> None:
        """Bind the sockets, or find those that were inherited; nothing is accepted yet.

        :param factory: also serves inherited sockets that no description names.
        :param tls: descriptions of the sockets that `tls_factory` serves.
        :raises ListenError: if an address cannot be listened on, or makes no sense.
        """
        binding = BindingReactor(reactor, self)
        both = [(each, factory, False) for each in descriptions]
        both += [(each, tls_factory, True) for each in tls]
        for description, served, binding.under_tls in both:
            if description.startswith("systemd:") and self._passed:
                continue
            binding.says_backlog = "backlog=" in description
            binding.says_mode = "mode=" in description
            try:
                port = await serverFromString(binding, description).listen(served)
                if not isinstance(port, Listener):
                    self._others.append(port)
            except NotInherited:
                _log.emit(
                    self._level,
                    "{description} is not listened on: the sockets that the service manager "
                    "passed are used instead",
                    description=description,
                )
            except CannotListenError as error:
                raise ListenError(cannot_listen(description, error.socketError)) from None
            except (ValueError, TypeError, LookupError, OverflowError, OSError) as error:
                raise ListenError(
                    f"{description!r} is no Twisted endpoint description that works here: "
                    f"{str(error).rstrip('.')}. One that does is tcp:8080:interface=127.0.0.1"
                ) from None
        for rest in self._inherited:
            self.add(Listener(rest.socket, rest.request, factory, own=False))
        self._inherited = []

    def add(self, listener: Listener) -> Listener:
        """Add a socket to listen on."""
        self.all.append(listener)
        return listener

    def take(self, request: str, address: object) -> list[Inherited] | None:
        """The inherited sockets for a request; each is given once. None if the process inherited
        no socket at all.

        :param address: the port or the path of the request.
        :raises NotInherited: if there are others, but none for this request.
        """
        if not self._passed:
            return None
        found = [
            each
            for each in self._inherited
            if each.request == request
            or (each.request is None and address in (port_of(each.socket), path_of(each.socket)))
        ]
        self._inherited = [each for each in self._inherited if each not in found]
        if not found:
            raise NotInherited
        return found

    @property
    def addresses(self) -> list[Any]:
        """The addresses that are listened on, as Twisted has them."""
        return [each.getHost() for each in (*self.all, *self._others)]

    @property
    def secure(self) -> list[Any]:
        """The addresses on which TLS is spoken, as Twisted has them."""
        return [each.getHost() for each in self.all if each.secure]

    @property
    def descriptions(self) -> list[str]:
        """Twisted endpoint descriptions of the sockets: they tell who can reach them."""
        return [
            f"unix:{path_of(each.socket)}"
            if each.socket.family == socket.AF_UNIX
            else f"tcp:{port_of(each.socket)}:interface={_escaped(each.socket.getsockname()[0])}"
            for each in self.all
        ]

    def start(self, reactor: Any) -> None:
        """Begin to accept."""
        for listener in self.all:
            listener.start(reactor)

    def shut(self) -> None:
        """Let no new client in. The workers still accept the clients that wait."""
        for listener in self.all:
            if listener.own:
                listener.shut()

    async def stop(self, reactor: Any) -> None:
        """Accept the clients that wait already, then close."""
        ends = [Deferred.fromCoroutine(each.stop(reactor)) for each in self.all]
        ends += [maybeDeferred(each.stopListening) for each in self._others]
        await gatherResults(ends)

    def close(self) -> None:
        """Close the sockets of a process that does not accept, or not yet."""
        for listener in self.all:
            if listener.own:
                unlink(listener.socket)
            listener.socket.close()


def _escaped(host: str) -> str:
    return host.replace(":", "\\:")
