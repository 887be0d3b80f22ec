"""The HTTP server: Twisted's, with a body limit that holds before the body is read, a way to
the endpoints that costs one look-up, and answers that always have a Content-Length.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import cache, lru_cache
from http import HTTPStatus
from io import BytesIO
from itertools import count
from secrets import token_hex
from time import time
from typing import Any, Protocol, TypeAlias
from urllib.parse import unquote_to_bytes

from twisted.internet import task, tcp
from twisted.internet.interfaces import IHalfCloseableProtocol, ISSLTransport
from twisted.logger import Logger
from twisted.web import http, server
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource, Resource
from zope.interface import implementer

from receiptd.config import Server
from receiptd.web.server.fast_path import whole
from receiptd.web.server.limits import MOST_TURNED_AWAY, Crowd
from receiptd.web.server.proxies import Asker, Proxies
from receiptd.web.server.readable import readable

_log = Logger(namespace="receiptd.web")

PLAIN = b"text/plain; charset=utf-8"

Refusal: TypeAlias = Callable[[int, str], tuple[bytes, bytes]]
"""Makes a body and its content type of a status and a text."""


def _plain(_status: int, text: str) -> tuple[bytes, bytes]:
    return text.encode() + b"\n", PLAIN


LINGER = 2.0
"""Seconds that a refused sender has to read the answer before its connection is cut."""

SWEEP = 1.0
"""Seconds between looks at idle connections: one clock for all of them instead of a timer each.
So a limit of time is met up to two of them late."""

READ_SIZE = 8192
"""Bytes that are read of a socket at once, several receipts' worth. Making and giving back
Twisted's 64 kB for each read costs more than the second read of a larger post."""

RETRY_SOON = b"Retry-After: 5\r\n"
_HEADER_KEY = "(server.max_header_bytes)"

REQUEST_ID = b"X-Request-Id"
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:=+/@~-]{1,64}")
_numbers = count(1)


class Handler(Protocol):
    """Whatever answers the requests for one path. Where it takes bodies larger than the site's
    limit, it has a `max_body`, in bytes; where its errors are no plain text, a `refusal`, which
    makes a body and its content type of a status and a text."""

    def handle(self, request: Request, rest: bytes) -> None:
        """Answer `request`, now or later.

        :param rest: the path behind the handler's own and a slash; empty where it is that path.
        """


