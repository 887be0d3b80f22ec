"""One listening socket: begins to accept late, and closes without losing a client."""

from __future__ import annotations

import os
import socket
import struct
import sys
from array import array
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet import tcp, unix
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import deferLater

from receiptd.errors import UserError
from receiptd.web.server.poll import readable

HANDSHAKE = 0.2
"""Seconds to finish a TCP handshake that has begun, before the listener is closed."""

MOST_QUEUED = 10_000
"""Connections that are accepted when stopping: more than any backlog holds, and an end to it."""

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h; Python does not name it
# Classic BPF (linux/filter.h) on the TCP header: drop what has the SYN bit, pass the rest.
_NO_SYN = (
    (0x30, 0, 0, 13),  # A = flags
    (0x45, 0, 1, 0x02),  # if not A & SYN: skip one
    (0x06, 0, 0, 0),  # return 0: drop
    (0x06, 0, 0, 0xFFFFFFFF),  # return all: pass
)


class ListenError(UserError):
    """An address that cannot be listened on; the text says which and what to do."""


class Inherited(NamedTuple):
    """A listening socket that the process was started with."""

    socket: socket.socket
    request: str | None
    """What the supervisor bound it for, in the words of `binding.BindingReactor`; None for a
    socket of systemd's, which serves the description that names its address."""


class Listener:
    """A bound socket and what is to be served on it."""

    def __init__(
        self, bound: socket.socket, request: str | None, factory: Any, *, own: bool
    ) -> None:
        """
        :param own: whether this process bound it; otherwise it was inherited.
        """
        self.socket = bound
        self.request = request
        self.own = own
        self._factory = factory
        self._port: Any = None
        self.secure = hasattr(factory, "wrappedFactory")
        """Whether TLS is spoken on it."""

    def getHost(self) -> Any:
        """The address, as Twisted has it."""
        name = self.socket.getsockname()
        if self.socket.family == socket.AF_UNIX:
            return UNIXAddress(name)
        kind = IPv6Address if self.socket.family == socket.AF_INET6 else IPv4Address
        return kind("TCP", *name)

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.socket.family == socket.AF_UNIX:
            return True
        host = str(self.socket.getsockname()[0])
        return host == "::1" or host.removeprefix("::ffff:").startswith("127.")

    def start(self, reactor: Any) -> None:
        """Begin to accept."""
        if self.socket.family == socket.AF_UNIX:
            self._port = UnixPort(self.socket, self._factory, reactor)
            self._port.startListening()
        else:
            self._port = reactor.adoptStreamPort(
                self.socket.fileno(), self.socket.family, self._factory
            )

    def shut(self) -> None:
        """Let no new client in; a client whose handshake has begun still gets in.

        Closing a TCP listener resets the connections that the system has opened since the last
        accept. So the system first drops the packets that open a connection (SYN). Such a client
        tries again after a second, and reaches the process that listens then.
        """
        if self.socket.family == socket.AF_UNIX:
            unlink(self.socket)
        elif sys.platform == "linux":
            filters = array("B", b"".join(struct.pack("=HBBI", *each) for each in _NO_SYN))
            program = struct.pack("HP", len(_NO_SYN), filters.buffer_info()[0])
            with suppress(OSError):  # without filters, clients of that moment are reset
                self.socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)

    async def stop(self, reactor: Any) -> None:
        """Accept the clients that wait already, then close."""
        if self.own:
            self.shut()
        if self._port is not None:
            if not self.local:
                await deferLater(reactor, HANDSHAKE)
            accepted = 0
            while accepted < MOST_QUEUED and readable([self.socket]):
                self._port.doRead()
                accepted += 1
            await maybeDeferred(self._port.stopListening)
        self.socket.close()


class UnixPort(unix.Port):
    """A port on a socket that was bound elsewhere. Unlike Twisted's it does not touch the
    socket's mode and path."""

    factory: Any

    def __init__(self, bound: socket.socket, factory: Any, reactor: Any) -> None:
        """:param bound: stays open when the port is closed."""
        super().__init__(bound.getsockname(), factory, reactor=reactor)
        self._bound = bound

    def startListening(self) -> None:
        self.factory.doStart()
        self.connected = True
        self.socket = self._bound.dup()
        self.socket.setblocking(False)
        self.fileno = self.socket.fileno  # type: ignore[method-assign]
        self.numberAccepts = 100
        self._shouldShutdown = False
        self.startReading()

    def connectionLost(self, reason: Any) -> None:
        tcp.Port.connectionLost(self, reason)


def unlink(bound: socket.socket) -> None:
    """Remove the path of a Unix socket."""
    path = path_of(bound)
    if path and not path.startswith("\0"):
        with suppress(OSError):  # after the privileges were dropped it may have to stay
            Path(path).unlink()


def port_of(bound: socket.socket) -> int | None:
    """The port of a TCP socket; None for a Unix socket."""
    return bound.getsockname()[1] if bound.family != socket.AF_UNIX else None


def path_of(bound: socket.socket) -> str | None:
    """The path of a Unix socket; None for a TCP socket."""
    return os.fsdecode(bound.getsockname()) if bound.family == socket.AF_UNIX else None
