"""The handler of Connection Software's endpoint: SOAP and form posts, and the contract beside."""

from __future__ import annotations

from functools import cache
from html import escape
from urllib.parse import quote, unquote_to_bytes

from spyne import Fault
from twisted.internet.defer import Deferred, succeed

from receiptd.providers import Post
from receiptd.providers.post import looks_like_form
from receiptd.receipt import Outcome, Verdict
from receiptd.soap import contract
from receiptd.soap.document import charset_of
from receiptd.soap.pin import blanked
from receiptd.soap.related import TYPE as RELATED
from receiptd.soap.related import root_part
from receiptd.soap.service import SoapPost, application
from receiptd.soap.transport import Response, SoapTransport
from receiptd.web.receiving.auth import TOKEN_FIELD
from receiptd.web.receiving.endpoint import (
    ProviderEndpoint,
    admission,
    failed,
    retry_after,
)
from receiptd.web.receiving.intake import Intake, Origin, Taken
from receiptd.web.receiving.receipt_log import ReceiptLog
from receiptd.web.server.request import (
    Request,
    Unreadable,
    local_address,
    refuse_method,
    refuse_path,
)
from receiptd.web.server.response import RETRY_SOON

XML = b"text/xml; charset=utf-8"
TEXT_SOAP = b"text/soap; charset=utf-8"
_HTML = b"text/html; charset=utf-8"
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


@cache
def transport() -> SoapTransport:
    """The one transport of all endpoints: the contract is the same for each."""
    return SoapTransport(application())


class SoapEndpoint:
    """Takes Connection Software's posts on one path: SOAP and forms; and serves the contract."""

    levels = 2
    """A token, and behind it one of the contract's documents."""

    def __init__(self, intake: Intake, log: ReceiptLog) -> None:
        self._intake = intake
        self.body_limit = intake.max_body
        self._transport = transport()
        self._log = log
        self._form = ProviderEndpoint(intake, log)
        self._path = intake.path
        self._public_url = next(iter(intake.provider.endpoint.public_urls), None)

    def handle(self, request: Request, rest: bytes) -> None:
        """Take the post, give the contract, or say what this URL is."""
        if request.method == b"POST":
            if rest and (b"/" in rest or not self._intake.gate.asks_token):
                refuse_path(request)
            else:
                self._post(request, rest)
        elif request.method in (b"GET", b"HEAD"):
            self._get(request, rest)
        else:
            refuse_method(request, (b"GET", b"HEAD", b"POST"))

    def keep_unreadable(self, request: Unreadable) -> None:
        """Keep what may be a post, though it is no request that can be read."""
        raw = blanked(request.body) if is_xml(request.body) else None
        self._form.keep_unreadable(request, raw)

    def _post(self, request: Request, path_token: bytes) -> None:
        body = request.body()
        content_type = request.header(b"Content-Type")
        if not is_soap(content_type, body):
            self._form.take(request, body, path_token)
            return
        if self._intake.rate is not None and (seconds := self._intake.rate.wait()):
            self._slow_down(request, self._intake.rate.text, seconds)
            return
        started = request.site.reactor.seconds()
        denied = None
        if self._intake.gate.asks_request:
            url = Post("POST", request.query, token=TOKEN_FIELD)
            denied = admission(self._intake, request, url, path_token)
        post = SoapPost(
            self._intake, Origin(request.peer, content_type, request.request_id), denied, started
        )
        submitted(self._transport, body, post).addCallback(
            self._respond, request, body, post
        ).addErrback(failed, request)

    def _slow_down(self, request: Request, text: str, seconds: int) -> None:
        """429, and for whoever reads the body a `Server` fault.

        SOAP 1.1, section 6.2, wants 500 for faults that arise in processing a request; this one is
        not processed, so HTTP's own status says more (RFC 6585, section 4): clients that know
        nothing of SOAP slow down for it, and those that do raise the fault.
        """
        envelope = self._transport.fault(Fault("Server", text))
        self._log.fault(self._intake, "Server")
        request.answer(429, envelope, XML, (retry_after(seconds),))

    def _respond(
        self, response: Response, request: Request, body: bytes, post: SoapPost
    ) -> Deferred[None] | None:
        envelope, fault = response
        asked_in = post.origin.content_type[:9].lower()
        reply_type = TEXT_SOAP if asked_in == "text/soap" else XML
        if fault is None:
            request.answer(200, envelope, reply_type)
            if post.taken:
                self._log.taken(self._intake, post.taken, post.origin, post.started)
            return None
        self._log.fault(self._intake, fault.faultcode)
        if fault.faultcode == "Server":
            request.answer(500, envelope, reply_type, (RETRY_SOON,))
            self._note(post, Verdict(Outcome.BUSY, fault.faultstring), "busy")
            return None
        verdict = self._intake.blanked(Verdict(Outcome.INVALID, fault.faultstring))
        kept = self._intake.reject(post.origin, blanked(body), verdict, "unreadable")

        def answer(_: Taken) -> None:
            request.answer(500, envelope, reply_type)
            self._note(post, verdict, "unreadable")

        return kept.addCallback(answer)

    def _note(self, post: SoapPost, verdict: Verdict, reason: str) -> None:
        """Note that a post was answered with a fault."""
        taken = Taken((), (verdict,), reason)
        self._log.taken(self._intake, taken, post.origin, post.started)

    def _get(self, request: Request, rest: bytes) -> None:
        path_token, _, document = rest.rpartition(b"/")
        if document not in _DOCUMENTS and not path_token:
            path_token, document = document, b""
        token = unquote_to_bytes(path_token).decode(errors="replace")
        if (path_token and not self._intake.gate.admits_token([token])) or (
            document and document not in _DOCUMENTS
        ):
            refuse_path(request)
            return
        asked = document.decode() or _asked_for(request.query)
        if asked == contract.XSD:
            request.answer(200, contract.xsd(), XML)
            return
        location = self._location(request)
        if asked in (contract.WSDL, contract.SINGLE_WSDL):
            # A client posts to the address that it reads here, so it bears the token of this one.
            request.answer(
                200,
                contract.wsdl(
                    location,
                    path_token=quote(token, safe=""),
                    query_token=self._query_token(request),
                    single=asked == contract.SINGLE_WSDL,
                ),
                XML,
            )
        else:
            request.answer(200, self._page(location), _HTML)

    def _query_token(self, request: Request) -> str:
        """The token in a query that is right; empty where there is none."""
        if not self._intake.gate.asks_token or not request.query:
            return ""
        for token in Post("GET", request.query, token=TOKEN_FIELD).tokens:
            if self._intake.gate.admits_token([token]):
                return quote(token, safe="")
        return ""

    def _location(self, request: Request) -> str:
        return contract.location(
            self._public_url,
            request.scheme,
            request.header(b"Host") or None,
            local_address(request.host),
            self._path,
        )

    @staticmethod
    def _page(location: str) -> bytes:
        url = escape(location)
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            "<title>receiptd</title></head><body>\n"
            "<p>This is where receiptd takes SMS delivery receipts that Connection Software "
            "posts, by SOAP or as a form. Register this URL with the provider: "
            f"<code>{url}</code>. Its contract is the WSDL at "
            f'<a href="{url}?wsdl">{url}?wsdl</a>.</p>\n</body></html>\n'
        ).encode()


