"""A process that serves: it starts and stops the daemon, reloads it, and reports how it is."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from twisted.internet import task
from twisted.logger import Logger, LogLevel, globalLogBeginner

from receiptd.config import Config
from receiptd.daemon import privileges
from receiptd.daemon.reloading import reload
from receiptd.daemon.sender import SenderProcess
from receiptd.daemon.service import Daemon
from receiptd.errors import UserError
from receiptd.log import Log

SIGN_OF_LIFE = 1.0
"""Seconds between reports on how it is, unless a watchdog wants them more often."""

_log = Logger(namespace="receiptd")


class Reporter(Protocol):
    """The receiver of reports on the process: the service manager, or the supervisor."""

    watchdog: float | None

    def ready(self, status: str) -> None:
        """It serves."""

    def reloading(self) -> None:
        """It reads its configuration."""

    def stopping(self, seconds: float) -> None:
        """It ends."""

    def alive(self, status: str) -> None:
        """It is well."""


class Process:
    """Runs one daemon in this process."""

    def __init__(
        self,
        reactor: Any,
        daemon: Daemon,
        reporter: Reporter,
        *,
        level: LogLevel = LogLevel.info,
        sender: SenderProcess | None = None,
    ) -> None:
        """
        :param level: log level of its own lines about start, reload and stop.
        :param sender: the process that forwards, where this one has to look after it.
        """
        self._sender = sender
        if sender is not None:
            daemon.forward_folder = lambda: sender.folder
        self._level = level
        self._reactor = reactor
        self._daemon = daemon
        self._reporter = reporter
        self._failed = False
        self._stopping = False
        self._signs = task.LoopingCall(self._sign_of_life)
        self._signs.clock = reactor

    def start(self) -> None:
        """Listen, become the user to serve as, open the store. Listening may have been done
        already.

        :raises Exception: what keeps it from starting, of any kind.
        """
        try:
            self._daemon.startService()
        except BaseException:
            self._daemon.close()
            raise

    def serve(self, listening: Callable[[list[str]], None] = lambda addresses: None) -> None:
        """Report from now on.

        :param listening: called with the addresses once it serves.
        """
        self._daemon.listening.addCallback(self._ready, listening).addErrback(self._fail)
        if self._sender is not None:
            self._reactor.addSystemEventTrigger("before", "shutdown", self._sender.stop)

    def run(self) -> int:
        """Run the reactor until `stop` is called; the exit code."""
        daemon = self._daemon
        self._reactor.addSystemEventTrigger("before", "shutdown", daemon.stopService)
        # Twisted's own handler of SIGCHLD tells of the end of the process that forwards.
        self._reactor.run(installSignalHandlers=self._sender is not None)
        if self._stopping:
            unanswered = daemon.unanswered
            left = f"; requests left without an answer: {unanswered}" if unanswered else ""
            _log.emit(self._level, "stopped{left}", left=left)
        return 1 if self._failed or daemon.unanswered else 0

    def stop(self) -> None:
        """Stop gracefully. A second call does nothing."""
        if self._stopping:
            return
        _log.emit(self._level, "stopping")
        self._stopping = True
        self._reporter.stopping(self._daemon.stop_timeout)
        self._reactor.stop()

    def reload(self, load: Callable[[], Config]) -> None:
        """Use the configuration that `load` returns; if it cannot be used, keep the old one."""
        if self._stopping:
            return
        self._reporter.reloading()
        if reload(load, self._daemon.reload):
            _log.emit(self._level, "the configuration was reloaded")
            if self._sender is not None:
                self._sender.reload(self._daemon.config)
        self._reporter.ready(self._daemon.status)

    def _ready(self, addresses: list[str], listening: Callable[[list[str]], None]) -> None:
        listening(addresses)
        if self._sender is not None:
            self._sender.start()
        self._reporter.ready(self._daemon.status)
        self._signs.start(min(SIGN_OF_LIFE, (self._reporter.watchdog or 60) / 3))

    def _sign_of_life(self) -> None:
        if self._daemon.healthy:
            self._reporter.alive("stopping" if self._stopping else self._daemon.status)

    def _fail(self, failure: Any) -> None:
        self._failed = True
        if failure.check(UserError):
            _log.critical("{error}", error=failure.value)
        else:
            _log.failure("cannot start", failure=failure)
        self._reactor.callWhenRunning(self._reactor.stop)


def begin_log(config: Config, reactor: Any) -> Log:
    """Open the log. It also takes the lines of Twisted and of other libraries.

    :raises LogError: if it cannot be opened.
    """
    server = config.server

    def opening() -> AbstractContextManager[None]:
        # As the workers' user, also when a supervisor, which stays root, opens it anew. Otherwise
        # the workers could not write to it, and root would follow a link of that user's.
        return privileges.acting_as(privileges.account(server.user, server.group))

    log = Log(config.log, opening)
    observer: Any = log
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    log.take_from_libraries()
    signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(log.reopen))
    return log
