"""The daemon, assembled: configuration in, a running service out. Only this module knows all."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from threading import Thread
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet import defer, task
from twisted.logger import Logger

from receiptd.blanking.by_value import KnownSecrets
from receiptd.config import ApiToken, Config, Endpoint, Tls
from receiptd.config.reloading import taken_over
from receiptd.daemon import privileges
from receiptd.daemon.listeners import ListenError, Listeners
from receiptd.daemon.retention_service import RetentionService
from receiptd.daemon.rules import policies, quota, spool_folder
from receiptd.log import Log
from receiptd.metrics.counters import Gauge, Metrics, Shared
from receiptd.pipeline import Pipeline
from receiptd.providers import named
from receiptd.store.database.engine import check_file, open_engine
from receiptd.store.database.errors import StoreAway, shown
from receiptd.store.database.late_database import LateDatabase
from receiptd.store.database.migrating import require, upgrade
from receiptd.store.database.server_lock import ServerLock
from receiptd.store.spool.folder import Spool
from receiptd.store.writer import Result, Writer
from receiptd.web import token_file
from receiptd.web.api.handler import Api
from receiptd.web.api.routes import ROOT
from receiptd.web.operating.health import Healthz, Readiness, Readyz
from receiptd.web.operating.metrics_page import MetricsPage
from receiptd.web.reader import Reader
from receiptd.web.receiving.endpoint import ProviderEndpoint
from receiptd.web.receiving.intake import Intake
from receiptd.web.receiving.receipt_log import ReceiptLog
from receiptd.web.server.limits import raise_descriptors, rate
from receiptd.web.server.request import local_address
from receiptd.web.server.shutdown import GracefulShutdown
from receiptd.web.server.site import Handler, Site
from receiptd.web.token_auth import Guard

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from receiptd.web.server.certificates import Files, Material
    from receiptd.web.server.tls import Certificates

_log = Logger(namespace="receiptd")

STUCK = 30.0
"""Seconds without a commit, while posts wait, after which the server is to be restarted. A
database that hangs is given up, for the spool, long before."""

LEAST_FOR_THE_STORE = 1.0
"""Seconds that the writer has to end, even where the clients took all of the time to stop."""

FRESH_OBJECTS = 20_000
"""How many objects are made between looks for garbage that refers to itself. Next to none of a
receipt's does. With Python's own 700, as many as a few posts in flight have, and without the
freeze of what the start has made, a third of a receipt's time went into looking."""

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Daemon(MultiService):
    """The server as a Twisted service: listens while it runs, and stops without losing a receipt.

    What only root may do comes first, in `privilegedStartService`: the sockets are bound, then
    it becomes the user it is to serve as. Starting raises `ListenError`, `PrivilegeError` or
    `StoreError` where that cannot be; a database that merely does not answer is awaited.
    `listening` fires with the addresses once it accepts.
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
        :param log: where lines of receipts go; if None, where the configuration says.
        :param listeners: with the sockets that the process was started with.
        :param lock: the store's, where it was taken already.
        :param material: for TLS, where somebody else looks after its files; see `renew`.
        :raises LogError: where the log cannot be opened.
        """
        super().__init__()
        self.log = log or Log(config.log)
        if reactor is None:
            from twisted.internet import reactor
        self._reactor = reactor
        self._config = config
        self._secrets = KnownSecrets(secrets(config))
        self.log.clean = self._secrets.blanked_line
        self.listening: defer.Deferred[list[str]] = defer.Deferred()
        self.unanswered = 0
        """How many requests were left without an answer when the time to stop was over."""
        self._listeners = listeners or Listeners()
        self._bound: defer.Deferred[None] | None = None
        self._lock = lock or ServerLock(config.store.url)
        self._engine = open_engine(config.store.url)
        folder = spool_folder(config)
        self._metrics = Metrics()
        self._writer = Writer(
            self._engine,
            policies=policies(config),
            regions=config.regions,
            quota=quota(config),
            spool=Spool(folder, limit=config.store.spool_limit),
            deliver=self._stored,
            drained=lambda: self._api.stored(),
            timed=self._metrics.stored,
        )
        self._pipeline = Pipeline(reactor, self._writer.put, config.store.queue)
        self._upkeep: RetentionService | None = None
        self._keep(config)
        self._guard = Guard(config.api.token)
        self._api = Api(
            reactor,
            self._pipeline,
            self._guard,
            config.store.url,
            config.endpoint,
        )
        self._reader = Reader(reactor, config.store.url, "health", threads=3)
        self._readiness = Readiness(reactor, self._pipeline, self._writer, self._reader, folder)
        self._material = material
        self._certificates: Certificates | None = None
        self._certificate_files: Files | None = None
        self._shared: Shared | None = None
        self._every_second = task.LoopingCall(self._look_after)
        self._every_second.clock = reactor

    def _stored(self, results: list[Result]) -> None:
        """In the writer's thread: the results of one transaction."""
        self._pipeline.deliver(results)
        self._api.stored()
        self._readiness.stored()

    def _look_after(self) -> None:
        """What is to be done every second."""
        self.log.look()
        self._metrics.log_lines_lost[()] += self.log.newly_lost()
        if self._shared is not None:
            self._shared.write(self._metrics.snapshot())

    def privilegedStartService(self) -> None:
        """Bind the sockets, then become the user to serve as.

        :raises ListenError: where an address or the certificates cannot be used.
        """
        server = self._config.server
        possible = raise_descriptors(server.connections)
        self._site = Site(
            {},
            trees={ROOT.encode(): self._api},
            settings=server.model_copy(update={"connections": possible}),
            responses=self._metrics.responses,
            reactor=self._reactor,
        )
        self._bound = defer.Deferred.fromCoroutine(
            self._listeners.bind(
                self._reactor,
                server.listen,
                self._site,
                server.tls.listen if server.tls else (),
                self._secured(server.tls),
            )
        )
        at_once(self._bound)
        become(privileges.account(server.user, server.group))
        super().privilegedStartService()

    def _secured(self, tls: Tls | None) -> Any:
        """Serves the site under TLS; None without certificates."""
        if tls is None:
            return None
        # OpenSSL's bindings take a while to import.
        from receiptd.web.server.tls import Certificates

        if self._material is None:
            self._certificate_files = certificate_files(tls, self._reactor, self.renew)
            self._material = self._certificate_files.material
        self._certificates = Certificates(self._material)
        return self._certificates.factory(self._site)

    def renew(self, material: Material) -> None:
        """Speak TLS by `material`, on the connections that come from now on."""
        if self._certificates is not None:
            self._certificates.use(material)

    def startService(self) -> None:
        """Open the store and begin to accept connections."""
        if self._bound is None:
            self.privilegedStartService()
        assert self._bound is not None
        store = self._config.store
        check_file(store.url, create=store.migrate)
        self._lock.take()
        self._open_api(self._config)
        try:
            self._prepare(self._engine)
        except StoreAway as error:
            self._await(error)
        super().startService()
        self._writer.start()
        self._api.start()
        self._reader.start()
        self._shared = Shared.from_environment()
        if self._shared is not None and (earlier := self._shared.earlier()):
            self._metrics.go_on_from(earlier)
        self._site.handlers = self._handlers(self._config)
        self._metrics.gauges = self._gauges()
        self._every_second.start(1.0)
        gc.freeze()  # what was made until now stays
        gc.set_threshold(FRESH_OBJECTS)
        self._bound.addCallback(self._accept).chainDeferred(self.listening)

    def _open_api(self, config: Config) -> None:
        """Let those use the API and /metrics who have a configured token, or that of the token
        file. Where that cannot be used nobody may: it is no reason not to take receipts."""
        accepted = api_tokens(config)
        self._guard.renew(accepted)
        self._site.tokens = tokens(config, accepted)
        self._secrets.learn([each.token.get_secret_value() for each in accepted])

    def _prepare(self, engine: Engine) -> None:
        """Bring the database to the revision that is needed, or see that it is there."""
        if not self._config.store.migrate:
            require(engine)
        elif upgrade(engine) is None:
            _log.info("made a new database: {url}", url=shown(engine.url))

    def _await(self, error: StoreAway) -> None:
        """Serve all the same: what comes goes to the spool until the database answers and is
        prepared."""
        self._engine.dispose()
        awaited = LateDatabase(self._config.store.url, self._prepare, error)
        awaited.writes(self._engine)
        for reader in (self._reader, *self._api.readers):
            awaited.reads(reader.engine)

    def _accept(self, _: None) -> list[str]:
        self._listeners.start(self._reactor)
        if self._certificate_files is not None:
            self._certificate_files.start()
        secure = self._listeners.secure
        return [address(each, each in secure) for each in self._listeners.addresses]

    @property
    def descriptions(self) -> list[str]:
        """Descriptions of what it listens on."""
        return self._listeners.descriptions

    @property
    def stop_timeout(self) -> float:
        """Seconds that it may take to stop."""
        return self._config.server.stop_timeout

    def reload(self, config: Config) -> None:
        """Serve by `config` from the next request on. Where anything is wrong with it, that is
        raised and nothing has changed."""
        config, kept = taken_over(self._config, config)
        warn_of_kept(kept)
        # All that can fail comes before anything changes.
        self._secrets.learn(secrets(config))
        handlers = self._handlers(config)
        material = None
        if self._certificate_files is not None and config.server.tls is not None:
            material = self._certificate_files.check(config.server.tls)
        self.log.apply(config.log)
        if self._certificate_files is not None and material is not None:
            self._certificate_files.use(material)
        self._open_api(config)
        self._api.renew(config.endpoint)
        self._writer.renew(policies=policies(config), regions=config.regions, quota=quota(config))
        if config.store.keep != self._config.store.keep:
            self._keep(config)
        possible = raise_descriptors(config.server.connections)
        self._site.configure(config.server.model_copy(update={"connections": possible}))
        self._site.handlers = handlers
        self._config = config

    def _keep(self, config: Config) -> None:
        """Delete what is old as `config` has it."""
        if self._upkeep is not None:
            self._upkeep.disownServiceParent()
            self._upkeep = None
        if config.store.keep is not None:
            self._upkeep = RetentionService(self._reactor, self._engine, config.store.keep)
            self._upkeep.setServiceParent(self)

    @property
    def healthy(self) -> bool:
        """Whether the writer gets on: asked by what restarts a server that does not."""
        return self._writer.running and self._pipeline.stalled < STUCK

    @property
    def status(self) -> str:
        """How it is, in a line for the service manager."""
        backlog = self._writer.backlog
        stored = sum(self._metrics.receipts.values())
        text = f"serving, {stored} receipts acknowledged"
        if backlog.since is not None:
            text += f"; degraded: {backlog.records} posts wait in the spool"
        return text

    def _handlers(self, config: Config) -> dict[bytes, Handler]:
        log = ReceiptLog(self.log, self._metrics, self._reactor)
        handlers: dict[bytes, Handler] = {
            b"/healthz": Healthz(),
            b"/readyz": Readyz(self._readiness),
            b"/metrics": MetricsPage(
                self._reactor,
                self._metrics,
                self._shared,
                self._guard,
                self._readiness,
                self._reader,
            ),
        }
        for endpoint in config.endpoint:
            self._metrics.expect(endpoint.name)
            provider = endpoint.bind(config.server.public_url)
            intake = Intake(endpoint, provider, self._pipeline, self._secrets)
            intake.rate = rate(
                endpoint.name,
                endpoint.requests_per_second,
                config.server.requests_per_second,
                self._metrics.rejected,
            )
            take = named(provider.handler) if provider.handler else ProviderEndpoint
            handlers[endpoint.path.encode()] = take(intake, log)
        return handlers

    def _gauges(self) -> list[Gauge]:
        """What is so many now, in this process."""
        backlog = lambda: self._writer.backlog  # noqa: E731
        return [
            Gauge(
                "receiptd_queue_depth",
                "Posts that wait to be stored.",
                lambda: self._pipeline.waiting,
            ),
            Gauge(
                "receiptd_connections",
                "Open connections of clients.",
                lambda: len(self._site.connections),
            ),
            Gauge(
                "receiptd_spool_records",
                "Posts in the spool, which are not in the database yet.",
                lambda: backlog().records,
            ),
            Gauge(
                "receiptd_spool_set_aside",
                "Records in the spool's folder that could not be stored and were set aside.",
                lambda: backlog().set_aside,
                max,
            ),
            Gauge("receiptd_spool_bytes", "Their bytes.", lambda: backlog().bytes),
            Gauge(
                "receiptd_spool_limit_bytes",
                "How many there may be, of all workers together.",
                lambda: self._config.store.spool_limit,
                max,
            ),
            Gauge(
                "receiptd_degraded",
                "Whether posts go to the spool, in any worker.",
                lambda: backlog().since is not None,
                max,
            ),
            Gauge(
                "receiptd_ready",
                "Whether receipts can be stored, as /readyz says it, by every worker.",
                lambda: self._readiness.latest().ready,
                min,
            ),
        ]

    def stopService(self) -> defer.Deferred[None]:
        """Stop accepting, answer and store what has come, end; within `server.stop_timeout`."""
        return defer.Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        reactor = self._reactor
        seconds = self._config.server.stop_timeout
        deadline = reactor.seconds() + seconds
        self._readiness.leave()
        if self._bound is None:
            return
        if self._certificate_files is not None:
            self._certificate_files.stop()
        farewell = GracefulShutdown(self._site, reactor, seconds)
        self._api.end_streams()
        ended = defer.maybeDeferred(super().stopService)
        await self._listeners.stop(reactor)
        self.unanswered = await farewell.end()
        await ended
        await self._api.stop()
        await self._reader.stop()
        if self._writer.running:
            # In a thread, so that a database that hangs does not keep the process from ending:
            # what it has not stored is in the spool, or was not acknowledged.
            left = max(deadline - reactor.seconds(), LEAST_FOR_THE_STORE)
            if not await _in_thread(reactor, self._writer.stop, left):
                _log.warn(
                    "the writer is still at work: what it has neither stored nor spooled was not "
                    'acknowledged, no provider was told "received"'
                )
                return
        if self._every_second.running:
            self._every_second.stop()
        if self._shared is not None:
            self._shared.close(self._metrics.snapshot())
        self._engine.dispose()
        self._lock.release()

    def close(self) -> None:
        """Leave nothing behind of a start that has failed."""
        self._listeners.close()


