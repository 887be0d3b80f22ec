"""The service manager's side: what it passes to a service, and what it wants to be told.

Sources: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3). The protocol is a datagram, so a
few lines of our own serve better than a library.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress
from time import monotonic_ns

from receiptd.errors import UserError

FIRST = 3
"""The descriptor that the passed ones begin with."""


def passed_sockets(
    environment: MutableMapping[str, str] = os.environ, first: int = FIRST
) -> list[socket.socket]:
    """The listening sockets that were passed to this process. The variables are taken out of
    `environment`, so that no child believes them its own; so does Twisted when its endpoints are
    imported, hence this is to come before.

    :raises UserError: where what was passed is no socket, or none that connections come to.
    """
    names = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
    process, number, *_ = (environment.pop(name, "") for name in names)
    if process != str(os.getpid()) or not number.isdigit():
        return []
    passed = []
    for descriptor in range(first, first + int(number)):
        try:
            os.set_inheritable(descriptor, False)
            each = socket.socket(fileno=descriptor)
        except OSError as error:
            raise UserError(
                f"LISTEN_FDS names descriptor {descriptor}, which is no socket: {error.strerror}"
            ) from None
        if not _accepts(each):
            raise UserError(
                f"LISTEN_FDS names descriptor {descriptor}, which is no listening stream socket: "
                "use ListenStream= and Accept=no in the socket unit"
            )
        each.setblocking(False)
        passed.append(each)
    return passed


def _accepts(passed: socket.socket) -> bool:
    return (
        passed.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
        and passed.type == socket.SOCK_STREAM
        and passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    )


class Notifier:
    """Tells the service manager how the service is, where it wants to be told."""

    watchdog: float | None = None
    """Seconds without a sign of life after which the service manager ends the service."""

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        """The variables are taken out of `environment`: workers report to their supervisor."""
        address = environment.pop("NOTIFY_SOCKET", "")
        microseconds = environment.pop("WATCHDOG_USEC", "")
        process = environment.pop("WATCHDOG_PID", str(os.getpid()))
        self._socket: socket.socket | None = None
        if not address.startswith(("/", "@")):
            return
        if microseconds.isdigit() and int(microseconds) and process == str(os.getpid()):
            self.watchdog = int(microseconds) / 1e6
        # Of Linux's abstract namespace where the name begins with @.
        address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        with suppress(OSError):  # once, since what is sent later can do without an answer
            self._socket.connect(address)

    def tell(self, **state: str | int) -> None:
        """Send variables such as `READY=1`. Whether anybody listens is not our trouble."""
        if self._socket is not None:
            text = "\n".join(f"{name}={value}" for name, value in state.items())
            with suppress(OSError):
                self._socket.send(text.encode())

    def ready(self, status: str) -> None:
        """The service serves, for the first time or after it was reloaded."""
        self.tell(READY=1, STATUS=status)

    def reloading(self) -> None:
        """The configuration is read anew; `ready` says when that is over."""
        self.tell(RELOADING=1, MONOTONIC_USEC=monotonic_ns() // 1000)

    def stopping(self, seconds: float) -> None:
        """The service ends.

        :param seconds: how long that may take.
        """
        self.tell(
            STOPPING=1, STATUS="stopping", EXTEND_TIMEOUT_USEC=round((seconds + 5) * 1_000_000)
        )

    def alive(self, status: str) -> None:
        """The service is well."""
        self.tell(WATCHDOG=1, STATUS=status)
