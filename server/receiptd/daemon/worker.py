"""One of several processes that serve: what its supervisor gives it, and how they talk.

The supervisor gives orders (`orders`): first the worker's `Assignment`, later an `Order` for
each reload and for each new certificate. The other descriptors are the store's lock, and the
listening sockets.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, Union

from twisted.logger import Logger, LogLevel

from receiptd.config import Config
from receiptd.daemon import signals
from receiptd.daemon.listener import Inherited
from receiptd.daemon.listeners import Listeners
from receiptd.daemon.orders import ORDERS, REPORTS, Orders, Reports, first_order
from receiptd.daemon.process import Process, begin_log
from receiptd.daemon.reactor import prepared_reactor
from receiptd.daemon.service import Daemon
from receiptd.errors import UserError
from receiptd.log import Log
from receiptd.store.database.server_lock import ServerLock

if TYPE_CHECKING:
    from receiptd.web.server.certificates import Material

LOCK = 5
SOCKETS = 6
"""The descriptors that a worker is started with beside its orders and reports; the sockets are
this one and those behind."""

_log = Logger(namespace="receiptd")


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


def main() -> int:
    """Serve as the supervisor says; the exit code."""
    # What a terminal sends to all its processes is for the supervisor, from now on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for descriptor in (ORDERS, REPORTS, LOCK):
        with suppress(OSError):
            os.set_inheritable(descriptor, False)
    try:
        assignment = first_order()
    except (OSError, EOFError):
        sys.stderr.write("a worker is started by its supervisor: see receiptd serve --workers\n")
        return 2
    try:
        assert isinstance(assignment, Assignment)
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
    process = Process(reactor, daemon, Reports(), level=LogLevel.debug)
    process.start()
    signals.obey_supervisor(reactor, stop=process.stop)

    def take(order: Order) -> None:
        if isinstance(order, Config):
            process.reload(lambda: order)
        else:
            daemon.renew(order)

    Orders(reactor, take, process.stop)
    process.serve()
    return process.run()
