"""The handler of an endpoint: a provider's HTTP posts in, its kind of reply out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from time import monotonic
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from receiptd.providers import Post, Reply
from receiptd.receipt import Outcome, Verdict
from receiptd.web.receiving.auth import TOKEN_FIELD
from receiptd.web.receiving.intake import MISTAKE, Intake, Origin, Taken
from receiptd.web.receiving.receipt_log import ReceiptLog
from receiptd.web.server.request import Request, Unreadable, refuse_method, refuse_path
from receiptd.web.server.response import RETRY_SOON

_log = Logger(namespace="receiptd.web")

_CHALLENGE = b'WWW-Authenticate: Basic realm="receiptd", charset="UTF-8"\r\n'


class Headers(Mapping[str, str]):
    """The first value of each header of a request, by its name in lower case."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[bytes, Sequence[bytes]]) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        return self._fields[name.encode("latin-1", "replace")][0].decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._fields)

    def __len__(self) -> int:
        return len(self._fields)


class ProviderEndpoint:
    """Takes one provider's posts on one path: fields in, the provider's kind of reply out."""

    def __init__(self, intake: Intake, log: ReceiptLog) -> None:
        self.intake = intake
        self.body_limit = intake.max_body
        self._log = log
        self._provider = intake.provider
        methods = [method.encode() for method in intake.provider.methods]
        self._methods = tuple(methods)
        # RFC 9110, section 9.1: HEAD wherever GET is. Without parameters both say what this is.
        self._takes = {*methods, *([b"HEAD"] if b"GET" in methods else ())}
        self._description = (
            f"This is where receiptd takes SMS delivery receipts that {intake.provider.name} "
            f"sends by {' or '.join(intake.provider.methods)}, as the endpoint "
            f"{intake.name}.\n"
        ).encode()
        self._token = TOKEN_FIELD if intake.gate.asks_token else None

    def handle(self, request: Request, rest: bytes) -> None:
        """Take the post, or say why not."""
        if rest and not self.intake.gate.asks_token:
            refuse_path(request)
        elif request.method in (b"GET", b"HEAD") and self._asks_nothing(request):
            request.answer(200, self._description)
        elif request.method not in self._takes:
            refuse_method(request, tuple(sorted(self._takes)))
        else:
            self.take(request, request.body(), rest)

    def _asks_nothing(self, request: Request) -> bool:
        """Whether a request has no parameter but the endpoint's token: somebody looks whether
        the URL is right."""
        if not request.query:
            return True
        own = TOKEN_FIELD.encode() if self._token else None
        for pair in request.query.split(b"&"):
            name, _, value = pair.partition(b"=")
            if (name or value) and (own is None or unquote_to_bytes(name).strip().lower() != own):
                return False
        return True

    def keep_unreadable(self, request: Unreadable, raw: bytes | None = None) -> None:
        """Keep what may be a post, though it is no request that can be read.

        :param raw: what to keep of it, secrets blanked; found out here where left out.
        """
        started = monotonic()
        post = self._post("POST", request.query, request.body, request.content_type)
        origin = Origin(request.peer, request.content_type, request.request_id)
        verdict = Verdict(Outcome.INVALID, request.text)
        kept = self.intake.reject(origin, raw or post.raw, verdict, "unreadable")
        kept.addCallback(lambda taken: self._log.taken(self.intake, taken, origin, started))
        kept.addErrback(
            lambda failure: _log.failure("keeping what cannot be read", failure=failure)
        )

    def _post(
        self,
        method: str,
        query: bytes,
        body: bytes,
        content_type: str,
        request: Request | None = None,
    ) -> Post:
        return Post(
            method,
            query,
            body,
            content_type,
            charset=self._provider.charset,
            secrets=self._provider.secrets,
            token=self._token,
            headers=Headers(request.fields) if request is not None else None,
            path=request.path if request is not None else b"/",
            public_urls=self._provider.endpoint.public_urls,
        )

    def take(self, request: Request, body: bytes, path_token: bytes) -> None:
        """Take a post whose path and method are right."""
        if self.intake.rate is not None and (seconds := self.intake.rate.wait()):
            request.answer(
                429, f"{self.intake.rate.text}\n".encode(), headers=(retry_after(seconds),)
            )
            return
        # HEAD is GET without the body of the answer: what is acknowledged is stored.
        method = "GET" if request.method == b"HEAD" else request.method.decode("ascii")
        post = self._post(method, request.query, body, request.header(b"Content-Type"), request)
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
            lambda: self._provider.verify(post),
        ).addCallback(self._answer, request, post, origin, started).addErrback(failed, request)

    def _answer(
        self, taken: Taken, request: Request, post: Post, origin: Origin, started: float
    ) -> Deferred[None] | None:
        try:
            if taken.receipts:
                reply = self._provider.answer(taken.receipts, taken.verdicts)
            elif taken.reason == "ignored":
                reply = self._provider.answer((), ())
            else:
                reply = self._provider.refuse(post, taken.verdicts[0])
                if taken.status is not None:
                    reply = reply._replace(status=taken.status)
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
            headers = (RETRY_SOON,)
        elif (
            taken.verdicts[0].outcome is Outcome.UNAUTHORIZED
            and self.intake.gate.asks_basic
            and taken.status is None
        ):
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


def failed(failure: Failure, request: Request) -> None:
    """Answer a request whose handling failed through a fault of ours."""
    _log.failure(
        "answering {path}",
        failure=failure,
        path=request.shown_path,
        request_id=request.request_id,
    )
    request.answer(503, MISTAKE.text.encode() + b"\n", headers=(RETRY_SOON,))
