"""Binding what `server.listen` describes, without accepting yet.

A description is a Twisted endpoint's, of any kind. An endpoint asks its reactor to listen. Here it
asks a `BindingReactor`, which binds the socket, or finds it among the inherited ones.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.error import CannotListenError

from receiptd.daemon.listener import Inherited, Listener

if TYPE_CHECKING:
    from receiptd.daemon.listeners import Listeners

BACKLOG = 512
"""Connections that may wait to be accepted, unless a description says otherwise."""

UNIX_MODE = 0o660
"""Who may connect to a Unix socket, unless a description says otherwise: its owner and its group.
A client of a socket that is trusted as a proxy may claim any address."""

_TWISTED_BACKLOG = 50  # what an endpoint asks for whose description does not say


class NotInherited(Exception):
    """The process was started with sockets, and this one is not among them."""


class BindingReactor:
    """Stands in for the reactor that an endpoint listens by: it binds, and does not accept."""

    def __init__(self, reactor: Any, listeners: Listeners) -> None:
        self._reactor = reactor
        self._listeners = listeners
        self.says_backlog = False
        self.says_mode = False
        self.under_tls = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(
        self, port: int, factory: Any, backlog: int = _TWISTED_BACKLOG, interface: str = ""
    ) -> Listener:
        """A TCP socket."""
        request = f"{self._kind}tcp {interface}:{port}"
        found = self._listeners.take(request, port)
        if found is None:
            try:
                return self._new(_bound(port, interface, self._room(backlog)), request, factory)
            except OSError as error:
                raise CannotListenError(interface, port, error) from None
        return self._inherited(found, factory)

    def listenSSL(
        self,
        port: int,
        factory: Any,
        contextFactory: Any,
        backlog: int = _TWISTED_BACKLOG,
        interface: str = "",
    ) -> Listener:
        """A TCP socket on which TLS is spoken."""
        from receiptd.web.server.tls import Foreign

        return self.listenTCP(port, Foreign(contextFactory).factory(factory), backlog, interface)

    def listenUNIX(
        self,
        address: Any,
        factory: Any,
        backlog: int = _TWISTED_BACKLOG,
        mode: int = 0o666,
        wantPID: bool = False,
    ) -> Listener:
        """A Unix socket. It needs no lock file: a connection attempt tells whether a process
        listens on it."""
        path = os.fsdecode(address)
        request = f"{self._kind}unix {path}"
        found = self._listeners.take(request, path)
        if found is None:
            try:
                mode = mode if self.says_mode else UNIX_MODE
                return self._new(_boundpath_of(path, mode, self._room(backlog)), request, factory)
            except OSError as error:
                raise CannotListenError(None, path, error) from None
        return self._inherited(found, factory)

    def adoptStreamPort(self, descriptor: int, family: int, factory: Any) -> Listener:
        """A socket that was made elsewhere."""
        adopted = socket.fromfd(descriptor, family, socket.SOCK_STREAM)
        return self._listeners.add(Listener(adopted, None, factory, own=False))

    def _room(self, backlog: int) -> int:
        return backlog if self.says_backlog else BACKLOG

    @property
    def _kind(self) -> str:
        # Port 0, any free one, may be asked for with TLS and without.
        return "tls " if self.under_tls else ""

    def _new(self, bound: socket.socket, request: str, factory: Any) -> Listener:
        return self._add(Listener(bound, request, factory, own=True))

    def _inherited(self, found: Sequence[Inherited], factory: Any) -> Listener:
        for each in found:
            last = self._add(Listener(each.socket, each.request, factory, own=False))
        return last

    def _add(self, listener: Listener) -> Listener:
        listener.secure = listener.secure or self.under_tls
        return self._listeners.add(listener)


def _bound(port: int, interface: str, backlog: int) -> socket.socket:
    """A TCP socket that listens, on all IPv4 addresses where no interface is named."""
    # Without the port, of which getaddrinfo(3) would take what fits into 16 bits.
    ((family, kind, protocol, _, address), *_) = socket.getaddrinfo(
        interface or "0.0.0.0",  # noqa: S104
        None,
        type=socket.SOCK_STREAM,
        flags=socket.AI_PASSIVE,
    )
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address[0], port, *address[2:]))
        bound.listen(backlog)
        bound.setblocking(False)
    except (OSError, OverflowError):
        bound.close()
        raise
    return bound


def _boundpath_of(path: str, mode: int, backlog: int) -> socket.socket:
    """A Unix socket that listens. One that an ended process left at `path` is replaced."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        # With chmod(2) alone everybody could connect for a moment.
        mask = os.umask(0o777 & ~mode)
        try:
            bound.bind(path)
        finally:
            os.umask(mask)
        if not path.startswith("\0"):
            Path(path).chmod(mode)
        bound.listen(backlog)
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound


def _remove_stale(path: str) -> None:
    with suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as client:
        if stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116  (the path may be no text)
            try:
                client.connect(path)
            except ConnectionRefusedError:
                Path(path).unlink()


def cannot_listen(description: str, error: Any) -> str:
    """The error for people: why a description cannot be listened on, and what to do."""
    reason = getattr(error, "strerror", None) or str(error)
    remedy = {
        errno.EADDRINUSE: "Is another receiptd running? Choose another address with --listen, "
        "such as --listen tcp:8081:interface=127.0.0.1",
        errno.EACCES: "A port below 1024 is root's: start receiptd as root and set server.user, "
        "let systemd pass the socket, or choose another with --listen",
        errno.EADDRNOTAVAIL: "No interface of this machine has that address",
    }.get(getattr(error, "errno", None) or 0, "Choose another address with --listen")
    return f"{description}: cannot listen there: {reason}. {remedy}"