@implementer(IHalfCloseableProtocol)
class Channel(http.HTTPChannel):
    """One connection. A peer may close its sending side behind a request and is answered."""

    site: Site
    transport: Any
    timeOut: Any
    refused = False
    """Whether an answer went out before the request was read: what still comes is dropped."""
    left: float | None = None
    """When our side was closed (the reactor's seconds)."""
    turned_away = ""
    """Why the connection is one too many; empty for one that is let in."""
    address: str | None = None
    """The peer's address, as it is counted; None for a Unix socket."""
    _began = 0.0
    """When the sweep first saw the request that is coming in; 0 where it has seen none."""
    _active = 0.0
    _path: Any
    _networkProducer: Any
    _peer: Any = None
    _host: Any = None
    _sends = False
    """Whether answers may go to the socket at once, instead of by way of the reactor's next
    round: on plain TCP, as long as everything before them has gone out."""

    def connectionMade(self) -> None:
        self.site.channels.add(self)
        self._sends = type(self.transport) is tcp.Server
        self.transport.bufferSize = READ_SIZE
        super().connectionMade()
        self.address = getattr(self.getPeer(), "host", None)
        self.turned_away = self.site.let_in(self.address)
        if self.turned_away and self.site.crowd.turned_away > MOST_TURNED_AWAY:
            self.transport.abortConnection()
        elif self.turned_away:
            self.refuse(503, f"too busy: {self.turned_away}; try again later", RETRY_SOON)

    def connectionLost(self, reason: Any = None) -> None:
        self.site.channel_lost(self)
        super().connectionLost(reason)

    def readConnectionLost(self) -> None:
        if self.busy:
            self.persistent = 0
        else:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our own doing, in `refuse`."""

    # A connection's two addresses, asked for once and not for each request.

    def getPeer(self) -> Any:
        """The peer's."""
        if self._peer is None:
            self._peer = super().getPeer()
        return self._peer

    def getHost(self) -> Any:
        """The socket's own."""
        if self._host is None:
            self._host = super().getHost()
        return self._host

    def write(self, data: bytes) -> None:
        """Send `data`; what the socket does not take at once goes the usual way."""
        if self._sends:
            try:
                sent = self.transport.getHandle().send(data)
            except OSError:
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
            self._sends = False
        super().write(data)

    def dataReceived(self, data: bytes) -> None:
        """Take a request that is whole and plain at once, all else as Twisted does."""
        if not self._buffer and not self.requests and self.persistent:
            found = whole(data, self.maxHeaders, self.totalHeadersSize)
            if found is not None and len(found.body) <= self.site.max_body:
                # As in HTTPChannel.allContentReceived: what comes meanwhile is kept for later.
                self._savedTimeOut = self.setTimeout(None)
                self._handlingRequest = True
                self.setRawMode()
                request = self.requestFactory(self)
                self.requests.append(request)
                request.requestHeaders = found.headers
                request.content = BytesIO(found.body)
                request.requestReceived(found.method, found.target, b"HTTP/1.1")
                return
        super().dataReceived(data)

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Any) -> None:
        # Of an answer in pieces. They go the usual way, so whatever follows must.
        self._sends = False
        super().writeHeaders(version, code, reason, headers)

    def pauseProducing(self) -> None:
        """The peer takes no more answers for now: until it does, none of its requests are read.
        Twisted's own reads on, and whoever sends requests and never reads would fill the memory
        with answers."""
        super().pauseProducing()
        self.paused = True
        self._networkProducer.pauseProducing()

    def resumeProducing(self) -> None:
        """The peer has taken what was sent."""
        self.paused = False
        super().resumeProducing()
        self._networkProducer.resumeProducing()
        self.dataReceived(b"")  # what had come before

    def _send100Continue(self) -> None:
        # As above.
        self._sends = False
        super()._send100Continue()

    # The site's sweep takes the place of TimeoutMixin's timers.

    def setTimeout(self, period: float | None) -> Any:
        # Twisted calls this behind each request that is whole, so the next one begins anew.
        previous, self.timeOut, self._began = self.timeOut, period, 0.0
        self._active = self.site.reactor.seconds()
        return previous

    def resetTimeout(self) -> None:
        self._active = self.site.reactor.seconds()

    def sweep(self, now: float) -> None:
        """Close the connection where it was idle, or its request incomplete, for too long."""
        if self.refused:
            return
        if self.timeOut is None:
            if not self.requests and self._abortingCall is None:
                # Answered, and to be closed as soon as the peer has read that: not for ever.
                self.setTimeout(self.site.settings.idle_seconds)
        elif self._incomplete:
            # Not from its last byte: one byte now and then would hold a connection for ever.
            if not self._began:
                self._began = self._active
            elif now - self._began > self.site.settings.request_seconds:
                self.refuse(
                    408,
                    f"the request was not whole after {self.site.settings.request_seconds} "
                    "seconds (server.request_seconds)",
                )
        elif now - self._active > self.timeOut:
            self.timeOut = None
            self.timeoutConnection()

    @property
    def _incomplete(self) -> bool:
        """Whether a part of a request has come and the rest has not."""
        return not self._handlingRequest and bool(self.requests or self._buffer)

    def waits(self, now: float) -> tuple[bool, float] | None:
        """Whether a request is coming in, and for how many seconds the peer has kept us waiting;
        None while it waits for us."""
        if self._handlingRequest or self.timeOut is None:
            return None
        incomplete = self._incomplete
        return incomplete, now - ((incomplete and self._began) or self._active)

    def allHeadersReceived(self) -> None:
        if (
            self.length is not None
            and self.length > self.site.max_body
            and self.length > self.body_limit()
        ):
            self.refuse_body()
        else:
            super().allHeadersReceived()

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """Whether the connection outlives the request."""
        # RFC 9110, section 7.6.1: a list, with commas, and maybe in several lines.
        for value in request.requestHeaders.getRawHeaders(b"Connection") or ():
            if any(option.strip().lower() == b"close" for option in value.split(b",")):
                return False
        return bool(super().checkPersistence(request, version))

    def timeoutConnection(self) -> None:
        """End a connection that was idle for too long, which is worth no line in the log."""
        self._abortingCall = self.callLater(self.abortTimeout, self.forceAbortClient)
        self.loseConnection()

    def forceAbortClient(self) -> None:
        """End a connection whose peer does not take part in that."""
        self._abortingCall = None
        self.transport.abortConnection()

    def body_limit(self) -> int:
        """The largest body in bytes that the request may have, its path being known."""
        return max(getattr(self._handler(), "max_body", 0), self.site.max_body)

    def _handler(self) -> Handler | None:
        """The handler of the request whose header is read."""
        return self.site.handler(origin_form(self._path).partition(b"?")[0])[0]

    def lineLengthExceeded(self, line: bytes) -> None:
        self.refuse(431, f"a line of the header is too long {_HEADER_KEY}")

    def _respondToBadRequestAndDisconnect(self) -> None:
        # Twisted's own answer has no Content-Length and no word for whoever debugs the sender.
        if self._receivedHeaderCount > self.maxHeaders:
            self.refuse(431, f"more than {self.maxHeaders} header lines (server.max_headers)")
        elif self._receivedHeaderSize > self.totalHeadersSize:
            self.refuse(
                431, f"the header is larger than {self.totalHeadersSize} bytes {_HEADER_KEY}"
            )
        else:
            self.refuse(400, "this is no HTTP/1.1 request: its header or its chunks are malformed")

    def refuse_body(self) -> None:
        """Answer that the body is too large, whether it was announced or just came."""
        limit = self.body_limit()
        key = " (server.max_body)" if limit == self.site.max_body else ""
        text = f"the body is larger than {limit} bytes{key}"
        self.refuse(413, text, refusal=getattr(self._handler(), "refusal", _plain))

    def refuse(
        self, status: int, text: str, header: bytes = b"", refusal: Refusal = _plain
    ) -> None:
        """Answer before the request is read, then close.

        A connection that is closed while the peer still sends is reset, and the reset takes the
        answer with it. So our side is closed first, and the peer may read for `LINGER` seconds.
        """
        if self.refused:
            return
        self.refused = True
        request_id = new_request_id()
        _log.info(
            "{status} to {peer}: {text}",
            status=status,
            peer=_host(self),
            text=text,
            request_id=request_id,
        )
        self.site.responses[(status,)] += 1
        headers = (
            b"X-Request-Id: %b\r\n" % request_id.encode(),
            header,
            b"Connection: close\r\n",
        )
        body, content_type = refusal(status, text)
        self.transport.write(answer(b"HTTP/1.1", status, body, content_type, headers))
        self.leave()
        self._abortingCall = self.callLater(LINGER, self.forceAbortClient)

    def leave(self) -> None:
        """Close our side of the connection behind what was answered, and drop what still comes:
        closed as a whole, it would be reset by that, and the answer lost with it."""
        self.left = self.site.reactor.seconds()
        # All but the first are for a read that is being taken apart just now.
        late = ("dataReceived", "lineReceived", "rawDataReceived", "allContentReceived")
        vars(self).update(dict.fromkeys(late, _drop))
        self.setTimeout(None)
        self._networkProducer.unregisterProducer()
        if ISSLTransport.providedBy(self.transport):
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()

    # How connections end when the site stops: see web/farewell.py

    @property
    def busy(self) -> bool:
        """Whether a whole request waits for its answer."""
        return self._handlingRequest and bool(self.requests) and not self.requests[0].endless

    def be_last(self) -> None:
        """See that the connection ends with the answer that is about to be sent, unless more
        was sent behind the request already."""
        behind = self._buffer or any(self._dataBuffer)
        if not behind and not readable([self.transport]):
            self.persistent = 0

    def loseConnection(self) -> None:
        if self.site.stopping:
            self.leave()
        else:
            super().loseConnection()


