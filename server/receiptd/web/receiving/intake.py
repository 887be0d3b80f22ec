"""One endpoint's way from an authenticated post to its verdicts, SOAP and forms alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from receiptd.blanking.by_value import KnownSecrets
from receiptd.config import Endpoint
from receiptd.pipeline import Busy, Pipeline
from receiptd.providers import Ignored, Invalid, Item, Provider, Unverified
from receiptd.receipt import Outcome, Receipt, Rejection, Verdict
from receiptd.web.receiving.auth import Gate
from receiptd.web.server.limits import Rate

BUSY = Verdict(Outcome.BUSY, "the receipt could not be stored now: send it again later")
MISTAKE = Verdict(Outcome.BUSY, "something went wrong here; the log says what")
INVALID_LOGIN = Verdict(
    Outcome.UNAUTHORIZED, "the username or the PIN in the post is not the endpoint's"
)
NOTHING = Verdict(Outcome.INVALID, "the post carries no receipt")


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
    """Why there are no receipts, in one word: `Rejection.reason`, `ignored` or `busy`."""
    invalid: int = 0
    """How many items of the post were nonsense, beside its receipts."""
    status: int | None = None
    """What to answer it with, where that is not as the provider says."""


MOST_INVALID = 100
"""Items of one post that are kept each for itself among the rejected; a post with more nonsense
is kept as a whole, once."""


SEVERAL = "items"
"""`Rejection.field` of such a post: what was good in it is stored."""

MOST_COPIES = 8
"""How many times the bytes of a post are kept for its items that are nonsense; each is kept with
what stands around it."""


def pieces_of(raw: bytes, invalid: Sequence[Invalid], *, several: bool) -> list[bytes] | None:
    """What to keep of each item of a post that is nonsense; None where the post is to be kept as
    a whole, once.

    :param raw: the post, secrets blanked by name.
    :param several: whether the post has other items.
    """
    if len(invalid) > MOST_INVALID:
        return None
    pieces: list[bytes] = []
    left = MOST_COPIES * len(raw)
    for each in invalid:
        if each.alone is None and several:
            return None
        pieces.append(raw if each.alone is None else each.alone())
        left -= len(pieces[-1])
        if left < 0:
            return None
    return pieces


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
        self.path = endpoint.path
        self.provider = provider
        self.gate = Gate(endpoint)
        self.max_body = endpoint.max_body
        """The largest body that the endpoint takes, in bytes; None: as the server has it."""
        self._refuse_status = endpoint.refuse_status
        self.rate: Rate | None = None
        """How many requests per second it takes; None: as many as come."""
        self._pipeline = pipeline
        self._secrets = secrets or KnownSecrets()

    def take(
        self,
        origin: Origin,
        credentials: Callable[[], tuple[str | None, str | None]],
        raw: bytes,
        read: Callable[[], Sequence[Item]],
        denied: Verdict | None = None,
        verify: Callable[[], None] | None = None,
    ) -> Deferred[Taken]:
        """Check the credentials, read the receipts, store them. Never fails: what went wrong is
        the verdict.

        :param credentials: gives the username and the PIN of the post.
        :param raw: the post, secrets blanked by name, to be kept where it is no receipt.
        :param read: gives what the post carries, or raises `Invalid`.
        :param denied: why the request itself may not pass, where it may not.
        :param verify: checks the post's signature, and raises `Unverified`.
        """
        try:
            if denied is None and not self.gate.login(*credentials()):
                denied = INVALID_LOGIN
            if denied is not None:
                return self.reject(origin, raw, denied, "unauthorized")
            if verify is not None:
                verify()
            items = read()
            receipts: Sequence[Receipt] = [each for each in items if type(each) is Receipt]
            if not self._secrets.absent(raw):
                clean = self._secrets.blanked(raw)
                receipts = [self._secrets.receipt(each, clean) for each in receipts]
        except Invalid as error:
            return self.reject(
                origin, raw, Verdict(Outcome.INVALID, error.text), "invalid", error.field
            )
        except Unverified as error:
            verdict = Verdict(Outcome.UNAUTHORIZED, error.text)
            status = error.status or self._refuse_status
            return self.reject(origin, raw, verdict, "unauthorized").addCallback(
                lambda taken: taken._replace(status=status) if taken.reason != "busy" else taken
            )
        except Exception:
            return self.mistaken(origin, raw, "reading a post")
        if len(receipts) == len(items) and receipts:
            return self._pipeline.accept(receipts).addCallbacks(
                lambda verdicts: Taken(receipts, verdicts), _busy
            )
        return self._take_mixed(origin, raw, items, receipts)

    def _take_mixed(
        self, origin: Origin, raw: bytes, items: Sequence[Item], receipts: Sequence[Receipt]
    ) -> Deferred[Taken]:
        """Store the receipts of a post that carries something else as well, or nothing but it;
        keep each item that is nonsense among the rejected posts."""
        invalid = [each for each in items if isinstance(each, Invalid)]
        ignored = [each for each in items if isinstance(each, Ignored)]
        if not receipts and not invalid:
            if not ignored:
                return self.reject(origin, raw, NOTHING, "invalid")
            text = self._secrets.blanked_text(ignored[0].text)
            return succeed(Taken((), (Verdict(Outcome.ACCEPTED, text),), "ignored"))
        pieces = pieces_of(raw, invalid, several=len(items) > 1)
        if pieces is not None:
            kept = [
                self._keep_item(origin, piece, each)
                for piece, each in zip(pieces, invalid, strict=True)
            ]
        else:
            text = f"{len(invalid)} items of this post are nonsense, such as: {invalid[0].text}"
            kept = [self.reject(origin, raw, Verdict(Outcome.INVALID, text), "invalid", SEVERAL)]
        if receipts:
            stored = self._pipeline.accept(receipts).addCallbacks(
                lambda verdicts: Taken(receipts, verdicts, invalid=len(invalid)), _busy
            )
            kept.insert(0, stored)
        # All of it is on disk before the answer; where some is not, the post comes again, and
        # what was stored is then a repetition.
        return gatherResults(kept).addCallback(
            lambda all_of_it: next(
                (each for each in all_of_it if each.reason == "busy"), all_of_it[0]
            )
        )

    def _keep_item(self, origin: Origin, raw: bytes, item: Invalid) -> Deferred[Taken]:
        verdict = Verdict(Outcome.INVALID, item.text)
        return self.reject(origin, raw, verdict, "invalid", item.field)

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
