"""The listening sockets: bound once and early, or inherited, and closed without losing a client.

What `server.listen` says are Twisted endpoint descriptions, of any kind. An endpoint asks its
reactor to listen; here it asks a stand-in, which binds the socket, or finds it among those that
the process was started with, and begins to accept only later: after the privileges were dropped
and the store was opened. A supervisor binds so for its workers, and never accepts itself.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet import tcp, unix
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.task import deferLater
from twisted.logger import Logger, LogLevel

from receiptd.errors import UserError
from receiptd.web.server.readable import readable

BACKLOG = 512
"""Connections that may wait to be accepted, unless a description says otherwise."""

HANDSHAKE = 0.2
"""Seconds that a client in the middle of TCP's handshake has before its listener is closed."""

MOST_QUEUED = 10_000
"""Connections that are accepted when stopping: more than any backlog holds, and an end to it."""

UNIX_MODE = 0o660
"""Who may connect to a Unix socket, unless a description says otherwise: its owner and its group.
Whoever connects to one that is trusted as a proxy may name any address as the client's."""

_TWISTED_BACKLOG = 50  # what an endpoint asks for whose description does not say

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h; Python does not name it
# Classic BPF (linux/filter.h) on the TCP header: drop what has the SYN bit, pass the rest.
_NO_SYN = (
    (0x30, 0, 0, 13),  # A = flags
    (0x45, 0, 1, 0x02),  # if not A & SYN: skip one
    (0x06, 0, 0, 0),  # return 0: drop
    (0x06, 0, 0, 0xFFFFFFFF),  # return all: pass
)

_log = Logger(namespace="receiptd")


class ListenError(UserError):
    """An address that cannot be listened on; the text says which and what to do."""


class Inherited(NamedTuple):
    """A listening socket that the process was started with."""

    socket: socket.socket
    request: str | None
    """What the supervisor bound it for, in the words of `_request`; None for a socket of
    systemd's, which is for whichever description names its address."""


class Listener:
    """A bound socket and what is to be served on it."""

    def __init__(
        self, bound: socket.socket, request: str | None, factory: Any, *, own: bool
    ) -> None:
        """
        :param own: whether it was bound by this process, and not inherited.
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
            self._port = _UnixPort(self.socket, self._factory, reactor)
            self._port.startListening()
        else:
            self._port = reactor.adoptStreamPort(
                self.socket.fileno(), self.socket.family, self._factory
            )

    def shut(self) -> None:
        """Let nobody new in, while those who are on their way in still get there.

        Closing a TCP listener resets whoever the system has let in behind the last accept. So
        the system drops what opens a connection first: that client tries again after a second,
        and finds whoever listens then.
        """
        if self.socket.family == socket.AF_UNIX:
            _unlink(self.socket)
        elif sys.platform == "linux":
            filters = array("B", b"".join(struct.pack("=HBBI", *each) for each in _NO_SYN))
            program = struct.pack("HP", len(_NO_SYN), filters.buffer_info()[0])
            with suppress(OSError):  # a system without it: a moment that cannot be bridged
                self.socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)

    async def stop(self, reactor: Any) -> None:
        """Accept who waits already, then accept no more."""
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


class _UnixPort(unix.Port):
    """A port of a socket that was bound elsewhere: its mode and its path are not its own to
    touch, as Twisted's would."""

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


