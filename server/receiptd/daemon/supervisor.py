"""The supervisor of several workers: it binds the sockets once, starts a process for each worker
on them, and starts it again when it dies.

Since the sockets stay open here, no connection is refused while a worker is away: who is in the
sockets' queue is served by the others, or by the new one. The supervisor itself accepts nothing,
and serves nobody. Where `server.user` is set the workers become that user; the supervisor stays
root, so that it can start workers and read the configuration again.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from shutil import rmtree
from socket import socket
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.logger import Logger

from receiptd.config import Config
from receiptd.config.reloading import taken_over
from receiptd.daemon import privileges, signals
from receiptd.daemon.listeners import Inherited, Listeners
from receiptd.daemon.orders import LONGEST_REPORT, ORDERS, REPORTS, pack
from receiptd.daemon.process import announce, begin_log, introduce, refuse
from receiptd.daemon.reactor import prepared_reactor
from receiptd.daemon.sender import SenderProcess
from receiptd.daemon.service import address, at_once, certificate_files, warn_of_kept
from receiptd.daemon.systemd import Notifier
from receiptd.daemon.worker import LOCK, SOCKETS, Assignment, Order
from receiptd.errors import UserError
from receiptd.log import Log
from receiptd.metrics.counters import FOLDER_VARIABLE
from receiptd.store.database.server_lock import ServerLock

if TYPE_CHECKING:
    from receiptd.web.server.certificates import Files

DEATHS = 5
WITHIN = 30.0
"""So many deaths of a worker within so many seconds are a crash loop: it is then started again
after a while, twice as long each time."""

SHORTEST_BREAK = 1.0
LONGEST_BREAK = 60.0
"""Seconds before a worker in a crash loop is started again."""

HUNG = 60.0
"""Seconds without a sign of life after which a worker is killed, unless the service manager's
watchdog wants less; also those that one may take to start, but for the first of all, which may
have a database to bring up to date."""

OVERTIME = 5.0
"""Seconds beyond `server.stop_timeout` after which a worker that is told to end is killed."""

_log = Logger(namespace="receiptd")


class Child(ProcessProtocol):
    """One worker, through all its processes."""

    transport: Any = None

    def __init__(self, number: int, supervisor: Supervisor) -> None:
        self.number = number
        self._supervisor = supervisor
        self._data = b""
        self.running = False
        self.ready = False
        """Whether it serves."""
        self.behind = False
        """Whether it has yet to go by a configuration that it was given."""
        self.settled = False
        """Whether it has served, or died, at least once."""
        self.heard = 0.0
        """When it last gave a sign of life."""
        self.since = 0.0
        """When it was started."""
        self.deaths: deque[float] = deque(maxlen=DEATHS)
        self.pause = 0.0
        """The seconds that it was last kept from starting again."""

    def connectionMade(self) -> None:
        """It is started."""
        self._data = b""
        self.running = True

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """It reports."""
        *lines, rest = (self._data + data).split(b"\n")
        self._data = rest[:LONGEST_REPORT]  # a worker may be anybody's by now
        for line in lines:
            self._supervisor.reported(self, line.partition(b" ")[0].decode())

    def processEnded(self, reason: Any) -> None:
        """It is gone."""
        self.running = self.ready = self.behind = False
        self._supervisor.ended(self, reason.value)

    def order(self, order: Order) -> None:
        """Have it serve by `order`."""
        if self.running:
            self.behind = self.behind or isinstance(order, Config)
            self.transport.writeToChild(ORDERS, pack(order))

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self.running:
            with suppress(ProcessExitedAlready):
                # As a number: Twisted knows the names of few.
                self.transport.signalProcess(int(number))


class Supervisor:
    """Keeps the workers running."""

    def __init__(
        self,
        reactor: Any,
        config: Config,
        load: Callable[[], Config],
        log: Log,
        listeners: Listeners,
        notifier: Notifier,
        lock: ServerLock,
        environment: Mapping[str, str],
    ) -> None:
        """
        :param load: reads the configuration again.
        :param lock: the store's, taken.
        :param environment: of the workers.
        :raises ListenError: where the certificates cannot be used.
        """
        self._reactor = reactor
        self._config = config
        self._load = load
        self._log = log
        self._listeners = listeners
        self._notifier = notifier
        self._lock = lock
        self._environment = environment
        self._certificates: Files | None = None
        if config.server.tls is not None:
            self._certificates = certificate_files(config.server.tls, reactor, self._order_all)
        self._workers = [Child(number + 1, self) for number in range(config.server.workers)]
        self._sender = SenderProcess(
            reactor, config, folder=Path(environment[FOLDER_VARIABLE]), environment=environment
        )
        self._announced = False
        self._reloading = False
        self._stopping = False
        self.exit_code = 0
        self._hung = notifier.watchdog or HUNG
        self._look = task.LoopingCall(self._look_after)
        self._look.clock = reactor

    def start(self) -> None:
        """Start the first worker, and when it serves the others: what is wrong is then said
        once, and what is to be made anew, such as the database, is made once."""
        self._spawn(self._workers[0])
        self._look.start(min(1.0, self._hung / 3))
        if self._certificates is not None:
            self._certificates.start()

    def stop(self) -> None:
        """End the workers in good order, then this process."""
        self._stopping = True
        seconds = self._config.server.stop_timeout
        _log.info("stopping")
        self._notifier.stopping(seconds)
        self._listeners.shut()
        if self._certificates is not None:
            self._certificates.stop()
        for worker in self._workers:
            worker.signal(signal.SIGTERM)
        self._reactor.callLater(seconds + OVERTIME, self._run_out)
        self._sender.stop().addCallback(lambda _: self._stop_when_alone())
        self._stop_when_alone()

    def abandon(self) -> None:
        """End the workers at once."""
        for worker in self._workers:
            worker.signal(signal.SIGKILL)
        self._sender.signal(signal.SIGKILL)

    def reload(self) -> None:
        """Read the configuration again, and have the workers go by it."""
        if self._stopping:
            return
        self._notifier.reloading()
        try:
            config = self._load()
            config, kept = taken_over(self._config, config)
            # All that a worker could stumble over.
            for endpoint in config.endpoint:
                endpoint.bind()
            material = None
            if self._certificates is not None and config.server.tls is not None:
                material = self._certificates.check(config.server.tls)
            self._log.apply(config.log)
        except UserError as error:
            refuse(str(error))
        except Exception:
            _log.failure("the new configuration is not used: the old one stays in force")
        else:
            warn_of_kept(kept)
            if self._certificates is not None and material is not None:
                self._certificates.use(material)
            _log.info("the configuration was reloaded")
            self._config = config
            self._order_all(config)
            self._sender.reload(config)
        self._reloading = True
        self._reloaded()

    def _order_all(self, order: Order) -> None:
        """Have all workers serve by `order`. Those that are started later will, too."""
        for worker in self._workers:
            worker.order(order)

    def reopen_log(self) -> None:
        """Have everybody open the log's file anew."""
        self._log.reopen()
        for worker in self._workers:
            # One that starts does not obey yet; it finds the file where it is.
            if worker.ready:
                worker.signal(signal.SIGUSR1)
        self._sender.signal(signal.SIGUSR1)

    # --- What the workers tell

    def reported(self, worker: Child, word: str) -> None:
        """A worker has said how it is."""
        worker.heard = self._reactor.seconds()
        if word == "ready":
            worker.ready, worker.behind = True, False
            self._settled(worker)
            self._reloaded()

    def ended(self, worker: Child, how: Any) -> None:
        """A worker's process is gone.

        :param how: `exitCode` or `signal` says it.
        """
        said = _said(how)
        if self._stopping:
            # One that was about to start has not taken SIGTERM into its own hands yet.
            if how.exitCode != 0 and how.signal != signal.SIGTERM:
                self.exit_code = 1
                _log.error("worker {number} {said}", number=worker.number, said=said)
            self._stop_when_alone()
            return
        if not any(each.settled for each in self._workers):
            # One that fails has said why.
            if how.exitCode != 1:
                _log.critical("worker {number} {said}", number=worker.number, said=said)
            self.exit_code = 1
            self._stopping = True
            self._stop_when_alone()
            return
        now = self._reactor.seconds()
        worker.deaths.append(now)
        if len(worker.deaths) < DEATHS or now - worker.deaths[0] > WITHIN:
            _log.error(
                "worker {number} {said} and is started again", number=worker.number, said=said
            )
            self._spawn(worker)
        else:
            if not worker.pause:
                _log.critical(
                    "worker {number} {said}, for the {deaths}th time within {seconds:.0f} s: it "
                    "is started again after a while, and that is not reported any more. The "
                    "others go on",
                    number=worker.number,
                    said=said,
                    deaths=DEATHS,
                    seconds=now - worker.deaths[0],
                )
            worker.pause = min(max(2 * worker.pause, SHORTEST_BREAK), LONGEST_BREAK)
            self._reactor.callLater(worker.pause, self._spawn, worker)
        self._settled(worker)
        self._reloaded()

    def _settled(self, worker: Child) -> None:
        first = not any(each.settled for each in self._workers)
        worker.settled = True
        if first:
            for each in self._workers:
                if each is not worker:
                    self._spawn(each)
            self._sender.start()
        if not self._announced and all(each.settled for each in self._workers):
            self._announced = True
            secure = self._listeners.secure
            announce(
                self._config,
                [address(each, each in secure) for each in self._listeners.addresses],
            )
            self._notifier.ready(self._status)

    def _reloaded(self) -> None:
        """Tell the service manager once the reload is over everywhere."""
        if self._reloading and not any(each.behind for each in self._workers):
            self._reloading = False
            self._notifier.ready(self._status)

    # --- Looking after them

    def _spawn(self, worker: Child) -> None:
        if self._stopping:
            return
        sockets = self._listeners.all
        descriptors: dict[int, int | str] = {0: 0, 1: 1, 2: 2, ORDERS: "w", REPORTS: "r"}
        lock = self._lock.fileno()
        if lock is not None:
            descriptors[LOCK] = lock
        for number, listener in enumerate(sockets):
            descriptors[SOCKETS + number] = listener.socket.fileno()
        # Python would else look into the working directory for modules, which may be anybody's.
        safe = [] if {"", str(Path.cwd())} & set(sys.path) else ["-P"]
        worker.since = worker.heard = self._reactor.seconds()
        arguments = [sys.executable, *safe, "-m", "receiptd", "worker", str(worker.number)]
        try:
            self._reactor.spawnProcess(
                worker, sys.executable, arguments, env=self._environment, childFDs=descriptors
            )
        except OSError as error:
            _log.error(
                "worker {number} cannot be started: {error}", number=worker.number, error=error
            )
            self._reactor.callLater(SHORTEST_BREAK, self._spawn, worker)
            return
        material = self._certificates.material if self._certificates is not None else None
        assignment = Assignment(
            self._config, [each.request for each in sockets], lock is not None, material
        )
        worker.transport.writeToChild(ORDERS, pack(assignment))
        if not worker.pause:
            _log.info(
                "worker {number} is process {process}",
                number=worker.number,
                process=worker.transport.pid,
            )

    def _look_after(self) -> None:
        self._log.look()
        now = self._reactor.seconds()
        for worker in self._workers:
            patience = self._hung if worker.ready else max(self._hung, HUNG)
            hangs = worker.running and now - worker.heard > patience
            if hangs and any(each.settled for each in self._workers):
                _log.error(
                    "worker {number} has given no sign of life for {seconds:.0f} s and is killed",
                    number=worker.number,
                    seconds=now - worker.heard,
                )
                worker.ready, worker.heard = False, now
                worker.signal(signal.SIGKILL)
            if worker.ready and worker.pause and now - worker.since > WITHIN:
                worker.pause = 0.0
                worker.deaths.clear()
                _log.info("worker {number} serves again", number=worker.number)
        # As long as any serves; where none does, the service manager may have more luck.
        if not self._announced or any(each.ready for each in self._workers):
            self._notifier.alive("stopping" if self._stopping else self._status)

    @property
    def _status(self) -> str:
        serving = sum(each.ready for each in self._workers)
        return f"{serving} of {len(self._workers)} workers serve"

    def _stop_when_alone(self) -> None:
        if not self._sender.running and not any(each.running for each in self._workers):
            self._reactor.callWhenRunning(self._reactor.stop)

    def _run_out(self) -> None:
        _log.error("the time to stop is over: the workers that are left are killed")
        self.abandon()