def submitted(
    to: SoapTransport, body: bytes, post: SoapPost, charset: str | None = None
) -> Deferred[Response]:
    """Submit the envelope that `body` is, or that a multipart/related body has in it.

    :param charset: of `body`, where it is another than its Content-Type says.
    """
    content_type = post.origin.content_type
    if is_xml(body) or not content_type[:40].lower().startswith(RELATED):
        return to.submit(body, charset or charset_of(content_type), post)
    try:
        root = root_part(content_type, body)
    except Fault as fault:
        return succeed(Response(to.fault(fault), fault))
    post.before, post.behind = body[: root.start], body[root.end :]
    return to.submit(body[root.start : root.end], root.charset, post)


_DOCUMENTS = (contract.XSD.encode(), contract.WSDL.encode())
_ASKED = {"wsdl": contract.WSDL, "singlewsdl": contract.SINGLE_WSDL, "xsd": contract.XSD}


def _asked_for(query: bytes) -> str:
    """The document that a query asks for, as clients of Axis, CXF, .NET and others do: `?wsdl`
    in any case, also `wsdl=` and `wsdl=1`, `?singleWsdl`, `?xsd=...`; empty for none."""
    for pair in query[:_LONGEST_QUERY].split(b"&"):
        found = _ASKED.get(pair.partition(b"=")[0].strip().lower().decode("latin-1"))
        if found:
            return found
    return ""


_LONGEST_QUERY = 2048


def is_soap(content_type: str, body: bytes) -> bool:
    """Whether a post is SOAP, and no form: by its first character, since clients such as `curl
    --data-binary` call XML a form, and others send a form as text, as JSON, or as nothing."""
    if is_xml(body):
        return True
    kind = content_type[:40].lower()
    if kind.startswith(_FORMS):
        return False
    return kind.startswith(RELATED) or not looks_like_form(body)


def is_xml(body: bytes) -> bool:
    """Whether `body` begins as XML does, in any encoding, and as no form does."""
    start = body[:64].removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
    return start.startswith((b"<", b"\xff\xfe", b"\xfe\xff", b"\0<"))