class Listeners:
    """All sockets that one server listens on."""

    def __init__(
        self, inherited: Sequence[Inherited] = (), *, level: LogLevel = LogLevel.info
    ) -> None:
        """
        :param inherited: what the process was started with. Where there is any, nothing is
            bound, and what `listen` says beyond these is passed over.
        :param level: of what is said in the log of that.
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

        :param factory: served also on inherited sockets that no description names.
        :param tls: descriptions of what `tls_factory` is served on.
        :raises ListenError: where an address cannot be listened on, or makes no sense.
        """
        stand_in = _StandIn(reactor, self)
        both = [(each, factory, False) for each in descriptions]
        both += [(each, tls_factory, True) for each in tls]
        for description, served, stand_in.under_tls in both:
            if description.startswith("systemd:") and self._passed:
                continue
            stand_in.says_backlog = "backlog=" in description
            stand_in.says_mode = "mode=" in description
            try:
                port = await serverFromString(stand_in, description).listen(served)
                if not isinstance(port, Listener):
                    self._others.append(port)
            except _NotInherited:
                _log.emit(
                    self._level,
                    "{description} is not listened on: the sockets that the service manager "
                    "passed are used instead",
                    description=description,
                )
            except CannotListenError as error:
                raise ListenError(_cannot(description, error.socketError)) from None
            except (ValueError, TypeError, LookupError, OverflowError, OSError) as error:
                raise ListenError(
                    f"{description!r} is no Twisted endpoint description that works here: "
                    f"{str(error).rstrip('.')}. One that does is tcp:8080:interface=127.0.0.1"
                ) from None
        for rest in self._inherited:
            self.add(Listener(rest.socket, rest.request, factory, own=False))
        self._inherited = []

    def add(self, listener: Listener) -> Listener:
        """That a socket is to be listened on."""
        self.all.append(listener)
        return listener

    def take(self, request: str, address: object) -> list[Inherited] | None:
        """The inherited sockets for a request, which are then spoken for; None where nothing
        was inherited at all.

        :param address: the port or the path that is asked for.
        """
        if not self._passed:
            return None
        found = [
            each
            for each in self._inherited
            if each.request == request
            or (each.request is None and address in (_port(each.socket), _path(each.socket)))
        ]
        self._inherited = [each for each in self._inherited if each not in found]
        if not found:
            raise _NotInherited
        return found

    @property
    def addresses(self) -> list[Any]:
        """Where it is listened, as Twisted has it."""
        return [each.getHost() for each in (*self.all, *self._others)]

    @property
    def secure(self) -> list[Any]:
        """Where TLS is spoken, as Twisted has it."""
        return [each.getHost() for each in self.all if each.secure]

    @property
    def descriptions(self) -> list[str]:
        """What describes the sockets, for whoever asks who can reach them."""
        return [
            f"unix:{_path(each.socket)}"
            if each.socket.family == socket.AF_UNIX
            else f"tcp:{_port(each.socket)}:interface={_escaped(each.socket.getsockname()[0])}"
            for each in self.all
        ]

    def start(self, reactor: Any) -> None:
        """Begin to accept."""
        for listener in self.all:
            listener.start(reactor)

    def shut(self) -> None:
        """Let nobody new in; who waits is left to the processes that accept."""
        for listener in self.all:
            if listener.own:
                listener.shut()

    async def stop(self, reactor: Any) -> None:
        """Accept who waits already, then close."""
        ends = [Deferred.fromCoroutine(each.stop(reactor)) for each in self.all]
        ends += [maybeDeferred(each.stopListening) for each in self._others]
        await gatherResults(ends)

    def close(self) -> None:
        """Close the sockets of a process that does not accept, or not yet."""
        for listener in self.all:
            if listener.own:
                _unlink(listener.socket)
            listener.socket.close()


class _NotInherited(Exception):
    """Other sockets than this one were passed to the process."""


class _StandIn:
    """What an endpoint takes for a reactor: it binds, and does not accept yet."""

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
        """A Unix socket. A lock file is not needed: who listens on it answers for itself."""
        path = os.fsdecode(address)
        request = f"{self._kind}unix {path}"
        found = self._listeners.take(request, path)
        if found is None:
            try:
                mode = mode if self.says_mode else UNIX_MODE
                return self._new(_bound_path(path, mode, self._room(backlog)), request, factory)
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


def _bound_path(path: str, mode: int, backlog: int) -> socket.socket:
    """A Unix socket that listens. One that an ended process left at `path` is replaced."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        # From its first moment on: chmod(2) alone would leave one in which all may connect.
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


def _unlink(bound: socket.socket) -> None:
    """Remove a Unix socket's name, where it is still this socket's."""
    path = _path(bound)
    if path and not path.startswith("\0"):
        with suppress(OSError):  # after the privileges were dropped it may have to stay
            Path(path).unlink()


def _port(bound: socket.socket) -> int | None:
    return bound.getsockname()[1] if bound.family != socket.AF_UNIX else None


def _path(bound: socket.socket) -> str | None:
    return os.fsdecode(bound.getsockname()) if bound.family == socket.AF_UNIX else None


def _escaped(host: str) -> str:
    return host.replace(":", "\\:")


def _cannot(description: str, error: Any) -> str:
    """What keeps a description from being listened on, and what to do."""
    reason = getattr(error, "strerror", None) or str(error)
    remedy = {
        errno.EADDRINUSE: "Is another receiptd running? Choose another address with --listen, "
        "such as --listen tcp:8081:interface=127.0.0.1",
        errno.EACCES: "A port below 1024 is root's: start receiptd as root and set server.user, "
        "let systemd pass the socket, or choose another with --listen",
        errno.EADDRNOTAVAIL: "No interface of this machine has that address",
    }.get(getattr(error, "errno", None) or 0, "Choose another address with --listen")
    return f"{description}: cannot listen there: {reason}. {remedy}"
