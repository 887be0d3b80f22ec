"""`twistd receiptd`: the same daemon in one process, with twistd's own options around it.

twistd does what `receiptd serve` does otherwise: it logs, becomes another user (`--uid`), and
writes a PID file. Sockets of systemd's are named in `--listen`, as Twisted has it
(`systemd:domain=INET:index=0`). Several workers need `receiptd serve --workers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python import usage

from receiptd.config import Config, describe, find, load, refuse_exposed
from receiptd.daemon import privileges, signals
from receiptd.daemon.process import Process
from receiptd.daemon.reactor import prepared_reactor
from receiptd.daemon.sender import SenderProcess
from receiptd.daemon.service import Daemon
from receiptd.daemon.start_lines import announce, introduce
from receiptd.daemon.systemd import Notifier
from receiptd.errors import UserError
from receiptd.log import Log

_log = Logger(namespace="receiptd")


class Options(usage.Options):
    """What comes behind `twistd receiptd`."""

    optParameters = [  # noqa: RUF012 Twisted's way
        ["config", "c", None, "The configuration file (default: receiptd.toml, if it is there)."],
        ["database", "d", None, "The database, in place of the configuration's store.url."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.listen: list[str] = []

    def opt_listen(self, description: str) -> None:
        """Where to listen, in place of the configuration's server.listen: a Twisted endpoint
        description. May be given several times."""
        self.listen.append(description)

    opt_l = opt_listen


def makeService(options: Options) -> Service:
    """The service that twistd runs."""
    file = Path(options["config"]).absolute() if options["config"] else None
    path = find(file)
    path = path.absolute() if path else None  # twistd may change the working directory

    def read() -> Config:
        config = load(path, listen=options.listen, database=options["database"])
        refuse_exposed(path, config)
        return config

    try:
        return Tap(read(), describe(path), read)
    except UserError as error:
        raise SystemExit(str(error)) from None


class Tap(Service):
    """The daemon under twistd. It is made once twistd has gone into the background."""

    def __init__(self, config: Config, source: str, load: Callable[[], Config]) -> None:
        """
        :param source: what the configuration was read from, for the log.
        :param load: reads the configuration again.
        """
        self._config = config
        self._source = source
        self._load = load
        # The service manager's variables are for the process that it has started.
        self._notifier = Notifier()

    def privilegedStartService(self) -> None:
        """Listen, and become the user to serve as."""
        with _failing_clearly():
            reactor = prepared_reactor()
            server = self._config.server
            made = Log if self._config.log.file else _TwistdLog
            who = privileges.account(server.user, server.group)
            log = made(self._config.log, lambda: privileges.acting_as(who))
            self._daemon = Daemon(self._config, reactor, log)
            self._daemon.privilegedStartService()

    def startService(self) -> None:
        """Open the store and serve."""
        reactor = prepared_reactor()
        super().startService()
        # Its standard error may be closed in the background: what it logs there goes to twistd.
        sender = SenderProcess(reactor, self._config, relayed=not self._config.log.file)
        process = Process(reactor, self._daemon, self._notifier, sender=sender)
        with _failing_clearly():
            process.start()
        introduce(self._config, self._source, self._daemon.descriptions)
        if self._config.server.workers > 1:
            _log.warn("twistd runs one process: for workers use receiptd serve --workers")
        process.serve(lambda addresses: announce(self._config, addresses))
        # Not before the reactor's own handlers are there.
        reactor.callWhenRunning(
            signals.obey, reactor, stop=process.stop, reload=lambda: process.reload(self._load)
        )

    def stopService(self) -> Deferred[None]:
        """Answer and store what has come, end."""
        super().stopService()
        return self._daemon.stopService().addCallback(lambda _: _log.info("stopped"))


class _TwistdLog(Log):
    """Writes the lines of receipts to twistd's log, where all else is as well."""

    def write(self, lines: str) -> None:
        for line in lines.splitlines():
            _log.info("{line}", line=line)


@contextmanager
def _failing_clearly() -> Iterator[None]:
    """End with one line in the log where the server cannot start."""
    try:
        yield
    except UserError as error:
        _log.critical("{error}", error=error)
        raise SystemExit(1) from None
