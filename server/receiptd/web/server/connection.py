"""One connection: requests one after the other, each answered before the next is looked at.

- A peer may close its sending side behind a request and is answered all the same.
- Requests that were sent behind one another are taken one in each turn of the reactor, so that
  nobody who sends many of them keeps others waiting.
- Backpressure: while the peer does not take its answers, or enough of what it has sent waits,
  nothing is read from it.
- What is no request is answered, then the connection is closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from receiptd.web.server import response
from receiptd.web.server.content_encoding import ACCEPTED, Undecodable, decoded
from receiptd.web.server.head import Head, Malformed, guess
from receiptd.web.server.incoming import Incoming
from receiptd.web.server.limits import MOST_TURNED_AWAY
from receiptd.web.server.link import LINGER, MOST_BEHIND, Link
from receiptd.web.server.request import Request, Unreadable, new_request_id, origin_form

if TYPE_CHECKING:
    from receiptd.web.server.site import Handler, Site

_log = Logger(namespace="receiptd.web")


class Connection(Link):
    """One connection."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.turned_away = ""
        """Why the connection is one too many; empty for one that is let in."""
        self._incoming: Incoming | None = None
        self._began = 0.0
        """When the request that is coming in began; 0 where there is none."""
        self._counted = 0
        """Bytes of its body that the site has counted."""
        self._due = False
        """Whether the next turn of the reactor looks at what is behind."""

    def connectionMade(self) -> None:
        """Let the peer in, or say why not."""
        super().connectionMade()
        site = self.site
        site.connections.add(self)
        self.turned_away = site.let_in(self.address)
        if self.turned_away and site.crowd.turned_away > MOST_TURNED_AWAY:
            self.abort()
        elif self.turned_away:
            text = f"too busy: {self.turned_away}; try again later"
            self.refuse(503, text, header=response.RETRY_SOON)

    def connectionLost(self, reason: Any = None) -> None:
        """The connection is closed."""
        self.left = self.left or self.seconds()
        self._forget_incoming()
        self.site.connection_lost(self)
        if self.request is not None:
            request, self.request = self.request, None
            request.lost()

    def readConnectionLost(self) -> None:
        """The peer has closed its sending side; what it has sent is answered."""
        super().readConnectionLost()
        if not self.owes_answers:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    # --- What comes

    def dataReceived(self, data: bytes) -> None:
        """Take what has come, or keep it until its turn."""
        if self.left is not None:
            return
        self.active = self.seconds()
        if self.request is None and not self._due and not self.paused:
            self._take(data)
        else:
            self.behind += data
            if len(self.behind) > MOST_BEHIND:
                self.steer()

    def _take(self, data: bytes) -> None:
        incoming = self._incoming
        if incoming is None:
            incoming = self._incoming = Incoming()
        try:
            behind = self._feed(incoming, data)
        except Malformed as error:
            self._refuse_malformed(error, incoming)
            return
        if behind is None:
            self._wait(incoming)
            return
        self._forget_incoming()
        self.behind = behind
        assert incoming.head is not None
        self._serve(incoming.head, incoming.body)

    def _feed(self, incoming: Incoming, data: bytes) -> bytes | None:
        """What came behind the request, None where it is not whole."""
        if incoming.head is None:
            settings = self.site.settings
            rest = incoming.take_head(data, settings.max_headers, settings.max_header_bytes)
            if rest is None:
                return None
            self._allow_body(incoming, begun=bool(rest))
            data = rest
        behind = incoming.take_body(data)
        if incoming.size > incoming.most:
            raise Malformed(413, self.site.too_large(self._handler(self._target)))
        return behind

    def _allow_body(self, incoming: Incoming, *, begun: bool) -> None:
        """Let the body come, where it is not announced to be too large.

        :param begun: whether something of it came together with the head.
        """
        head = incoming.head
        assert head is not None
        incoming.most = self.site.least_body
        if head.length is None or head.length > incoming.most:
            incoming.most = self.site.body_limit(self._handler(head.target))
            if head.length is not None and head.length > incoming.most:
                raise Malformed(413, self.site.too_large(self._handler(head.target)))
        if not begun and head.length != 0 and head.expects_continue:
            self.write(response.CONTINUE)

    def _wait(self, incoming: Incoming) -> None:
        """See that a request which is not whole may take its time and its room."""
        if not incoming.begun:
            self._incoming = None
            return
        self._began = self._began or self.active
        if more := incoming.size - self._counted:
            self._counted += more
            self.site.bodies += more
            if self.site.bodies > self.site.settings.max_bodies:
                self.refuse(
                    503,
                    "too busy: the bodies under way together are larger than "
                    f"{self.site.settings.max_bodies} bytes (server.max_bodies); try again later",
                    header=response.RETRY_SOON,
                    target=self._target,
                )
        if self.ended and self.left is None:
            self.loseConnection()

    def _forget_incoming(self) -> None:
        self.site.bodies -= self._counted
        self._incoming, self._counted, self._began = None, 0, 0.0

    def _serve(self, head: Head, body: bytes) -> None:
        self.persistent = head.persistent
        codings = head.fields.get(b"content-encoding")
        if codings and body:
            handler = self._handler(head.target)
            try:
                body = decoded(body, codings, self.site.body_limit(handler))
            except Undecodable as error:
                header = ACCEPTED if error.status == 415 else b""
                self.refuse(error.status, error.text, header=header, target=head.target)
                return
        self.request = request = Request(self, head, body)
        self.site.handle(request)

    @property
    def _target(self) -> bytes:
        """Of the request that is coming in, as far as that is known."""
        incoming = self._incoming
        return incoming.head.target if incoming is not None and incoming.head else b""

    def _handler(self, target: bytes) -> Handler | None:
        return self.site.handler(origin_form(target).partition(b"?")[0])[0]

    # --- What goes

    def answered(self) -> None:
        """The request was answered: go on with the next one, in its own turn."""
        self.request = None
        self.active = self.seconds()
        if not self.persistent:
            self.leave()
        elif self.behind:
            self._come_back()
        elif self.ended:
            self.leave()

    def _come_back(self) -> None:
        if not self._due:
            self._due = True
            self.site.reactor.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._due = False
        if self.left is None and not self.paused and self.request is None:
            data, self.behind = self.behind, b""
            if data:
                self._take(data)
            self.steer()
            if self.ended and self.request is None and not self._due:
                self.leave()

    def resumeProducing(self) -> None:
        """The peer has taken what was sent."""
        super().resumeProducing()
        if self.behind and self.request is None:
            self._come_back()

    # --- What cannot be served

    def _refuse_malformed(self, error: Malformed, incoming: Incoming) -> None:
        if incoming.head is not None:
            self.refuse(error.status, error.text, target=incoming.head.target)
            return
        found = guess(incoming.seen)
        request_id = self.refuse(error.status, error.text, target=found.target)
        keep = getattr(self._handler(found.target), "keep_unreadable", None)
        if error.status == 400 and found.target and keep is not None:
            query = found.target.partition(b"?")[2]
            body = found.body[: self.site.body_limit(self._handler(found.target))]
            content_type = found.content_type
            keep(Unreadable(self.address, query, body, content_type, error.text, request_id))

    def refuse(self, status: int, text: str, *, header: bytes = b"", target: bytes = b"") -> str:
        """Answer before a request is read or looked at, then close.

        A connection that is closed while the peer still sends is reset, and the reset takes the
        answer with it. So our side is closed first, and the peer may read for `LINGER` seconds.

        :param target: what was asked for, as far as that is known.
        :return: what the request is called in the log.
        """
        request_id = new_request_id()
        path = origin_form(target).partition(b"?")[0] if target else b""
        _log.info(
            "{status} to {peer}{path}: {text}",
            status=status,
            peer=self.address or "a local socket",
            path=f" for {self.site.shown(path)}" if path else "",
            text=text,
            request_id=request_id,
        )
        self.site.responses[(status,)] += 1
        refusal = getattr(self.site.handler(path)[0], "refusal", response.plain)
        body, content_type = refusal(status, text)
        headers = (b"X-Request-Id: %b\r\n" % request_id.encode(), header, response.CLOSE)
        self.write(response.answer(1, status, body, content_type, headers))
        self.leave(LINGER)
        return request_id

    # --- How a connection ends

    @property
    def owes_answers(self) -> bool:
        """Whether a request that has come is to be answered still."""
        return self.busy or self._due or bool(self.behind and self.paused)

    def leave(self, seconds: float | None = None) -> None:
        """Close our side; see `Link.leave`."""
        if self.left is None:
            self._forget_incoming()
            super().leave(seconds)

    def sweep(self, now: float) -> None:
        """Close the connection where it was idle, or its request incomplete, for too long."""
        settings = self.site.settings
        if self.left is not None:
            if now > self.until:
                self.abort()
        elif self.request is not None:
            pass
        elif self._began:
            # Not from its last byte: one byte now and then would hold a connection for ever.
            if now - self._began > settings.request_seconds:
                self.refuse(
                    408,
                    f"the request was not whole after {settings.request_seconds} "
                    "seconds (server.request_seconds)",
                    target=self._target,
                )
        elif now - self.active > settings.idle_seconds:
            self.loseConnection()

    def waits(self, now: float) -> tuple[bool, float] | None:
        """Whether a request is coming in, and for how many seconds the peer has kept us waiting;
        None while it waits for us."""
        if self.request is not None or self.left is not None:
            return None
        return bool(self._began), now - (self._began or self.active)
