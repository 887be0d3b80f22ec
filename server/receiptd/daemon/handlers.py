"""Which handler answers which path: the providers' endpoints and the operators' pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from receiptd.providers import named
from receiptd.web.console.front import Front
from receiptd.web.operating.health import Healthz, Readyz
from receiptd.web.receiving.endpoint import ProviderEndpoint
from receiptd.web.receiving.intake import Intake
from receiptd.web.server.limits import rate

if TYPE_CHECKING:
    from receiptd.blanking.by_value import KnownSecrets
    from receiptd.config import Config
    from receiptd.metrics.counters import Metrics
    from receiptd.pipeline import Pipeline
    from receiptd.web.console.handler import Console
    from receiptd.web.operating.health import Readiness
    from receiptd.web.operating.metrics_page import MetricsPage
    from receiptd.web.receiving.receipt_log import ReceiptLog
    from receiptd.web.server.site import Handler


def endpoint_handlers(
    config: Config,
    pipeline: Pipeline,
    secrets: KnownSecrets,
    metrics: Metrics,
    log: ReceiptLog,
) -> dict[bytes, Handler]:
    """The handlers of the configured endpoints, by path.

    :param secrets: blanked in posts that are kept without being read.
    :param log: gets a line for each receipt.
    """
    handlers: dict[bytes, Handler] = {}
    for endpoint in config.endpoint:
        metrics.expect(endpoint.name)
        provider = endpoint.bind(config.server.public_url)
        intake = Intake(endpoint, provider, pipeline, secrets)
        intake.rate = rate(
            endpoint.name,
            endpoint.requests_per_second,
            config.server.requests_per_second,
            metrics.rejected,
        )
        take = named(provider.handler) if provider.handler else ProviderEndpoint
        handlers[endpoint.path.encode()] = take(intake, log)
    return handlers


def operating_handlers(readiness: Readiness, page: MetricsPage) -> dict[bytes, Handler]:
    """The handlers of the pages for operators, by path."""
    return {b"/healthz": Healthz(), b"/readyz": Readyz(readiness), b"/metrics": page}


def console_handlers(config: Config, console: Console) -> dict[bytes, Handler]:
    """The handlers of the console and of the page at `/`, by path; none where it is off."""
    if not config.console.enabled:
        return {}
    return {b"/": Front(console), b"/console": console}
