"""One endpoint's way from an authenticated post to its verdicts, SOAP and forms alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from receiptd.config import Endpoint
from receiptd.pipeline import Busy, Pipeline
from receiptd.providers import Invalid, Provider
from receiptd.receipt import Outcome, Receipt, Rejection, Verdict
from receiptd.web.receiving.auth import Gate
from receiptd.web.server.limits import Rate

BUSY = Verdict(Outcome.BUSY, "the receipt could not be stored now: send it again later")
MISTAKE = Verdict(Outcome.BUSY, "something went wrong here; the log says what")
INVALID_LOGIN = Verdict(
    Outcome.UNAUTHORIZED, "the username or the PIN in the post is not the endpoint's"
)
RETRY_AFTER = b"Retry-After: 5\r\n"


_log = Logger(namespace="receiptd.web")


class Origin(NamedTuple):
    """Where a post came from, for the log and for what is kept of rejected ones."""

    peer: str | None
    content_type: str
    request_id: str = "-"


class Taken(NamedTuple):
    """What became of a post: a verdict for each receipt, or one for the post as a whole."""

    receipts: Sequence[Receipt]
    verdicts: Sequence[Verdict]
    reason: str = ""
    """Why there are no receipts, in one word: `Rejection.reason`, or `busy`."""


class Intake:
    """One endpoint: its provider, its gate, and the pipeline behind them."""

    def __init__(self, endpoint: Endpoint, provider: Provider, pipeline: Pipeline) -> None:
        self.name = endpoint.name
        self.provider = provider
        self.gate = Gate(endpoint)
        self.rate: Rate | None = None
        """How many requests per second it takes; None: as many as come."""
        self._pipeline = pipeline

    def take(
        self,
        origin: Origin,
        credentials: tuple[str | None, str | None],
        raw: bytes,
        read: Callable[[], Sequence[Receipt]],
        denied: Verdict | None = None,
    ) -> Deferred[Taken]:
        """Check the credentials, read the receipts, store them. Never fails: what went wrong is
        the verdict.

        :param raw: the post, secrets blanked, to be kept where it is no receipt.
        :param read: gives the receipts, or raises `Invalid`.
        :param denied: why the request itself may not pass, where it may not.
        """
        if denied is None and not self.gate.login(*credentials):
            denied = INVALID_LOGIN
        if denied is not None:
            return self.reject(origin, raw, denied, "unauthorized")
        try:
            receipts = read()
        except Invalid as error:
            return self.reject(
                origin, raw, Verdict(Outcome.INVALID, error.text), "invalid", error.field
            )
        except Exception:
            # A mistake of ours: the post is kept, since the provider may never send it again.
            _log.failure(
                "{provider}: reading a post",
                provider=self.provider.name,
                request_id=origin.request_id,
            )
            return self.reject(origin, raw, MISTAKE, "unreadable")
        return self._pipeline.accept(receipts).addCallbacks(
            lambda verdicts: Taken(receipts, verdicts), _busy
        )

    def reject(
        self,
        origin: Origin,
        raw: bytes,
        verdict: Verdict,
        reason: str,
        field: str | None = None,
    ) -> Deferred[Taken]:
        """Keep a post that is no receipt; fires with `verdict`, or with busy."""
        rejection = Rejection(
            received_at=datetime.now(UTC),
            endpoint=self.name,
            provider=self.provider.name,
            reason=reason,
            field=field,
            text=verdict.text,
            peer=origin.peer,
            content_type=origin.content_type or None,
            raw=raw,
        )
        return self._pipeline.reject(rejection).addCallbacks(
            lambda _: Taken((), (verdict,), reason), _busy
        )


def _busy(failure: Failure) -> Taken:
    if not isinstance(failure.value, Busy):
        failure.raiseException()
    return Taken((), (BUSY,), "busy")