async def _in_thread(reactor: Any, function: Callable[[], object], seconds: float) -> bool:
    """Call `function` in a thread; whether it came to its end within `seconds`."""
    done: defer.Deferred[bool] = defer.Deferred()

    def ended() -> None:
        if not done.called:
            done.callback(True)

    def run() -> None:
        try:
            function()
        finally:
            reactor.callFromThread(ended)

    # One of its own, since those of the reactor's pool are waited for when the process ends.
    Thread(target=run, daemon=True).start()
    return await done.addTimeout(seconds, reactor, lambda *_: False)


def certificate_files(tls: Tls, reactor: Any, changed: Callable[[Material], object]) -> Files:
    """Who looks after the files of `tls`.

    :param changed: called with what they hold when that is something new.
    :raises ListenError: where they cannot be used.
    """
    # OpenSSL's bindings take a while to import.
    from receiptd.web.server.certificates import Files, TlsError

    try:
        return Files(tls, reactor, changed)
    except TlsError as error:
        raise ListenError(f"server.tls: {error}") from None


def warn_of_kept(keys: Sequence[str]) -> None:
    """Say in the log which keys of a new configuration do not count yet."""
    if keys:
        _log.warn(
            "{keys} cannot change while the server runs: what is new there holds after a restart",
            keys=", ".join(keys),
        )


