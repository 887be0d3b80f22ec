"""The process that forwards, as the daemon sees it: started where destinations are configured,
started again when it dies or hangs, and ended with the daemon. Receiving does not wait for it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, NamedTuple

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger

from receiptd.config import Config
from receiptd.daemon import privileges
from receiptd.daemon.orders import LONGEST_REPORT, ORDERS, REPORTS, pack

HUNG = 60.0
"""Seconds without a sign of life after which it is killed."""

SHORTEST_BREAK, LONGEST_BREAK = 1.0, 60.0
"""Seconds before it is started again: twice as long each time that it did not live for as long as
the longest."""

OVERTIME = 2.0
"""Seconds beyond `server.stop_timeout` after which it is killed."""

_log = Logger(namespace="receiptd.forward")


class SenderAssignment(NamedTuple):
    """What the process is to do."""

    config: Config
    folder: str
    """Where it tells what it has counted."""


class SenderProcess(ProcessProtocol):
    """Keeps the process running, through all its lives."""

    transport: Any = None

    def __init__(
        self,
        reactor: Any,
        config: Config,
        *,
        folder: Path | None = None,
        environment: Mapping[str, str] = os.environ,
        relayed: bool = False,
    ) -> None:
        """
        :param folder: where it tells what it has counted; None: in one that is made for it.
        :param environment: of the process.
        :param relayed: whether its standard error is read, and goes to this process's log.
        """
        self._reactor = reactor
        self._config = config
        self._own_folder = folder is None
        self._folder = folder
        self._environment = environment
        self._relayed = relayed
        self.running = False
        self._stopping = False
        self._started = False
        self._since = self._heard = 0.0
        self._break = 0.0
        self._again: Any = None
        self._lines = b""
        self._ended: Deferred[None] | None = None
        self._look = task.LoopingCall(self._look_after)
        self._look.clock = reactor

    @property
    def folder(self) -> Path | None:
        """Where it tells what it has counted; None as long as there was nothing to forward."""
        return self._folder

    def start(self) -> None:
        """Start it, if there is anything to forward."""
        self._started = True
        self._look.start(5.0, now=False)
        if self._config.forward:
            self._spawn()

    def reload(self, config: Config) -> None:
        """Have it go by `config`."""
        self._config = config
        if not self._started or self._stopping:
            return
        if self.running:
            self.transport.writeToChild(ORDERS, pack(config))
        elif config.forward and self._again is None:
            self._spawn()

    def stop(self) -> Deferred[None]:
        """End it; fires when it is gone."""
        self._stopping = True
        if self._look.running:
            self._look.stop()
        if self._again is not None:
            self._again.cancel()
            self._again = None
        done: Deferred[None] = Deferred()
        if not self.running:
            self._clean_up()
            done.callback(None)
            return done
        self._ended = done
        self.signal(signal.SIGTERM)
        patience = self._reactor.callLater(
            self._config.server.stop_timeout + OVERTIME, self.signal, signal.SIGKILL
        )

        def cancel(result: None) -> None:
            if patience.active():
                patience.cancel()

        return done.addCallback(cancel)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self.running:
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess(int(number))

    def _spawn(self) -> None:
        self._again = None
        if self._stopping or not self._config.forward:
            return
        if self._folder is None:
            server = self._config.server
            with privileges.acting_as(privileges.account(server.user, server.group)):
                self._folder = Path(mkdtemp(prefix="receiptd-forward-"))
        # Python would otherwise look into the working directory for modules, which may be
        # anybody's.
        safe = [] if {"", str(Path.cwd())} & set(sys.path) else ["-P"]
        descriptors: dict[int, int | str] = {0: 0, 1: 1, 2: 2, ORDERS: "w", REPORTS: "r"}
        if self._relayed:
            descriptors[2] = "r"
        self._since = self._heard = self._reactor.seconds()
        try:
            self._reactor.spawnProcess(
                self,
                sys.executable,
                [sys.executable, *safe, "-m", "receiptd", "forwarder"],
                env=self._environment,
                childFDs=descriptors,
            )
        except OSError as error:
            _log.error("the process that forwards cannot be started: {error}", error=error)
            self._later()
            return
        self.transport.writeToChild(
            ORDERS, pack(SenderAssignment(self._config, str(self._folder)))
        )
        _log.info("forwarding is done by process {process}", process=self.transport.pid)

    def connectionMade(self) -> None:
        """It is started."""
        self._lines = b""
        self.running = True

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """It reports, or logs."""
        self._heard = self._reactor.seconds()
        if childFD == 2:
            *lines, rest = (self._lines + data).split(b"\n")
            self._lines = rest[:LONGEST_REPORT]
            for line in lines:
                _log.info("{line}", line=line.decode("utf-8", "replace"))

    def processEnded(self, reason: Any) -> None:
        """It is gone."""
        self.running = False
        if self._stopping:
            self._clean_up()
            if self._ended is not None:
                self._ended.callback(None)
            return
        _log.error(
            "the process that forwards has ended ({how}) and is started again; what was stored "
            "waits for it",
            how=reason.value,
        )
        self._later()

    def _later(self) -> None:
        if self._reactor.seconds() - self._since > LONGEST_BREAK:
            self._break = 0.0
        self._break = min(max(2 * self._break, SHORTEST_BREAK), LONGEST_BREAK)
        self._again = self._reactor.callLater(self._break, self._spawn)

    def _look_after(self) -> None:
        silent = self._reactor.seconds() - self._heard
        if self.running and silent > HUNG:
            _log.error(
                "the process that forwards has given no sign of life for {seconds:.0f} s and is "
                "killed",
                seconds=silent,
            )
            self._heard = self._reactor.seconds()
            self.signal(signal.SIGKILL)

    def _clean_up(self) -> None:
        if self._own_folder and self._folder is not None:
            rmtree(self._folder, ignore_errors=True)
            self._folder = None
