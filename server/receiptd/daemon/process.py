"""A process that serves: it starts the daemon, obeys signals, reports to whoever started it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from socket import socket
from typing import Any, Protocol

from twisted.internet import task
from twisted.logger import Logger, LogLevel, globalLogBeginner

from receiptd import __version__
from receiptd.config import Config
from receiptd.daemon import privileges, signals
from receiptd.daemon.listeners import Inherited, Listeners
from receiptd.daemon.reactor import prepared_reactor
from receiptd.daemon.rules import spool_folder
from receiptd.daemon.sender import SenderProcess
from receiptd.daemon.service import Daemon, warnings
from receiptd.daemon.systemd import Notifier
from receiptd.errors import UserError
from receiptd.log import Log
from receiptd.store.database.engine import parse
from receiptd.store.database.errors import shown
from receiptd.web import token_file

SIGN_OF_LIFE = 1.0
"""Seconds between reports on how it is, unless a watchdog wants them more often."""

_log = Logger(namespace="receiptd")


class Reporter(Protocol):
    """Whoever wants to know how the process is: the service manager, or the supervisor."""

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
        :param level: of what it has to say of itself in the log.
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
        """Listen, become the user to serve as, open the store. The first of it may have been
        done already.

        :raises Exception: whatever keeps it from starting.
        """
        try:
            self._daemon.startService()
        except BaseException:
            self._daemon.close()
            raise

    def serve(self, listening: Callable[[list[str]], None] = lambda addresses: None) -> None:
        """Report from now on.

        :param listening: called with the addresses as soon as it serves.
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
        """End, in good order; to be called once or more often."""
        if self._stopping:
            return
        _log.emit(self._level, "stopping")
        self._stopping = True
        self._reporter.stopping(self._daemon.stop_timeout)
        self._reactor.stop()

    def reload(self, load: Callable[[], Config]) -> None:
        """Serve by the configuration that `load` gives; where it is a bad one, by the old one."""
        if self._stopping:
            return
        self._reporter.reloading()
        try:
            self._daemon.reload(load())
        except UserError as error:
            refuse(str(error))
        except Exception:
            _log.failure("the new configuration is not used: the old one stays in force")
        else:
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


def refuse(text: str) -> None:
    """Say in the log what is wrong with a new configuration, in the lines of `text`."""
    for line in text.splitlines():
        _log.error("{line}", line=line)
    _log.error("the new configuration is not used: the old one stays in force")


def begin_log(config: Config, reactor: Any) -> Log:
    """The log, which takes what Twisted and other libraries say as well.

    :raises LogError: where it cannot be opened.
    """
    server = config.server

    def opening() -> AbstractContextManager[None]:
        # As the user that the workers are, also anew where a supervisor stays root: else they
        # could not write to it, and root would follow whatever link that user has put there.
        return privileges.acting_as(privileges.account(server.user, server.group))

    log = Log(config.log, opening)
    observer: Any = log
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    log.take_from_libraries()
    signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(log.reopen))
    return log


def introduce(config: Config, source: str, listen: Sequence[str]) -> None:
    """Say in the log who starts, and what should be known before the first receipt comes.

    :param listen: descriptions of what it listens on.
    """
    _log.info("receiptd {version}, configuration: {source}", version=__version__, source=source)
    _log.info(
        "database: {url}, spool: {folder}",
        url=shown(parse(config.store.url)),
        folder=str(spool_folder(config)),
    )
    for endpoint in config.endpoint:
        for warning in warnings(endpoint, listen):
            _log.warn("{warning}", warning=warning)
    for destination in config.forward:
        for warning in destination.warnings():
            _log.warn("{warning}", warning=warning)


def announce(config: Config, addresses: list[str]) -> None:
    """Say in the log where it serves what."""
    for each in addresses:
        _log.info("listening on {address}", address=each)
    for endpoint in config.endpoint:
        _log.info(
            "{provider} posts to {address}{path}",
            provider=endpoint.provider,
            address=config.server.public_url or addresses[0],
            path=endpoint.path,
        )
    _log.info("the API and /metrics ask for a {token}", token=token_file.described(config))


def run(
    config: Config, source: str, load: Callable[[], Config], passed: Sequence[socket] = ()
) -> int:
    """Serve in this process until told to stop; its exit code.

    :param source: what the configuration was read from, for the log.
    :param load: reads the configuration again.
    :param passed: the sockets that the service manager has passed.
    :raises UserError: where it cannot start.
    """
    reactor = prepared_reactor()
    notifier = Notifier()
    listeners = Listeners([Inherited(each, None) for each in passed])
    log = begin_log(config, reactor)
    sender = SenderProcess(reactor, config)
    daemon = Daemon(config, reactor, log, listeners=listeners)
    process = Process(reactor, daemon, notifier, sender=sender)
    process.start()
    introduce(config, source, listeners.descriptions)
    obey = partial(signals.obey, reactor, stop=process.stop, reload=lambda: process.reload(load))
    obey()
    reactor.callWhenRunning(obey)  # in place of Twisted's handlers, which come meanwhile
    process.serve(lambda addresses: announce(config, addresses))
    code = process.run()
    log.close()
    return code