def _drop(*_: object) -> None:
    """What comes behind an answer that was the connection's last."""


def _host(channel: Channel) -> str:
    return channel.address or "a local socket"


@lru_cache(64)
def _beginning(version: bytes, status: int, content_type: bytes, seconds: int) -> bytes:
    """The head of a response as far as it stays the same for a second: up to its length."""
    lines = (
        b"%b %d %b" % (version, status, HTTPStatus(status).phrase.encode()),
        b"Server: receiptd",
        b"Date: " + http.datetimeToString(seconds),
        b"Content-Type: " + content_type,
        b"Content-Length: ",
    )
    return b"\r\n".join(lines)


def origin_form(target: bytes) -> bytes:
    """A request's target as nearly all write it: path and query. Of the absolute form, with which
    a server must do as well (RFC 9112, section 3.2.2), what is behind the host."""
    if target.startswith(b"/"):
        return target
    rest = _ORIGIN.sub(b"", target, count=1)
    return rest if rest.startswith((b"/", b"*")) else b"/" + rest


_ORIGIN = re.compile(rb"\Ahttps?://[^/?]*", re.IGNORECASE)


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


def answer(
    version: bytes, status: int, body: bytes, content_type: bytes, headers: Sequence[bytes] = ()
) -> bytes:
    """A whole response.

    :param headers: further header lines, each with its CRLF.
    """
    begins = _beginning(version, status, content_type, int(time()))
    return b"".join((begins, b"%d\r\n" % len(body), *headers, b"\r\n", body))


