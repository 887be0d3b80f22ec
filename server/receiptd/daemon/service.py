"""The daemon, assembled: makes all parts of the server from the configuration and joins them."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet import defer, task
from twisted.logger import Logger

from receiptd.blanking.by_value import KnownSecrets
from receiptd.config import Config
from receiptd.daemon import privileges
from receiptd.daemon.credentials import all_secrets
from receiptd.daemon.database import open_database
from receiptd.daemon.deferreds import in_thread
from receiptd.daemon.entrance import Entrance
from receiptd.daemon.gauges import gauges
from receiptd.daemon.listeners import Listeners
from receiptd.daemon.pages import Pages
from receiptd.daemon.reloading import checked, warn_of_fixed
from receiptd.daemon.retention_service import RetentionService
from receiptd.daemon.rules import policies, quota, spool_folder
from receiptd.daemon.statistics_service import StatisticsService
from receiptd.log import Log
from receiptd.metrics.counters import Metrics
from receiptd.metrics.workers import FOLDER_VARIABLE, Shared
from receiptd.pipeline import Pipeline
from receiptd.store.database.engine import check_file, open_engine
from receiptd.store.database.server_lock import ServerLock
from receiptd.store.spool.folder import Spool
from receiptd.store.writer import Result, Writer
from receiptd.web.server.shutdown import GracefulShutdown
from receiptd.web.server.site import Handler

if TYPE_CHECKING:
    from receiptd.web.server.certificates import Material

_log = Logger(namespace="receiptd")

STUCK = 30.0
"""Seconds without a commit, while posts wait, after which the server should be restarted. Long
before that, posts go to the spool if the database hangs."""

LEAST_FOR_THE_STORE = 1.0
"""Seconds that the writer has to end, even if the clients have used up the time to stop."""

FRESH_OBJECTS = 20_000
"""How many new objects start a garbage collection. A receipt makes nearly no objects in cycles.
With Python's default of 700, which a few posts in flight exceed, and without the freeze after the
start, collections took a third of a receipt's time."""


