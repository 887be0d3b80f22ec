"""One request: what was asked, by whom, and the way to answer it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from itertools import count
from secrets import token_hex
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from twisted.logger import Logger

from receiptd.web.server import response
from receiptd.web.server.head import Head
from receiptd.web.server.proxies import Asker
from receiptd.web.server.response import PLAIN

if TYPE_CHECKING:
    from receiptd.web.server.connection import Connection
    from receiptd.web.server.site import Site

_log = Logger(namespace="receiptd.web")

REQUEST_ID = b"X-Request-Id"
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:=+/@~-]{1,64}")
_ORIGIN = re.compile(rb"\Ahttps?://[^/?]*", re.IGNORECASE)
_numbers = count(1)


class Producer(Protocol):
    """Makes the pieces of an answer that goes on for a while."""

    def pauseProducing(self) -> None:
        """The client does not take more now."""

    def resumeProducing(self) -> None:
        """The client has taken what was sent."""

    def stopProducing(self) -> None:
        """The client has gone."""


class Request:
    """One request."""

    __slots__ = (
        "_asker",
        "_id",
        "_minor",
        "connection",
        "content",
        "fields",
        "gone",
        "intercept",
        "method",
        "own_headers",
        "path",
        "producer",
        "query",
        "site",
    )

    def __init__(self, connection: Connection, head: Head, content: bytes) -> None:
        """:param content: the body."""
        self.connection = connection
        self.site: Site = connection.site
        self.method = head.method
        self.path, _, self.query = origin_form(head.target).partition(b"?")
        self.fields = head.fields
        self.content = content
        self.gone = False
        """Whether the client has left."""
        self.producer: Producer | None = None
        """What answers piece by piece, as long as the client reads: a client that has closed its
        sending side has left then."""
        self.own_headers: Sequence[bytes] = ()
        """Header lines of whatever it is answered with, each with its CRLF."""
        self.intercept: Callable[[int, bytes, bytes, Sequence[bytes]], None] | None = None
        """Is given what `answer` is, once, in its stead; and then calls it, now or later."""
        self._minor = head.minor
        self._id = ""
        self._asker: Asker | None = None

    def body(self) -> bytes:
        """The whole body."""
        return self.content

    def header(self, name: bytes) -> str:
        """A header's first value as text, empty where it did not come."""
        values = self.fields.get(name.lower())
        return values[0].decode("iso8859-1") if values else ""

    def headers(self, name: bytes) -> Sequence[bytes]:
        """All values of a header, in order."""
        return self.fields.get(name.lower(), ())

    @property
    def host(self) -> Any:
        """The socket's own address, as Twisted has it."""
        return self.connection.host

    @property
    def request_id(self) -> str:
        """What the request is called in its answer and in every line of the log about it: as
        whoever sent it calls it, if that is short and plain, else by a number of ours."""
        if not self._id:
            values = self.fields.get(b"x-request-id")
            if values and _REQUEST_ID.fullmatch(values[0]):
                self._id = values[0].decode("ascii")
            else:
                self._id = new_request_id()
        return self._id

    @property
    def peer(self) -> str | None:
        """The address that the request came from, as a trusted proxy says where there is one;
        None for a Unix socket."""
        if self.site.proxies is None:
            return self.connection.address
        return self._asked_by().address

    @property
    def scheme(self) -> str:
        """`http` or `https`: how the client speaks, to us or to a trusted proxy."""
        said = self._asked_by().scheme if self.site.proxies else None
        return said or ("https" if self.connection.secure else "http")

    @property
    def shown_path(self) -> str:
        """As much of the path as a log may have: a token may be further on, or all of it."""
        return self.site.shown(self.path)

    def _asked_by(self) -> Asker:
        found = self._asker
        if found is None:
            assert self.site.proxies is not None
            found = self._asker = self.site.proxies.asker(
                self.connection.address,
                self.headers(b"x-forwarded-for"),
                self.headers(b"forwarded"),
                self.headers(b"x-forwarded-proto"),
            )
        return found

    def answer(
        self,
        status: int,
        body: bytes,
        content_type: bytes = PLAIN,
        headers: Sequence[bytes] = (),
    ) -> None:
        """Send the whole response, in one write, and finish; nothing where the client has left.

        :param headers: further header lines, each with its CRLF.
        """
        if self.gone:
            return
        if self.intercept is not None:
            intercept, self.intercept = self.intercept, None
            intercept(status, body, content_type, headers)
            return
        self.gone = True  # a second answer would be taken for that of the next request
        connection = self.connection
        if self.site.stopping:
            connection.be_last()
        headers = (
            b"X-Request-Id: %b\r\n" % self.request_id.encode(),
            *self.own_headers,
            *headers,
        )
        if not connection.persistent:
            headers = (*headers, response.CLOSE)
        elif not self._minor:
            headers = (*headers, response.KEEP_ALIVE)
        data = response.answer(self._minor, status, body, content_type, headers)
        self.site.responses[(status,)] += 1
        connection.write(data[: -len(body)] if self.method == b"HEAD" and body else data)
        connection.answered()

    def begin(
        self, producer: Producer, content_type: bytes, headers: Sequence[bytes] = ()
    ) -> None:
        """Send the head of an answer whose pieces follow; it is the connection's last.

        :param producer: is told whether the client takes what `write` sends.
        """
        self.producer = producer
        self.connection.persistent = False
        self.site.responses[(200,)] += 1
        headers = (
            b"X-Request-Id: %b\r\n" % self.request_id.encode(),
            *self.own_headers,
            *headers,
        )
        self.connection.write(response.head(self._minor, content_type, headers))

    def write(self, data: bytes) -> None:
        """Send a piece of the answer."""
        if data and not self.gone:
            self.connection.write(response.chunk(data) if self._minor else data)

    def end(self) -> None:
        """End an answer in pieces, as HTTP ends one."""
        if not self.gone:
            self.gone, self.producer = True, None
            if self._minor:
                self.connection.write(response.LAST_CHUNK)
            self.connection.answered()

    def cut(self) -> None:
        """Give up a client that takes nothing."""
        self.connection.abort()

    def lost(self) -> None:
        """That the client has left."""
        self.gone = True
        if self.producer is not None:
            self.producer.stopProducing()