def _said(how: Any) -> str:
    if how.signal is not None:
        with suppress(ValueError):
            return f"was ended by {signal.Signals(how.signal).name}"
    return f"ended with exit code {how.exitCode}"


def _make_metrics_folder(who: privileges.Account | None, after: ExitStack) -> str:
    """A new folder for what the workers count.

    :param after: deletes it.
    """

    def delete() -> None:
        with privileges.acting_as(who):
            rmtree(folder, ignore_errors=True)

    with privileges.acting_as(who):
        folder = mkdtemp(prefix="receiptd-metrics-")
    after.callback(delete)
    return folder


def run(
    config: Config, source: str, load: Callable[[], Config], passed: Sequence[socket] = ()
) -> int:
    """Supervise until told to stop; the exit code.

    :param source: what the configuration was read from, for the log.
    :param load: reads the configuration again.
    :param passed: the sockets that the service manager has passed.
    :raises UserError: where it cannot start.
    """
    reactor = prepared_reactor()
    server = config.server
    notifier = Notifier()
    who = privileges.account(server.user, server.group)
    listeners = Listeners([Inherited(each, None) for each in passed])
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

        # Not before Twisted's own handlers are there, of which it needs that for SIGCHLD.
        reactor.callWhenRunning(start)
        reactor.run()
        _log.info("stopped")
        return supervisor.exit_code