def at_once(done: defer.Deferred[Any]) -> None:
    """Raise what `done` has failed with, if that is so already."""
    failures: list[Any] = []
    done.addErrback(failures.append)
    if failures:
        failures[0].raiseException()


def become(who: privileges.Account | None) -> None:
    """Serve as `who` from now on, if that is anybody."""
    if who is None:
        return
    if hidden := privileges.prepare_python(who):
        _log.warn(
            "the user {user} cannot reach Python's own files, for {path} is closed to it: install "
            "Python and receiptd where it can, such as beneath /opt",
            user=who.name,
            path=hidden,
        )
    privileges.become(who)
    _log.info("serving as the user {user}", user=who.name)


def api_tokens(config: Config) -> list[ApiToken]:
    """The tokens of the API and of /metrics: those configured, else the one in the token file,
    which is made where there is none. None where that file cannot be used; the log says why."""
    if config.api.token:
        return config.api.token
    try:
        found = token_file.read_or_make(token_file.place(config))
    except token_file.TokenFileError as error:
        _log.error(
            "{error}. Until then the API and /metrics answer nobody; receipts are taken as ever",
            error=error,
        )
        return []
    if found.warning:
        _log.warn("{warning}. Now only its owner can", warning=found.warning)
    if found.made:
        _log.info(
            "made a token for the API and /metrics: {path}", path=str(token_file.place(config))
        )
    return [token_file.api_token(found)]