class Unreadable(NamedTuple):
    """A request that cannot be read, as far as it was understood."""

    peer: str | None
    query: bytes
    body: bytes
    """What has come behind the head: the body, or its beginning."""
    content_type: str
    text: str
    """What is wrong with it."""
    request_id: str


def origin_form(target: bytes) -> bytes:
    """A request's target as nearly all write it: path and query. Of the absolute form, with which
    a server must do as well (RFC 9112, section 3.2.2), what is behind the host."""
    if target.startswith(b"/"):
        return target
    rest = _ORIGIN.sub(b"", target, count=1)
    return rest if rest.startswith((b"/", b"*")) else b"/" + rest


def new_request_id() -> str:
    """What a request is called: of all processes none calls another so."""
    return f"{_process()}-{next(_numbers):x}"


@cache
def _process() -> str:
    return token_hex(4)


def local_address(address: Any) -> str:
    """A socket's own address as it stands in a URL, `127.0.0.1:8080` or `[::1]:8080`."""
    host = getattr(address, "host", None)
    if host is None:
        return "localhost"
    return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"


def refuse_path(request: Request) -> None:
    """404; a provider whose URL is a little different is found in the log."""
    tell(request, 404, "no endpoint has this path")
    request.answer(404, b"nothing is served at this path; receiptd check-config lists the paths\n")


def tell(request: Request, status: int, why: str) -> None:
    """Say in the log why a request came to nothing before any endpoint looked at it."""
    _log.warn(
        "{status}: {method} {path} from {peer}: {why}",
        status=status,
        method=request.method.decode("iso8859-1"),
        path=request.shown_path,
        peer=request.peer,
        why=why,
        request_id=request.request_id,
    )


def refuse_method(request: Request, allowed: tuple[bytes, ...]) -> None:
    """405, with what is allowed; a provider that posts in another way is found in the log."""
    methods = b", ".join(allowed)
    tell(request, 405, f"only {methods.decode()} here")
    request.answer(405, b"only " + methods + b" here\n", PLAIN, (b"Allow: " + methods + b"\r\n",))
