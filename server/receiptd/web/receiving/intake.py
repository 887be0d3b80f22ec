"""One endpoint's way from an authenticated post to its verdicts, SOAP and forms alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from receiptd.blanking.by_value import KnownSecrets
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
NOTHING = Verdict(Outcome.INVALID, "the post carries no receipt")
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

    def __init__(
        self,
        endpoint: Endpoint,
        provider: Provider,
        pipeline: Pipeline,
        secrets: KnownSecrets | None = None,
    ) -> None:
        """
        :param secrets: of the whole configuration: none of them is kept, whatever a post is.
        """
        self.name = endpoint.name
        self.provider = provider
        self.gate = Gate(endpoint)
        self.rate: Rate | None = None
        """How many requests per second it takes; None: as many as come."""
        self._pipeline = pipeline
        self._secrets = secrets or KnownSecrets()

    def take(
        self,
        origin: Origin,
        credentials: Callable[[], tuple[str | None, str | None]],
        raw: bytes,
        read: Callable[[], Sequence[Receipt]],
        denied: Verdict | None = None,
    ) -> Deferred[Taken]:
        """Check the credentials, read the receipts, store them. Never fails: what went wrong is
        the verdict.

        :param credentials: gives the username and the PIN of the post.
        :param raw: the post, secrets blanked by name, to be kept where it is no receipt.
        :param read: gives the receipts, or raises `Invalid`.
        :param denied: why the request itself may not pass, where it may not.
        """
        try:
            if denied is None and not self.gate.login(*credentials()):
                denied = INVALID_LOGIN
            if denied is not None:
                return self.reject(origin, raw, denied, "unauthorized")
            receipts = read()
            if not self._secrets.absent(raw):
                clean = self._secrets.blanked(raw)
                receipts = [self._secrets.receipt(each, clean) for each in receipts]
        except Invalid as error:
            return self.reject(
                origin, raw, Verdict(Outcome.INVALID, error.text), "invalid", error.field
            )
        except Exception:
            return self.mistaken(origin, raw, "reading a post")
        if not receipts:
            return self.reject(origin, raw, NOTHING, "invalid")
        return self._pipeline.accept(receipts).addCallbacks(
            lambda verdicts: Taken(receipts, verdicts), _busy
        )

    def mistaken(self, origin: Origin, raw: bytes, doing: str) -> Deferred[Taken]:
        """Keep a post that a mistake of ours came of, since the provider may never send it again.
        Called where the exception is handled."""
        _log.failure(
            "{provider}: {doing}",
            provider=self.provider.name,
            doing=doing,
            request_id=origin.request_id,
        )
        return self.reject(origin, raw, MISTAKE, "unreadable")

    def blanked(self, verdict: Verdict) -> Verdict:
        """`verdict` with no known secret in its text."""
        return verdict._replace(text=self._secrets.blanked_text(verdict.text))

    def reject(
        self,
        origin: Origin,
        raw: bytes,
        verdict: Verdict,
        reason: str,
        field: str | None = None,
    ) -> Deferred[Taken]:
        """Keep a post that is no receipt; fires with `verdict`, or with busy. No known secret is
        in what is kept, nor in the verdict's text."""
        verdict = self.blanked(verdict)
        blanked = self._secrets.blanked_text
        rejection = Rejection(
            received_at=datetime.now(UTC),
            endpoint=self.name,
            provider=self.provider.name,
            reason=reason,
            field=blanked(field) if field else field,
            text=verdict.text,
            peer=origin.peer,
            content_type=blanked(origin.content_type) or None,
            raw=self._secrets.blanked(raw),
        )
        return self._pipeline.reject(rejection).addCallbacks(
            lambda _: Taken((), (verdict,), reason), _busy
        )


def _busy(failure: Failure) -> Taken:
    if not isinstance(failure.value, Busy):
        failure.raiseException()
    return Taken((), (BUSY,), "busy")
