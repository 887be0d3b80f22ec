"""The API about events: all that happened, in order."""

from __future__ import annotations

import json
from urllib.parse import urlencode

from sqlalchemy import Engine

from receiptd.forward.filters import Filter
from receiptd.store import event_reader
from receiptd.web.api.feeds import check_kept, event_item
from receiptd.web.api.forward_routes import EventsQuery
from receiptd.web.problem import PRIVATE
from receiptd.web.reader import Reader
from receiptd.web.server.request import Request

LARGEST_PAGE = 2 * 1024 * 1024
"""Bytes of events after which a page ends though more were asked for."""

PIECE = 100
"""Events read at once."""


class EventsApi:
    """Answers what is asked about events."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def list_events(self, request: Request, query: EventsQuery) -> None:
        """Events behind a number, oldest first."""
        wanted = Filter(types=query.types)
        base = f"{request.path.decode('iso8859-1')}?"

        def read(engine: Engine) -> bytes:
            check_kept(engine, query.after)
            with engine.connect() as connection:
                log = event_reader.log(connection)
                items: list[bytes] = []
                at, size = query.after, 0
                while at < log.last and len(items) < query.limit and size < LARGEST_PAGE:
                    page = event_reader.page(connection, at, PIECE)
                    if not page:
                        break
                    for event in page:
                        at = event.id
                        if wanted.fits(event) or (not query.types and event.receipt is None):
                            text = event_item(log.store, event)
                            items.append(text)
                            size += len(text)
                            if len(items) == query.limit or size >= LARGEST_PAGE:
                                break
                at = max(at, query.after)
            pairs = [("after", at), ("limit", query.limit), *(("types", t) for t in query.types)]
            following = base + urlencode(pairs) if at < log.last else None
            tail = json.dumps({"last": at, "next": following})
            return b'{"items": [' + b",".join(items) + b"], " + tail[1:].encode() + b"\n"

        found = await self._reader.read(read)
        request.answer(200, found, b"application/json", (PRIVATE,))