class Request(server.Request):
    """One request."""

    channel: Channel
    site: Site
    content: Any
    gone = False
    """Whether the client has left."""
    endless = False
    """Whether the answer goes on as long as the client reads it: one that has closed its sending
    side has left then."""
    _received = 0
    _found_asker: Asker | None = None
    _id = ""

    def __init__(self, channel: Channel, queued: object = False) -> None:
        """What a request has before it is read, but for what only Twisted's pages and their
        sessions use."""
        self.channel = channel
        self.transport = channel.transport
        self.client = channel.getPeer()
        self.host = channel.getHost()
        self.requestHeaders = Headers()
        self.responseHeaders = Headers()
        self.cookies = []
        self.notifications = []
        self.queued = queued

    def handleContentChunk(self, data: bytes) -> None:
        self._received += len(data)
        if self._received <= self.channel.site.max_body or (
            self._received <= self.channel.body_limit()
        ):
            super().handleContentChunk(data)
        else:
            self.channel.refuse_body()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        # Twisted's own parses query and form, which the providers do in their way.
        self.method, self.uri, self.clientproto = command, path, version
        self.path, _, self.query = origin_form(path).partition(b"?")
        self.args = {}
        self.content.seek(0)
        self.process()

    def parseCookies(self) -> None:
        """Nobody here wants one."""

    def process(self) -> None:
        self.site = self.channel.site
        handler, rest = self.site.handler(self.path)
        if handler is None:
            if self.path == b"*":
                refuse_path(self)
            else:
                super().process()
            return
        try:
            handler.handle(self, rest)
        except Exception:
            _log.failure(
                "answering {method} {path}",
                method=self.method,
                path=self.shown_path,
                request_id=self.request_id,
            )
            self.answer(500, b"something went wrong here; the log says what\n")

    def body(self) -> bytes:
        """The whole body."""
        body: bytes = self.content.read()
        return body

    def header(self, name: bytes) -> str:
        """A header's value as text, empty where it did not come."""
        values = self.requestHeaders.getRawHeaders(name)
        return values[0].decode("iso8859-1") if values else ""

    @property
    def request_id(self) -> str:
        """What the request is called in its answer and in every line of the log about it: as
        whoever sent it calls it, if that is short and plain, else by a number of ours."""
        if not self._id:
            values = self.requestHeaders.getRawHeaders(REQUEST_ID)
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
            return getattr(self.client, "host", None)
        return self._asker().address

    @property
    def scheme(self) -> str:
        """`http` or `https`: how the client speaks, to us or to a trusted proxy."""
        said = self._asker().scheme if self.site.proxies else None
        return said or ("https" if self.isSecure() else "http")

    @property
    def shown_path(self) -> str:
        """As much of the path as a log may have: a token may be further on, or all of it."""
        first, slash, _ = self.path[1:].partition(b"/")
        if any(token in unquote_to_bytes(first) for token in self.site.tokens):
            first = b"***"
        return "/" + first.decode("iso8859-1") + ("/..." if slash else "")

    def _asker(self) -> Asker:
        found = self._found_asker
        if found is None:
            assert self.site.proxies is not None
            headers = self.requestHeaders
            found = self._found_asker = self.site.proxies.asker(
                getattr(self.client, "host", None),
                headers.getRawHeaders(b"X-Forwarded-For") or (),
                headers.getRawHeaders(b"Forwarded") or (),
                headers.getRawHeaders(b"X-Forwarded-Proto") or (),
            )
        return found

    def answer(
        self,
        status: int,
        body: bytes,
        content_type: bytes = PLAIN,
        headers: Sequence[bytes] = (),
    ) -> None:
        """Send the whole response, in one write, and finish; nothing where the client has left."""
        if self.gone:
            return
        if self.channel.site.stopping:
            self.channel.be_last()
        headers = (b"X-Request-Id: %b\r\n" % self.request_id.encode(), *headers)
        if not self.channel.persistent:
            headers = (*headers, b"Connection: close\r\n")
        response = answer(self.clientproto, status, body, content_type, headers)
        self.startedWriting = 1
        self.code = status
        self.channel.site.responses[(status,)] += 1
        self.channel.write(response[: -len(body)] if self.method == b"HEAD" and body else response)
        self.finished = 1
        self._cleanup()  # all that Twisted's `finish` has left to do

    def connectionLost(self, reason: Any) -> None:
        self.gone = True
        super().connectionLost(reason)