def tokens(config: Config, accepted: Sequence[ApiToken]) -> list[bytes]:
    """What opens endpoints and the API.

    :param accepted: those of the API.
    """
    secrets = [token for endpoint in config.endpoint for token in endpoint.token]
    secrets += [each.token for each in accepted]
    return [secret.get_secret_value().encode() for secret in secrets]


def secrets(config: Config) -> list[str]:
    """Every PIN, token and password that posts and requests may carry."""
    found = [each.token for each in config.api.token]
    for endpoint in config.endpoint:
        found += [*endpoint.pin, *endpoint.token]
        if endpoint.basic:
            found += endpoint.basic.password
    return [secret.get_secret_value() for secret in found]


def address(bound: Any, secure: bool = False) -> str:
    """A bound address as a URL's beginning, of any address the one that works here.

    :param secure: whether TLS is spoken there.
    """
    if getattr(bound, "host", None) is None:
        return f"unix:{os.fsdecode(getattr(bound, 'name', b''))}"
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bound.host, bound.host)  # noqa: S104
    return f"http{'s' * secure}://{local_address(SimpleNamespace(host=here, port=bound.port))}"


def warnings(endpoint: Endpoint, listen: Sequence[str]) -> list[str]:
    """What whoever configures `endpoint` should know before its first receipt comes."""
    found = [f"endpoint {endpoint.name}: {text}" for text in endpoint.bind().warnings()]
    if not endpoint.authenticated:
        exposed = [each for each in listen if not is_local(each)]
        if exposed:
            found.append(
                f"endpoint {endpoint.name} ({endpoint.path}) asks for no authentication and is "
                f"reachable from other machines at {', '.join(exposed)}: anybody can post "
                f"receipts to it"
            )
    return found


def is_local(description: str) -> bool:
    """Whether a Twisted endpoint description is one of this machine alone."""
    if description.startswith("unix:"):
        return True
    parts = dict(
        part.split("=", 1) for part in description.replace("\\:", ":").split(":") if "=" in part
    )
    interface = parts.get("interface", "")
    return interface in _LOOPBACK or interface.startswith("127.") or "interface=::1" in description
