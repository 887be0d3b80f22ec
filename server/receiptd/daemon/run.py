"""What `receiptd serve` runs: one serving process, or a supervisor and its workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from shutil import rmtree
from socket import socket
from tempfile import mkdtemp

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from receiptd.config import Config
from receiptd.daemon import privileges, signals
from receiptd.daemon.deferreds import at_once
from receiptd.daemon.listener import Inherited
from receiptd.daemon.listeners import Listeners
from receiptd.daemon.process import Process, begin_log
from receiptd.daemon.reactor import prepared_reactor
from receiptd.daemon.sender import SenderProcess
from receiptd.daemon.service import Daemon
from receiptd.daemon.start_lines import announce, introduce
from receiptd.daemon.supervisor import Supervisor
from receiptd.daemon.systemd import Notifier
from receiptd.metrics.workers import FOLDER_VARIABLE
from receiptd.store.database.server_lock import ServerLock

_log = Logger(namespace="receiptd")


def run(
    config: Config, source: str, load: Callable[[], Config], passed: Sequence[socket] = ()
) -> int:
    """Serve with as many processes as `server.workers` says, until told to stop.

    :param source: where the configuration was read from, for the log.
    :param load: reads the configuration again.
    :param passed: the sockets that the service manager has passed.
    :return: the exit code.
    :raises UserError: if it cannot start.
    """
    serve = run_workers if config.server.workers > 1 else run_alone
    return serve(config, source, load, [Inherited(each, None) for each in passed])


def run_alone(
    config: Config, source: str, load: Callable[[], Config], passed: list[Inherited]
) -> int:
    """Serve in this process until told to stop."""
    reactor = prepared_reactor()
    notifier = Notifier()
    listeners = Listeners(passed)
    log = begin_log(config, reactor)
    sender = SenderProcess(reactor, config)
    daemon = Daemon(config, reactor, log, listeners=listeners)
    process = Process(reactor, daemon, notifier, sender=sender)
    process.start()
    introduce(config, source, listeners.descriptions)
    obey = partial(signals.obey, reactor, stop=process.stop, reload=lambda: process.reload(load))
    obey()
    reactor.callWhenRunning(obey)  # in place of Twisted's handlers, which come meanwhile
    # After that: whoever reads that it serves may send a signal.
    reactor.callWhenRunning(process.serve, lambda addresses: announce(config, addresses))
    code = process.run()
    log.close()
    return code


def _make_metrics_folder(who: privileges.Account | None, after: ExitStack) -> str:
    """A new folder, in which the workers share what they have counted.

    :param after: deletes it at the end.
    """

    def delete() -> None:
        with privileges.acting_as(who):
            rmtree(folder, ignore_errors=True)

    with privileges.acting_as(who):
        folder = mkdtemp(prefix="receiptd-metrics-")
    after.callback(delete)
    return folder


def run_workers(
    config: Config, source: str, load: Callable[[], Config], passed: list[Inherited]
) -> int:
    """Supervise workers until told to stop."""
    reactor = prepared_reactor()
    server = config.server
    notifier = Notifier()
    who = privileges.account(server.user, server.group)
    listeners = Listeners(passed)
    with ExitStack() as after:
        log = begin_log(config, reactor)
        after.callback(log.close)
        after.callback(listeners.close)
        tls = server.tls.listen if server.tls else ()
        at_once(
            Deferred.fromCoroutine(
                listeners.bind(reactor, server.listen, Factory(), tls, Factory())
            )
        )
        lock = ServerLock(config.store.url)
        with privileges.acting_as(who):
            lock.take()
        after.callback(lock.release)
        environment = {**os.environ, FOLDER_VARIABLE: _make_metrics_folder(who, after)}
        introduce(config, source, listeners.descriptions)
        supervisor = Supervisor(reactor, config, load, log, listeners, notifier, lock, environment)

        def abandon() -> None:
            supervisor.abandon()
            after.close()

        def start() -> None:
            signals.obey(reactor, stop=supervisor.stop, reload=supervisor.reload, abandon=abandon)
            signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(supervisor.reopen_log))
            supervisor.start()

        # Not before Twisted has set its own handlers: the one for SIGCHLD is needed.
        reactor.callWhenRunning(start)
        reactor.run()
        _log.info("stopped")
        return supervisor.exit_code
