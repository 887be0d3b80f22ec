"""One of several processes that serve: what its supervisor gives it, and how they talk.

The supervisor writes to the worker's descriptor 3: first its `Assignment`, later an `Order` for
each reload and for each new certificate; each is a pickle behind its length. The end of that pipe
is the end of the supervisor, and so of the worker. The worker writes lines to descriptor 4:
`ready` or `alive`, and how it is. The other descriptors are the store's lock, and the listening
sockets.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, Union

from twisted.internet.abstract import FileDescriptor
from twisted.logger import Logger, LogLevel

from receiptd.config import Config
from receiptd.daemon import signals
from receiptd.daemon.listener import Inherited
from receiptd.daemon.listeners import Listeners
from receiptd.daemon.process import Process, begin_log
from receiptd.daemon.reactor import prepared_reactor
from receiptd.daemon.service import Daemon
from receiptd.errors import UserError
from receiptd.log import Log
from receiptd.store.database.server_lock import ServerLock

if TYPE_CHECKING:
    from receiptd.web.server.certificates import Material

ORDERS = 3
REPORTS = 4
LOCK = 5
SOCKETS = 6
"""The descriptors that a worker is started with; the sockets are this one and those behind."""

_log = Logger(namespace="receiptd")

_LENGTH = struct.Struct("!I")


class Assignment(NamedTuple):
    """What a worker is to do."""

    config: Config
    requests: list[str | None]
    """What each of the sockets was bound for: see `listener.Inherited`."""
    locked: bool
    """Whether the store's lock is among the descriptors."""
    material: Material | None
    """For TLS: the supervisor looks after the files, so that one that cannot be used is said
    once, and keeps no worker from starting."""


Order: TypeAlias = Union[Config, "Material"]
"""What a worker may be told once it serves."""


def pack(order: Assignment | Order) -> bytes:
    """`order` as it goes through the pipe."""
    # Between two processes of one program, of which one has started the other: nobody else can
    # write there.
    data = pickle.dumps(order)
    return _LENGTH.pack(len(data)) + data


class _Orders(FileDescriptor):
    """Reads what the supervisor writes."""

    def __init__(
        self, reactor: Any, take: Callable[[Order], object], end: Callable[[], object]
    ) -> None:
        """
        :param take: called with each order.
        :param end: called when the supervisor is gone.
        """
        super().__init__(reactor)
        self._take = take
        self._end = end
        self._data = b""
        os.set_blocking(ORDERS, False)
        self.startReading()

    def fileno(self) -> int:
        """The pipe's descriptor."""
        return ORDERS

    def doRead(self) -> None:
        """There is something to read."""
        try:
            data = os.read(ORDERS, 65536)
        except BlockingIOError:
            return
        if not data:
            self.connectionLost(None)
        self._data += data
        while (whole := _whole(self._data)) is not None:
            self._data = self._data[_LENGTH.size + len(whole) :]
            self._take(pickle.loads(whole))  # noqa: S301 see `pack`

    def connectionLost(self, reason: Any) -> None:
        """The supervisor is gone; the reactor says so, or there was nothing left to read."""
        if not self.disconnected:
            self.stopReading()
            super().connectionLost(reason)
            self._end()


def _whole(data: bytes) -> bytes | None:
    """The first pickle in `data`, None where it is not whole yet."""
    if len(data) < _LENGTH.size:
        return None
    end = _LENGTH.size + _LENGTH.unpack_from(data)[0]
    return data[_LENGTH.size : end] if len(data) >= end else None


def _assignment() -> Assignment:
    """The first order; waits for it.

    :raises EOFError: where the supervisor ended before.
    """
    with open(ORDERS, "rb", closefd=False, buffering=0) as orders:

        def exactly(size: int) -> bytes:
            data = b""
            while len(data) < size:
                piece = orders.read(size - len(data))
                if not piece:
                    raise EOFError
                data += piece
            return data

        (length,) = _LENGTH.unpack(exactly(_LENGTH.size))
        assignment = pickle.loads(exactly(length))  # noqa: S301 see `pack`
    assert isinstance(assignment, Assignment)
    return assignment


class _Reports:
    """Tells the supervisor how this worker is."""

    watchdog: float | None = None

    def __init__(self) -> None:
        os.set_blocking(REPORTS, False)

    def _tell(self, text: str) -> None:
        with suppress(OSError):  # a supervisor that does not read does not stop the worker
            os.write(REPORTS, text.encode() + b"\n")

    def ready(self, status: str) -> None:
        """It serves, by the configuration that it was told last."""
        self._tell(f"ready {status}")

    def alive(self, status: str) -> None:
        """It is well."""
        self._tell(f"alive {status}")

    def reloading(self) -> None:
        """The supervisor knows."""

    def stopping(self, seconds: float) -> None:
        """The supervisor knows."""


def main() -> int:
    """Serve as the supervisor says; the exit code."""
    # What a terminal sends to all its processes is for the supervisor, from now on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for descriptor in (ORDERS, REPORTS, LOCK):
        with suppress(OSError):
            os.set_inheritable(descriptor, False)
    try:
        assignment = _assignment()
    except (OSError, EOFError):
        sys.stderr.write("a worker is started by its supervisor: see receiptd serve --workers\n")
        return 2
    try:
        return _serve(assignment)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _serve(assignment: Assignment) -> int:
    reactor = prepared_reactor()
    config = assignment.config
    inherited = []
    for number, request in enumerate(assignment.requests):
        os.set_inheritable(SOCKETS + number, False)
        inherited.append(Inherited(socket.socket(fileno=SOCKETS + number), request))
    lock = ServerLock.inherited(config.store.url, LOCK) if assignment.locked else None
    log = begin_log(config, reactor)
    try:
        # Its supervisor says for all workers what there is to say.
        listeners = Listeners(inherited, level=LogLevel.debug)
        return _serve_on(reactor, assignment, listeners, lock, log)
    except UserError as error:
        if config.log.file:  # and not only on standard error
            _log.critical("{error}", error=error)
        raise
    finally:
        log.close()


def _serve_on(
    reactor: Any, assignment: Assignment, listeners: Listeners, lock: ServerLock | None, log: Log
) -> int:
    config = assignment.config
    daemon = Daemon(
        config,
        reactor,
        log,
        listeners=listeners,
        lock=lock,
        material=assignment.material,
    )
    process = Process(reactor, daemon, _Reports(), level=LogLevel.debug)
    process.start()
    signals.obey_supervisor(reactor, stop=process.stop)

    def take(order: Order) -> None:
        if isinstance(order, Config):
            process.reload(lambda: order)
        else:
            daemon.renew(order)

    _Orders(reactor, take, process.stop)
    process.serve()
    return process.run()
