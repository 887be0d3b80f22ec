"""The handler of an endpoint: a provider's HTTP posts in, its kind of reply out."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from receiptd.providers import Post, Reply
from receiptd.receipt import Outcome, Verdict
from receiptd.web.receiving.auth import TOKEN_FIELD
from receiptd.web.receiving.intake import MISTAKE, RETRY_AFTER, Intake, Origin, Taken
from receiptd.web.receiving.receipt_log import ReceiptLog
from receiptd.web.server.http import PLAIN, Request, refuse_path, tell

_log = Logger(namespace="receiptd.web")

_CHALLENGE = b'WWW-Authenticate: Basic realm="receiptd", charset="UTF-8"\r\n'


class ProviderEndpoint:
    """Takes one provider's posts on one path: fields in, the provider's kind of reply out."""

    def __init__(self, intake: Intake, log: ReceiptLog) -> None:
        self.intake = intake
        self._log = log
        self._provider = intake.provider
        self._methods = tuple(method.encode() for method in intake.provider.methods)
        self._token = TOKEN_FIELD if intake.gate.asks_token else None

    def handle(self, request: Request, rest: bytes) -> None:
        """Take the post, or say why not."""
        if rest and not self.intake.gate.asks_token:
            refuse_path(request)
        elif request.method not in self._methods:
            refuse_method(request, self._methods)
        else:
            self.take(request, request.body(), rest)

    def take(self, request: Request, body: bytes, path_token: bytes) -> None:
        """Take a post whose path and method are right."""
        if self.intake.rate is not None and (seconds := self.intake.rate.wait()):
            request.answer(
                429, f"{self.intake.rate.text}\n".encode(), headers=(retry_after(seconds),)
            )
            return
        post = Post(
            request.method.decode("ascii"),
            request.query,
            body,
            request.header(b"Content-Type"),
            charset=self._provider.charset,
            secrets=self._provider.secrets,
            token=self._token,
        )
        intake = self.intake
        denied = admission(intake, request, post, path_token)
        started = request.site.reactor.seconds()
        origin = Origin(request.peer, post.content_type, request.request_id)
        intake.take(
            origin,
            lambda: self._provider.credentials(post),
            post.raw,
            lambda: self._provider.read(post),
            denied,
        ).addCallback(self._answer, request, post, origin, started).addErrback(failed, request)

    def _answer(
        self, taken: Taken, request: Request, post: Post, origin: Origin, started: float
    ) -> Deferred[None] | None:
        try:
            if taken.receipts:
                reply = self._provider.answer(taken.receipts, taken.verdicts)
            else:
                reply = self._provider.refuse(post, taken.verdicts[0])
        except Exception:
            return self._mistaken(taken, request, post, origin, started)
        self._send(reply, taken, request, origin, started)
        return None

    def _mistaken(
        self, taken: Taken, request: Request, post: Post, origin: Origin, started: float
    ) -> Deferred[None]:
        """Answer where the provider's module failed to word the answer: 503, and the post is
        kept. It may be stored as a receipt already; the same one again is a repetition."""
        kept = self.intake.mistaken(origin, post.raw, "wording the answer")

        def answer(failed: Taken) -> None:
            reply = Reply(503, failed.verdicts[0].text.encode() + b"\n")
            self._send(reply, taken, request, origin, started)

        return kept.addCallback(answer)

    def _send(
        self, reply: Reply, taken: Taken, request: Request, origin: Origin, started: float
    ) -> None:
        headers: tuple[bytes, ...] = ()
        if reply.status == 503:
            headers = (RETRY_AFTER,)
        elif taken.verdicts[0].outcome is Outcome.UNAUTHORIZED and self.intake.gate.asks_basic:
            reply = Reply(401, reply.body, reply.content_type)
            headers = (_CHALLENGE,)
        request.answer(reply.status, reply.body, reply.content_type.encode(), headers)
        self._log.taken(self.intake, taken, origin, started)


def retry_after(seconds: int) -> bytes:
    """The header line (RFC 9110, section 10.2.3)."""
    return b"Retry-After: %d\r\n" % seconds


def admission(intake: Intake, request: Request, post: Post, path_token: bytes) -> Verdict | None:
    """Why a request may not pass the endpoint's gate; None where it may."""
    if not intake.gate.asks_request:
        return None
    tokens = post.tokens
    if path_token:
        tokens.append(unquote_to_bytes(path_token).decode(errors="replace"))
    return intake.gate.admit(request.peer, tokens, request.header(b"Authorization"))


def refuse_method(request: Request, allowed: tuple[bytes, ...]) -> None:
    """405, with what is allowed; a provider that posts in another way is found in the log."""
    methods = b", ".join(allowed)
    tell(request, 405, f"only {methods.decode()} here")
    request.answer(405, b"only " + methods + b" here\n", PLAIN, (b"Allow: " + methods + b"\r\n",))


def failed(failure: Failure, request: Request) -> None:
    """Answer a request whose handling failed through a fault of ours."""
    _log.failure(
        "answering {path}",
        failure=failure,
        path=request.shown_path,
        request_id=request.request_id,
    )
    request.answer(503, MISTAKE.text.encode() + b"\n", headers=(RETRY_AFTER,))