class Daemon(MultiService):
    """The server as a Twisted service: listens while it runs, and stops without losing a receipt.

    What needs root comes first, in `privilegedStartService`: it binds the sockets, then becomes
    the user to serve as. Starting raises `ListenError`, `PrivilegeError` or `StoreError` if it
    fails. If only the database does not answer, the server starts, and waits for it. `listening`
    fires with the addresses once it accepts.
    """

    def __init__(
        self,
        config: Config,
        reactor: Any = None,
        log: Log | None = None,
        *,
        listeners: Listeners | None = None,
        lock: ServerLock | None = None,
        material: Material | None = None,
    ) -> None:
        """
        :param log: gets the lines of receipts; None opens the configured log.
        :param listeners: with the sockets that the process was started with.
        :param lock: the store's lock, if it was taken already.
        :param material: the certificates, if a supervisor watches their files; see `renew`.
        :raises LogError: if the log cannot be opened.
        """
        super().__init__()
        self.log = log or Log(config.log)
        if reactor is None:
            from twisted.internet import reactor
        self._reactor = reactor
        self._config = config
        self._secrets = KnownSecrets(all_secrets(config))
        self.log.clean = self._secrets.blanked_line
        self.listening: defer.Deferred[list[str]] = defer.Deferred()
        self.unanswered = 0
        """How many requests had no answer yet when the time to stop was over."""
        self._entrance = Entrance(reactor, listeners or Listeners(), material)
        self._lock = lock or ServerLock(config.store.url)
        self._engine = open_engine(config.store.url)
        self._metrics = Metrics()
        self._writer = Writer(
            self._engine,
            policies=policies(config),
            regions=config.regions,
            quota=quota(config),
            spool=Spool(spool_folder(config), limit=config.store.spool_limit),
            deliver=self._stored,
            drained=lambda: self._pages.drained(),
            timed=self._metrics.stored,
        )
        self._pipeline = Pipeline(reactor, self._writer.put, config.store.queue)
        self._retention: RetentionService | None = None
        self._keep(config)
        self._statistics = StatisticsService(
            reactor, self._engine, policies(config), config.store.unfinished_after
        )
        self._statistics.setServiceParent(self)
        self.forward_folder: Callable[[], Path | None] = lambda: (
            Path(os.environ[FOLDER_VARIABLE]) if FOLDER_VARIABLE in os.environ else None
        )
        """Where the process that forwards tells what it has counted."""
        self._pages = Pages(
            reactor,
            config,
            self._pipeline,
            self._writer,
            self._metrics,
            self._secrets,
            self.log,
        )
        self._shared: Shared | None = None
        self._every_second = task.LoopingCall(self._look_after)
        self._every_second.clock = reactor

    def _stored(self, results: list[Result]) -> None:
        """Pass on the results of one transaction. Called in the writer's thread."""
        self._pipeline.deliver(results)
        self._pages.stored()

    def _look_after(self) -> None:
        """Called every second."""
        self.log.look()
        self._metrics.log_lines_lost[()] += self.log.newly_lost()
        if self._shared is not None:
            self._shared.write(self._metrics.snapshot())

    def privilegedStartService(self) -> None:
        """Bind the sockets, then become the user to serve as.

        :raises ListenError: if an address or the certificates cannot be used.
        """
        server = self._config.server
        self._entrance.bind(server, self._pages.trees, self._metrics.responses)
        privileges.serve_as(privileges.account(server.user, server.group))
        super().privilegedStartService()

    def renew(self, material: Material) -> None:
        """Use these certificates for connections that come from now on."""
        self._entrance.use(material)

    def startService(self) -> None:
        """Open the store and begin to accept connections."""
        if not self._entrance.bound:
            self.privilegedStartService()
        store = self._config.store
        check_file(store.url, create=store.migrate)
        self._lock.take()
        self._pages.open(self._config, self._entrance.site)
        open_database(
            store,
            self._engine,
            self._pages.engines,
            [each.name for each in self._config.forward],
        )
        super().startService()
        self._writer.start()
        self._pages.start()
        self._shared = Shared.from_environment()
        if self._shared is not None and (earlier := self._shared.earlier()):
            self._metrics.go_on_from(earlier)
        self._entrance.site.handlers = self._handlers(self._config)
        self._metrics.gauges = gauges(
            self._entrance.site,
            self._pipeline,
            self._writer,
            self._pages.readiness,
            lambda: self._config.store.spool_limit,
            lambda: self._retention.held if self._retention is not None else 0,
        )
        if (tls := self._entrance.tls) is not None:
            self._pages.readiness.certificate = lambda: tls.expires
        self._every_second.start(1.0)
        gc.freeze()  # what was made until now stays
        gc.set_threshold(FRESH_OBJECTS)
        self._entrance.accept(self.listening)

    @property
    def descriptions(self) -> list[str]:
        """Twisted endpoint descriptions of the sockets that it listens on."""
        return self._entrance.descriptions

    @property
    def stop_timeout(self) -> float:
        """Seconds that it may take to stop."""
        return self._config.server.stop_timeout

    @property
    def config(self) -> Config:
        """What it serves by."""
        return self._config

    def reload(self, config: Config) -> None:
        """Use `config` from the next request on. If anything is wrong with it, this raises, and
        nothing has changed.

        :raises UserError: if it cannot be used.
        """
        new = checked(self._config, config, self._entrance.files)
        self.log.apply(new.config.log)
        # Nothing fails from here on.
        config = new.config
        warn_of_fixed(new.fixed)
        self._secrets.learn(all_secrets(config))
        if self._entrance.files is not None and new.material is not None:
            self._entrance.files.use(new.material)
        self._pages.open(config, self._entrance.site)
        self._pages.renew(config)
        self._writer.renew(policies=policies(config), regions=config.regions, quota=quota(config))
        self._statistics.renew(policies(config), config.store.unfinished_after)
        if config.store.keep != self._config.store.keep:
            self._keep(config)
        self._entrance.renew(config.server)
        self._entrance.site.handlers = self._handlers(config)
        self._config = config

    def _keep(self, config: Config) -> None:
        """Delete old rows as `store.keep` says."""
        if self._retention is not None:
            self._retention.disownServiceParent()
            self._retention = None
        if config.store.keep is not None:
            self._retention = RetentionService(self._reactor, self._engine, config.store.keep)
            self._retention.setServiceParent(self)

    @property
    def healthy(self) -> bool:
        """Whether the writer makes progress. Otherwise the server should be restarted."""
        return self._writer.running and self._pipeline.stalled < STUCK

    @property
    def status(self) -> str:
        """The state of the server in a line, for the service manager."""
        backlog = self._writer.backlog
        stored = sum(self._metrics.receipts.values())
        text = f"serving, {stored} receipts acknowledged"
        if backlog.since is not None:
            text += f"; degraded: {backlog.records} posts wait in the spool"
        return text

    def stopService(self) -> defer.Deferred[None]:
        """Stop accepting, answer and store what has come, end; within `server.stop_timeout`."""
        return defer.Deferred.fromCoroutine(self._stop())

    def _handlers(self, config: Config) -> dict[bytes, Handler]:
        return self._pages.handlers(config, self._shared, lambda: self.forward_folder())

    async def _stop(self) -> None:
        reactor = self._reactor
        seconds = self._config.server.stop_timeout
        deadline = reactor.seconds() + seconds
        self._pages.readiness.leave()
        if not self._entrance.bound:
            return
        self._entrance.leave_files()
        shutdown = GracefulShutdown(self._entrance.site, reactor, seconds)
        self._pages.end_streams()
        ended = defer.maybeDeferred(super().stopService)
        await self._entrance.stop()
        self.unanswered = await shutdown.end()
        await ended
        await self._pages.stop()
        if self._writer.running:
            # In a thread, so that the process ends even if the database hangs: a post that is not
            # stored is in the spool, or was not acknowledged.
            left = max(deadline - reactor.seconds(), LEAST_FOR_THE_STORE)
            if not await in_thread(reactor, self._writer.stop, left):
                _log.warn(
                    "the writer is still at work: posts that are neither stored nor spooled were "
                    'not acknowledged, no provider was told "received"'
                )
                return
        if self._every_second.running:
            self._every_second.stop()
        if self._shared is not None:
            self._shared.close(self._metrics.snapshot())
        self._engine.dispose()
        self._lock.release()

    def close(self) -> None:
        """Close the sockets after a start that has failed."""
        self._entrance.close()
