"""The supervisor of several workers: it holds the sockets, starts a process for each worker on
them, and starts it again when it dies.

The sockets stay open here, so no connection is refused while a worker is away: the other workers,
or the new one, accept it. The supervisor itself accepts nothing, and serves nobody. Where
`server.user` is set the workers become that user. The supervisor stays root, so that it can start
workers and read the configuration again.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet import task
from twisted.logger import Logger

from receiptd.config import Config
from receiptd.daemon.certificate_files import certificate_files
from receiptd.daemon.child import DEATHS, SHORTEST_BREAK, Child, ending
from receiptd.daemon.listeners import Listeners
from receiptd.daemon.orders import ORDERS, pack
from receiptd.daemon.reloading import checked, reload, warn_of_fixed
from receiptd.daemon.sender import SenderProcess
from receiptd.daemon.start_lines import announce, url_of
from receiptd.daemon.systemd import Notifier
from receiptd.daemon.worker import Assignment, Order
from receiptd.log import Log
from receiptd.metrics.workers import FOLDER_VARIABLE
from receiptd.store.database.server_lock import ServerLock

if TYPE_CHECKING:
    from receiptd.web.server.certificates import Files

HUNG = 60.0
"""Seconds without a sign of life after which a worker is killed, unless the service manager's
watchdog wants less. A worker may also take this long to start. The very first one may take longer,
because it may have a database to upgrade."""

OVERTIME = 5.0
"""Seconds after `server.stop_timeout` before a worker that was told to end is killed."""

_log = Logger(namespace="receiptd")


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
        self._workers = [
            Child(number + 1, self._reported, self._ended)
            for number in range(config.server.workers)
        ]
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
        """Start the first worker, and the others once it serves. So an error is reported once, and
        what must be made, such as the database, is made once."""
        self._spawn(self._workers[0])
        self._look.start(min(1.0, self._hung / 3))
        if self._certificates is not None:
            self._certificates.start()

    def stop(self) -> None:
        """Stop the workers gracefully, then this process."""
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
        """Kill the workers."""
        for worker in self._workers:
            worker.signal(signal.SIGKILL)
        self._sender.signal(signal.SIGKILL)

    def reload(self) -> None:
        """Read the configuration again, and send it to the workers."""
        if self._stopping:
            return
        self._notifier.reloading()
        if reload(self._load, self._use):
            _log.info("the configuration was reloaded")
            self._order_all(self._config)
            self._sender.reload(self._config)
        self._reloading = True
        self._reloaded()

    def _use(self, config: Config) -> None:
        new = checked(self._config, config, self._certificates)
        self._log.apply(new.config.log)
        # Nothing fails from here on.
        warn_of_fixed(new.fixed)
        if self._certificates is not None and new.material is not None:
            self._certificates.use(new.material)
        self._config = new.config

    def _order_all(self, order: Order) -> None:
        """Send `order` to all workers. Those that start later get it with their assignment."""
        for worker in self._workers:
            worker.order(order)

    def reopen_log(self) -> None:
        """Open the log's file anew, here and in the workers."""
        self._log.reopen()
        for worker in self._workers:
            # One that is starting does not take signals yet, and opens the new file anyway.
            if worker.ready:
                worker.signal(signal.SIGUSR1)
        self._sender.signal(signal.SIGUSR1)

    # --- What the workers report

    def _reported(self, worker: Child, word: str) -> None:
        worker.heard = self._reactor.seconds()
        if word == "ready":
            worker.ready, worker.behind = True, False
            self._settled(worker)
            self._reloaded()

    def _ended(self, worker: Child, how: Any) -> None:
        said = ending(how)
        if self._stopping:
            # A worker that is starting does not handle SIGTERM yet: it dies of it.
            if how.exitCode != 0 and how.signal != signal.SIGTERM:
                self.exit_code = 1
                _log.error("worker {number} {said}", number=worker.number, said=said)
            self._stop_when_alone()
            return
        if not any(each.settled for each in self._workers):
            # Exit code 1: it has logged why.
            if how.exitCode != 1:
                _log.critical("worker {number} {said}", number=worker.number, said=said)
            self.exit_code = 1
            self._stopping = True
            self._stop_when_alone()
            return
        now = self._reactor.seconds()
        if not worker.died(now):
            _log.error(
                "worker {number} {said} and is started again", number=worker.number, said=said
            )
            self._spawn(worker)
        else:
            if not worker.pause:
                _log.critical(
                    "worker {number} {said}, for the {deaths}th time within {seconds:.0f} s. It "
                    "will be started again after a break, without further lines here. The other "
                    "workers go on",
                    number=worker.number,
                    said=said,
                    deaths=DEATHS,
                    seconds=now - worker.deaths[0],
                )
            worker.lengthen_break()
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
                [url_of(each, each in secure) for each in self._listeners.addresses],
            )
            self._notifier.ready(self._status)

    def _reloaded(self) -> None:
        """Tell the service manager, once all workers have reloaded."""
        if self._reloading and not any(each.behind for each in self._workers):
            self._reloading = False
            self._notifier.ready(self._status)

    # --- Looking after them

    def _spawn(self, worker: Child) -> None:
        if self._stopping:
            return
        lock = self._lock.fileno()
        worker.since = worker.heard = self._reactor.seconds()
        try:
            worker.start(self._reactor, self._environment, self._listeners, lock)
        except OSError as error:
            _log.error(
                "worker {number} cannot be started: {error}", number=worker.number, error=error
            )
            self._reactor.callLater(SHORTEST_BREAK, self._spawn, worker)
            return
        material = self._certificates.material if self._certificates is not None else None
        assignment = Assignment(
            self._config,
            [each.request for each in self._listeners.all],
            lock is not None,
            material,
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
            allowed = self._hung if worker.ready else max(self._hung, HUNG)
            hangs = worker.running and now - worker.heard > allowed
            if hangs and any(each.settled for each in self._workers):
                _log.error(
                    "worker {number} has given no sign of life for {seconds:.0f} s and is killed",
                    number=worker.number,
                    seconds=now - worker.heard,
                )
                worker.ready, worker.heard = False, now
                worker.signal(signal.SIGKILL)
            if worker.recovered(now):
                _log.info("worker {number} serves again", number=worker.number)
        # While any worker serves. If none does, let the service manager restart everything.
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
        _log.error("the time to stop is over: the remaining workers are killed")
        self.abandon()