class NotFound(Resource):
    """What is served where nothing is."""

    isLeaf = True

    def render(self, request: Request) -> int:
        refuse_path(request)
        return server.NOT_DONE_YET


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


class Site(server.Site):
    """All that is served: handlers by path, resources for the rest."""

    protocol: Any = Channel
    reactor: Any
    noisy = False
    requestFactory: Any = Request
    tokens: Sequence[bytes] = ()
    """What opens an endpoint or the API: in no line of the log, wherever it came."""
    stopping = False
    """Whether each connection ends with what was asked on it: see web/farewell.py."""

    def __init__(
        self,
        handlers: Mapping[bytes, Handler],
        rest: IResource | None = None,
        *,
        max_body: int,
        trees: Mapping[bytes, Handler] | None = None,
        settings: Server | None = None,
        responses: MutableMapping[Any, int] | None = None,
        reactor: Any = None,
    ) -> None:
        """
        :param handlers: by path; each is also asked for what is directly beneath its path.
        :param trees: handlers of all paths that begin so, where no other handler has them.
        :param max_body: the largest body in bytes, where a handler states no limit of its own.
        :param responses: where responses are counted, by status.
        """
        settings = settings or Server()
        super().__init__(rest or NotFound(), timeout=settings.idle_seconds, reactor=reactor)
        self.handlers = handlers
        self.trees = trees or {}
        self.crowd = Crowd(settings.connections, settings.connections_per_address)
        self.configure(settings)
        self.max_body = max_body
        self.responses = Counter() if responses is None else responses
        self.channels: set[Channel] = set()
        self._sweep = task.LoopingCall(self._sweep_channels)
        self._sweep.clock = self.reactor

    def configure(self, settings: Server) -> None:
        """Go on with other limits and other trusted proxies; connections that are open keep the
        limits of their headers and of their idle time."""
        self.settings = settings
        self.timeOut = settings.idle_seconds
        self.max_body = settings.max_body
        self.crowd.most = settings.connections
        self.crowd.per_address = settings.connections_per_address
        self.proxies = Proxies(settings.trusted_proxies) if settings.trusted_proxies else None

    def handler(self, path: bytes) -> tuple[Handler | None, bytes]:
        """The handler of `path` or of the path above its last slash, and what is behind that."""
        handler = self.handlers.get(path)
        if handler is not None:
            return handler, b""
        above, _, rest = path.rpartition(b"/")
        handler = self.handlers.get(above)
        if handler is None:
            for beginning, tree in self.trees.items():
                if path.startswith(beginning):
                    return tree, path[len(beginning) :]
        return handler, rest

    def channel_lost(self, channel: Channel) -> None:
        """That a connection is closed."""
        self.channels.discard(channel)
        if channel.turned_away:
            self.crowd.turned_away -= 1
        else:
            self.crowd.leave(channel.address)

    def buildProtocol(self, addr: Any) -> Any:
        channel = super().buildProtocol(addr)
        channel.site = self
        channel.maxHeaders = self.settings.max_headers
        channel.totalHeadersSize = channel.MAX_LENGTH = self.settings.max_header_bytes
        return channel

    def let_in(self, address: str | None) -> str:
        """Count a new connection; empty, or why it is one too many.

        :param address: the peer's; None for a Unix socket.
        """
        proxy = self.proxies is not None and self.proxies.trusts(address)
        denied = self.crowd.enter(address, self.reactor.seconds(), proxy=proxy)
        if denied:
            self.crowd.turned_away += 1
        return denied

    def startFactory(self) -> None:
        """Without the access log: each receipt has a line of its own."""
        self._sweep.start(SWEEP, now=False)

    def stopFactory(self) -> None:
        if self._sweep.running:
            self._sweep.stop()

    def log(self, request: http.Request) -> None:
        """No access log."""

    def _sweep_channels(self) -> None:
        now = self.reactor.seconds()
        channels = list(self.channels)
        for channel in channels:
            channel.sweep(now)
        self.crowd.look(channels, now)
