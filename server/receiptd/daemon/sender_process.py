"""The process that forwards: what it does from its start to its end.

The daemon starts it and talks to it as a supervisor does with a worker (`orders`): first comes a
`SenderAssignment`, then configurations.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet import task
from twisted.logger import Logger

from receiptd.daemon import privileges, signals
from receiptd.daemon.orders import ORDERS, REPORTS, Orders, Reports, first_order
from receiptd.daemon.process import begin_log
from receiptd.daemon.reactor import prepared_reactor
from receiptd.daemon.sender import SenderAssignment
from receiptd.errors import UserError
from receiptd.forward.forwarder import Forwarder
from receiptd.forward.metrics import ForwardMetrics

_log = Logger(namespace="receiptd.forward")


def main() -> int:
    """Forward as the daemon says; the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for descriptor in (ORDERS, REPORTS):
        with suppress(OSError):
            os.set_inheritable(descriptor, False)
    try:
        assignment = first_order()
        assert isinstance(assignment, SenderAssignment)
    except (OSError, EOFError, AssertionError, pickle.UnpicklingError):
        sys.stderr.write("this process is started by receiptd serve, where [[forward]] is set\n")
        return 2
    try:
        return _run(assignment)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _run(assignment: SenderAssignment) -> int:
    reactor = prepared_reactor()
    config = assignment.config
    log = begin_log(config, reactor)
    privileges.serve_as(privileges.account(config.server.user, config.server.group))
    folder = Path(assignment.folder)
    metrics = ForwardMetrics()
    metrics.go_on_from(folder)
    forwarder = Forwarder(reactor, config, metrics)
    reports = Reports()
    patience = max(config.server.stop_timeout - 2.0, 0.5)

    def stop() -> None:
        if reactor.running:
            reactor.stop()

    def every_second() -> None:
        log.look()
        reports.alive("")
        with suppress(OSError):
            metrics.write(folder)

    def take(order: Any) -> None:
        log.apply(order.log)
        forwarder.renew(order)
        reports.ready("")

    reactor.addSystemEventTrigger("before", "shutdown", lambda: forwarder.stop(patience))
    signals.obey_supervisor(reactor, stop=stop)
    signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(log.reopen))
    Orders(reactor, take, stop)
    look = task.LoopingCall(every_second)
    look.clock = reactor
    reactor.callWhenRunning(forwarder.start)
    reactor.callWhenRunning(look.start, 1.0)
    reactor.callWhenRunning(reports.ready, "")
    reactor.run(installSignalHandlers=False)
    with suppress(OSError):
        metrics.write(folder)
    log.close()
    return 0
