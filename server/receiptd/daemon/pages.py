"""What the server answers with: the API, the console, the operators' pages, the endpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from receiptd.blanking.by_value import KnownSecrets
from receiptd.config import Config
from receiptd.daemon.credentials import all_tokens, api_tokens
from receiptd.daemon.handlers import console_handlers, endpoint_handlers, operating_handlers
from receiptd.daemon.rules import retry_rules, spool_folder
from receiptd.log import Log
from receiptd.metrics.counters import Metrics
from receiptd.metrics.workers import Shared
from receiptd.pipeline import Pipeline
from receiptd.store.writer import Writer
from receiptd.web.api.handler import Api
from receiptd.web.api.routes import ROOT
from receiptd.web.console.handler import Console
from receiptd.web.operating.health import Readiness
from receiptd.web.operating.metrics_page import MetricsPage
from receiptd.web.reader import Reader
from receiptd.web.receiving.receipt_log import ReceiptLog
from receiptd.web.server.site import Handler, Site
from receiptd.web.token_auth import Guard


class Pages:
    """All that has a path, with what it shares: the tokens, and the threads that read."""

    def __init__(
        self,
        reactor: Any,
        config: Config,
        pipeline: Pipeline,
        writer: Writer,
        metrics: Metrics,
        secrets: KnownSecrets,
        log: Log,
    ) -> None:
        self._reactor = reactor
        self._pipeline = pipeline
        self._metrics = metrics
        self._secrets = secrets
        self._log = log
        url = config.store.url
        self._guard = Guard(config.api.token)
        self._api = Api(
            reactor,
            pipeline,
            self._guard,
            url,
            config.endpoint,
            retry_rules(config, secrets),
            config.api.cors_origins,
        )
        self._api.forward.renew(config.forward)
        self._reader = Reader(reactor, url, "health", threads=3)
        self.readiness = Readiness(reactor, pipeline, writer, self._reader, spool_folder(config))
        self._console = Console(reactor, self._api, self.readiness, pipeline, writer, config)

    @property
    def trees(self) -> Mapping[bytes, Handler]:
        """The handlers of everything beneath a path, by that path."""
        return {ROOT.encode(): self._api, b"/console/": self._console}

    @property
    def engines(self) -> list[Engine]:
        """Those that only read."""
        return [each.engine for each in (self._reader, self._console.reader, *self._api.readers)]

    def handlers(
        self, config: Config, shared: Shared | None, forward_folder: Callable[[], Path | None]
    ) -> dict[bytes, Handler]:
        """The handlers of single paths.

        :param shared: what other workers have counted.
        :param forward_folder: see `Daemon.forward_folder`.
        """
        log = ReceiptLog(self._log, self._metrics, self._reactor)
        page = MetricsPage(
            self._reactor,
            self._metrics,
            shared,
            self._guard,
            self.readiness,
            self._reader,
            forward_folder,
        )
        pages = operating_handlers(self.readiness, page) | console_handlers(config, self._console)
        return pages | endpoint_handlers(config, self._pipeline, self._secrets, self._metrics, log)

    def open(self, config: Config, site: Site) -> None:
        """Open the API and /metrics to the configured tokens, or to that of the token file. If
        that file cannot be used they stay closed; receipts are received all the same."""
        accepted = api_tokens(config)
        self._guard.renew(accepted, made=not config.api.token)
        self._console.renew(config, accepted)
        site.tokens = all_tokens(config, accepted)
        self._secrets.learn([each.token.get_secret_value() for each in accepted])

    def renew(self, config: Config) -> None:
        """Go by a new configuration. `open` and `handlers` are called beside it."""
        self._api.renew(config.endpoint, config.api.cors_origins)
        self._api.forward.renew(config.forward)
        self._api.rejected.renew(retry_rules(config, self._secrets))

    def start(self) -> None:
        """Begin to read."""
        self._api.start()
        self._console.start()
        self._reader.start()

    def drained(self) -> None:
        """The spool was stored just now; called in a thread of the store."""
        self._api.stored()

    def stored(self) -> None:
        """Receipts were stored just now; called in the writer's thread."""
        self._api.stored()
        self.readiness.stored()

    def end_streams(self) -> None:
        """End the streams that are open, and open no other."""
        self._api.end_streams()
        self._console.end_streams()

    async def stop(self) -> None:
        """Finish what is being read."""
        await self._api.stop()
        await self._console.stop()
        await self._reader.stop()
