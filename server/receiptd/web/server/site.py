"""All that is served: which handler answers which path, and what holds for every connection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from twisted.internet import task
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from receiptd.config import Server
from receiptd.web.server.connection import Connection
from receiptd.web.server.limits import Crowd
from receiptd.web.server.proxies import Proxies
from receiptd.web.server.request import Request, refuse_path

_log = Logger(namespace="receiptd.web")

SWEEP = 1.0
"""Seconds between looks at idle connections: one clock for all of them instead of a timer each.
So a time limit may be applied up to two of them late."""

MOST_LEVELS = 2
"""Segments that may stand behind a handler's path: a token, and a document behind it."""


class Handler(Protocol):
    """Whatever answers the requests for one path. Where it takes bodies larger than the site's
    limit, it has a `max_body`, in bytes; where it has a limit of its own, larger or smaller than
    the site's, a `body_limit`; where its errors are no plain text, a `refusal`, which
    makes a body and its content type of a status and a text; where it keeps what cannot be read,
    a `keep_unreadable`, which is given an `Unreadable`; where it is also asked for what is
    further beneath its path than a segment, `levels`, how many segments."""

    def handle(self, request: Request, rest: bytes) -> None:
        """Answer `request`, now or later.

        :param rest: the path behind the handler's own and a slash; empty where it is that path.
        """


class Site(Factory):
    """All that is served: handlers by path."""

    noisy = False
    tokens: Sequence[bytes] = ()
    """What opens an endpoint or the API: in no line of the log, wherever it came."""
    stopping = False
    """Whether each connection ends with what was asked on it: see web/server/shutdown.py."""

    def __init__(
        self,
        handlers: Mapping[bytes, Handler],
        *,
        max_body: int | None = None,
        trees: Mapping[bytes, Handler] | None = None,
        settings: Server | None = None,
        responses: MutableMapping[Any, int] | None = None,
        reactor: Any = None,
    ) -> None:
        """
        :param handlers: by path; each is also asked for what is directly beneath its path.
        :param trees: handlers of all paths that begin so, where no other handler has them.
        :param max_body: the largest body in bytes, where a handler states no limit of its own;
            the settings' where it is left out.
        :param responses: where responses are counted, by status.
        """
        if reactor is None:
            from twisted.internet import reactor as installed

            reactor = installed
        settings = settings or Server()
        self.reactor = reactor
        self.max_body = settings.max_body
        self.handlers = handlers
        self.trees = trees or {}
        self.crowd = Crowd(settings.connections, settings.connections_per_address)
        self.configure(settings)
        if max_body is not None:
            self.max_body = max_body
            self._look_at_limits()
        self.responses = Counter() if responses is None else responses
        self.connections: set[Connection] = set()
        self.bodies = 0
        """Bytes of the bodies that are coming in."""
        self._sweep = task.LoopingCall(self._sweep_connections)
        self._sweep.clock = self.reactor

    @property
    def handlers(self) -> Mapping[bytes, Handler]:
        """By path."""
        return self._handlers

    @handlers.setter
    def handlers(self, handlers: Mapping[bytes, Handler]) -> None:
        self._handlers = handlers
        self._look_at_limits()

    def _look_at_limits(self) -> None:
        limits = [self.body_limit(each) for each in self._handlers.values()]
        self.least_body = min([self.max_body, *limits])
        """The body in bytes that each handler takes: only for a larger one is its limit looked
        up."""

    def configure(self, settings: Server) -> None:
        """Go on with other limits and other trusted proxies."""
        self.settings = settings
        self.max_body = settings.max_body
        self._look_at_limits()
        self.crowd.most = settings.connections
        self.crowd.per_address = settings.connections_per_address
        self.proxies = Proxies(settings.trusted_proxies) if settings.trusted_proxies else None

    def handle(self, request: Request) -> None:
        """Answer `request`, now or later."""
        handler, rest = self.handler(request.path)
        if handler is None:
            refuse_path(request)
            return
        try:
            handler.handle(request, rest)
        except Exception:
            _log.failure(
                "answering {method} {path}",
                method=request.method.decode("iso8859-1"),
                path=request.shown_path,
                request_id=request.request_id,
            )
            request.answer(500, b"something went wrong here; the log says what\n")

    def handler(self, path: bytes) -> tuple[Handler | None, bytes]:
        """The handler of `path` or of a path above it, and what is behind that. Empty segments
        do not count: `//soap/` is `/soap`."""
        handler = self._handlers.get(path)
        if handler is not None:
            return handler, b""
        segments = [segment for segment in path.split(b"/") if segment]
        whole = b"/" + b"/".join(segments)
        handler = self._handlers.get(whole)
        if handler is not None:
            return handler, b""
        for levels in range(1, MOST_LEVELS + 1):
            above, *beneath = whole.rsplit(b"/", levels)
            handler = self._handlers.get(above)
            if handler is not None and levels <= getattr(handler, "levels", 1):
                return handler, b"/".join(beneath)
        path = b"/" + path.lstrip(b"/")
        for beginning, tree in self.trees.items():
            if path.startswith(beginning):
                return tree, path[len(beginning) :]
        return None, b""

    def body_limit(self, handler: Handler | None) -> int:
        """The largest body in bytes that a request for `handler` may have."""
        own: int | None = getattr(handler, "body_limit", None)
        return max(getattr(handler, "max_body", 0), self.max_body) if own is None else own

    def too_large(self, handler: Handler | None) -> str:
        """What to say of a larger one."""
        limit = self.body_limit(handler)
        if getattr(handler, "body_limit", None) is not None:
            key = " (max_body of the endpoint)"
        else:
            key = " (server.max_body)" if limit == self.max_body else ""
        return f"the body is larger than {limit} bytes{key}"

    def shown(self, path: bytes) -> str:
        """As much of a path as a log may have: a token may be further on, or all of it."""
        first, slash, _ = path.lstrip(b"/").partition(b"/")
        if any(token in unquote_to_bytes(first) for token in self.tokens):
            first = b"***"
        slashes = "/" * min(len(path) - len(path.lstrip(b"/")), 2) or "/"
        return slashes + first.decode("iso8859-1") + ("/..." if slash else "")

    def connection_lost(self, connection: Connection) -> None:
        """That a connection is closed."""
        self.connections.discard(connection)
        if connection.turned_away:
            self.crowd.turned_away -= 1
        else:
            self.crowd.leave(connection.address)

    def buildProtocol(self, addr: Any) -> Connection:
        """A connection's protocol."""
        return Connection(self)

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
        """Begin to look at idle connections."""
        if not self._sweep.running:
            self._sweep.start(SWEEP, now=False)

    def stopFactory(self) -> None:
        """No port is listened on any more."""
        if self._sweep.running:
            self._sweep.stop()

    def _sweep_connections(self) -> None:
        now = self.reactor.seconds()
        connections = list(self.connections)
        for connection in connections:
            connection.sweep(now)
        self.crowd.look(connections, now)
