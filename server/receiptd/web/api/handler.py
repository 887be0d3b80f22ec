"""The handler of everything beneath /api: who may, what is asked for, and the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Engine
from twisted.internet.defer import ensureDeferred

from receiptd.config import Endpoint
from receiptd.pipeline import Pipeline
from receiptd.providers import values
from receiptd.rejected.retry import Rules
from receiptd.store.messages import MESSAGES, message_json
from receiptd.store.oldest_first import page_after
from receiptd.store.paging import Row, Source, one_row, page
from receiptd.store.queries import RECEIPTS, REJECTIONS, ReceiptFilter
from receiptd.store.rows import receipt_json, rejection_json
from receiptd.store.schema import receipts
from receiptd.web.api import openapi, routes
from receiptd.web.api.answering import Answering
from receiptd.web.api.bodies import encoded, encoded_page
from receiptd.web.api.events import EventsApi
from receiptd.web.api.feeds import EventFeed, Feed, ReceiptFeed, check_kept
from receiptd.web.api.forward import ForwardApi
from receiptd.web.api.known_names import Names
from receiptd.web.api.links import link_of_next
from receiptd.web.api.messages import MessagesApi
from receiptd.web.api.parameters import (
    ListQuery,
    MessagesQuery,
    Query,
    ReceiptQuery,
    ReceiptsQuery,
    RejectedQuery,
    StreamQuery,
    read_query,
)
from receiptd.web.api.partial import selecting
from receiptd.web.api.rejected import RejectedApi
from receiptd.web.api.statistics import StatisticsQuery, answer
from receiptd.web.api.stream import EVENT_STREAM, Streams
from receiptd.web.problem import PRIVATE, PROBLEM, Problem, answer_failure
from receiptd.web.reader import Reader
from receiptd.web.server.request import Request
from receiptd.web.token_auth import Guard

JSON = b"application/json"


class Api:
    """Answers what is asked for beneath `routes.ROOT`."""

    max_body = 1024 * 1024
    """Bytes: a thousand messages, with long references."""

    def __init__(
        self,
        reactor: Any,
        pipeline: Pipeline,
        guard: Guard,
        database: str,
        endpoints: Sequence[Endpoint],
        rules: Rules,
        origins: Sequence[str] = (),
    ) -> None:
        """
        :param database: the store's URL.
        :param endpoints: see `renew`.
        :param rules: by which rejected posts are tried again.
        :param origins: see `renew`.
        """
        self._guard = guard
        self._reader = Reader(reactor, database, "api")
        # Threads of their own, so that many streams do not keep other requests waiting.
        self._stream_reader = Reader(reactor, database, "streams", threads=2)
        self._streams = Streams(reactor, self._stream_reader)
        self._reactor = reactor
        self.readers = (self._reader, self._stream_reader)
        self.forward = ForwardApi(reactor, self._reader, database)
        self.events = EventsApi(self._reader)
        self.messages = MessagesApi(self._reader, pipeline, Names.of(endpoints))
        self.rejected = RejectedApi(self._reader, database, rules, self.stored)
        self.renew(endpoints, origins)

    def renew(self, endpoints: Sequence[Endpoint], origins: Sequence[str] = ()) -> None:
        """Go by a new configuration from now on; the guard does so by itself.

        :param endpoints: those that are served: what has a name, and by whose national forms a
            phone number may be meant.
        :param origins: of the web pages that may ask (CORS).
        """
        self._origins = frozenset(origins)
        self._names = Names.of(endpoints)
        self.messages.renew(self._names)
        self._document = b""

    @staticmethod
    def refusal(status: int, text: str) -> tuple[bytes, bytes]:
        """What a request is answered with before it is read: body and content type."""
        return Problem(status, text).encoded(), PROBLEM

    def start(self) -> None:
        """Begin to answer."""
        self._reader.start()
        self._stream_reader.start()

    def stored(self) -> None:
        """Something was stored just now; called in the writer's thread."""
        if self._streams:
            self._reactor.callFromThread(self._streams.wake)

    def end_streams(self) -> None:
        """End the streams that are open, and open no other."""
        self._streams.stop()

    async def stop(self) -> None:
        """Finish what is being read."""
        await self._reader.stop()
        await self._stream_reader.stop()
        self.forward.stop()
        self.rejected.stop()

    def handle(self, request: Request, rest: bytes) -> None:
        """Answer `request`, now or later."""
        answering = Answering(request, self._reader, self._origins, self._reactor)
        answered = ensureDeferred(self._answer(request, rest, answering))
        answered.addErrback(answer_failure, request)

    async def _answer(self, request: Request, path: bytes, answering: Answering) -> None:
        route = routes.find(path)
        shown = route.path if route is not None else f"{routes.ROOT}..."
        if route is not None and answering.preflight(route.methods):
            return
        answering.name = self._guard.check(request, None, shown)
        if route is None:
            raise Problem(
                404, "nothing is served at this path; /api/v1/openapi.json says what there is"
            )
        method = request.method.decode("iso8859-1")
        operation = route.operations.get("GET" if method == "HEAD" else method)
        if operation is None:
            allowed = ", ".join(route.methods)
            raise Problem(405, f"only {allowed} here", headers=(f"Allow: {allowed}\r\n".encode(),))
        answering.operation = operation
        self._guard.check(request, operation.scope, shown, counts=False)
        query = read_query(operation.query, request.query)
        for home in (self.messages, self.forward, self.events, self.rejected):
            if hasattr(home, operation.name):
                await getattr(home, operation.name)(request, query, **route.values)
                return
        await getattr(self, f"_{operation.name}")(request, query, **route.values)
        answering.tell(200)  # of a stream, which goes on

    # --- What the operations do

    async def _list_messages(self, request: Request, query: MessagesQuery) -> None:
        await self._list(request, MESSAGES, message_json, query)

    async def _list_receipts(self, request: Request, query: ReceiptsQuery) -> None:
        await self._list(request, RECEIPTS, receipt_json, query)

    async def _list_rejected(self, request: Request, query: RejectedQuery) -> None:
        await self._list(request, REJECTIONS, rejection_json, query)

    async def _list(
        self,
        request: Request,
        source: Source,
        shape: Callable[[Row], dict[str, Any]],
        query: ListQuery,
    ) -> None:
        names = self._names
        wanted = query.wanted(names.regions)
        after = getattr(query, "after", None)
        link = link_of_next(request, "cursor" if after is None else "after")
        strange = names.strange(query)
        shape = selecting(shape, query.fields, getattr(query, "raw", True))

        def read(engine: Engine) -> bytes:
            names.check(engine, source, type(wanted), strange)
            if after is not None:
                found, last = page_after(engine, source, wanted, limit=query.limit, after_id=after)
                return encoded_page(found, shape, link, last)
            found = page(engine, source, wanted, limit=query.limit, before_id=query.cursor)
            return encoded_page(found, shape, link)

        _send(request, await self._reader.read(read))

    async def _show_receipt(self, request: Request, query: ReceiptQuery, id: str) -> None:
        body = None
        shape = selecting(receipt_json, query.fields, query.raw)
        if id.isascii() and id.isdigit() and len(id) < 20:

            def read(engine: Engine) -> bytes | None:
                row = one_row(engine, receipts, int(id))
                return encoded(shape(row)) if row is not None else None

            body = await self._reader.read(read)
        if body is None:
            raise Problem(404, f"there is no receipt {values.shown(id)}")
        _send(request, body)

    async def _stream_receipts(self, request: Request, query: StreamQuery) -> None:
        after = query.after
        if last := request.header(b"Last-Event-ID"):
            if not (last.isascii() and last.isdigit() and len(last) < 19):
                raise Problem(
                    400,
                    f"Last-Event-ID is {values.shown(last)}: expected the id of an event of this "
                    "stream",
                )
            after = int(last)
        names = self._names
        if strange := names.strange(query):
            await self._stream_reader.read(
                lambda engine: names.check(engine, RECEIPTS, ReceiptFilter, strange)
            )
        feed: Feed = ReceiptFeed(query.wanted(names.regions))
        if query.types:
            feed, begin = EventFeed(query.events()), after
            if begin is not None:
                await self._stream_reader.read(lambda engine: check_kept(engine, begin))
        if request.method == b"HEAD":
            request.answer(200, b"", EVENT_STREAM, (PRIVATE,))
        else:
            await self._streams.open(request, feed, after)

    async def _statistics(self, request: Request, query: StatisticsQuery) -> None:
        names, wanted, strange = self._names, query.wanted(), self._names.strange(query)
        _send(
            request,
            await self._reader.read(lambda engine: answer(engine, wanted, names, strange)),
        )

    async def _openapi(self, request: Request, _query: Query) -> None:
        if not self._document:
            self._document = encoded(openapi.document(self._names))
        _send(request, self._document)


def _send(request: Request, body: bytes) -> None:
    request.answer(200, body, JSON, (PRIVATE,))
