"""What streams tell of: receipts, each under its id; or where `types=` asks for them, events of
the log as they are handed on, each under its number there."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Engine

from receiptd.forward.events import Event, encoded, event_json, event_name
from receiptd.forward.filters import Filter
from receiptd.store import event_reader
from receiptd.store.paging import PIECE, newest_id, pieces
from receiptd.store.queries import RECEIPTS, ReceiptFilter
from receiptd.store.rows import receipt_json
from receiptd.store.schema import receipts
from receiptd.web.problem import Problem

LARGEST_BATCH = 256 * 1024
"""Bytes of events that are made at once."""

SECONDS = 0.25
"""Seconds of searching after which a thread is given back."""

EVENTS = 100
"""Events read at once."""


class EventBatch(NamedTuple):
    """Events, and the id that they reach to."""

    events: bytes
    position: int
    more: bool
    """Whether there was more behind it."""


def read_batch(engine: Engine, wanted: ReceiptFilter, after: int) -> EventBatch:
    """The events of the next receipts that fit, as many as are handy."""
    end = monotonic() + SECONDS
    reached = after
    for piece in pieces(engine, RECEIPTS, wanted, size=PIECE, after_id=after, oldest_first=True):
        reached = max(reached, piece.reached)
        if piece.rows:
            events, last, whole = _events(piece.rows)
            return EventBatch(events, reached if whole else last, piece.more or not whole)
        if piece.more and monotonic() > end:
            return EventBatch(b"", reached, True)
    return EventBatch(b"", reached, False)


def _events(rows: Sequence[Any]) -> tuple[bytes, int, bool]:
    """The events of `rows`, the last one's id, and whether they are all of them."""
    events = []
    size = 0
    for row in rows:
        # JSON escapes line ends, so this is one line; a lone surrogate stays an escape.
        data = json.dumps(receipt_json(row), ensure_ascii=False)
        event = f"id: {row['id']}\nevent: receipt\ndata: {data}\n\n"
        events.append(event.encode("utf-8", "backslashreplace"))
        size += len(events[-1])
        if size > LARGEST_BATCH:
            break
    return b"".join(events), rows[len(events) - 1]["id"], len(events) == len(rows)


class Feed(Protocol):
    """What a stream tells of."""

    def read(self, engine: Engine, after: int, /) -> EventBatch:
        """What there is behind the id `after`, as much as is handy; in a reader's thread."""

    @property
    def newest(self) -> Callable[[Engine], int]:
        """Gives the newest id that there is; in a reader's thread."""


class ReceiptFeed:
    """The receipts that fit."""

    def __init__(self, wanted: ReceiptFilter) -> None:
        self._wanted = wanted

    @staticmethod
    def newest(engine: Engine) -> int:
        """The newest receipt's id."""
        return newest_id(engine, receipts)

    def read(self, engine: Engine, after: int) -> EventBatch:
        """See `read_batch`."""
        return read_batch(engine, self._wanted, after)


def event_item(store: str, event: Event) -> bytes:
    """An event as the API gives it."""
    return encoded({"number": event.id, "id": event_name(store, event.id), **event_json(event)})


class EventFeed:
    """The log of events, as far as they are wanted."""

    def __init__(self, wanted: Filter) -> None:
        self._wanted = wanted

    @staticmethod
    def newest(engine: Engine) -> int:
        """The number of the newest event."""
        with engine.connect() as connection:
            return event_reader.newest(connection)

    def read(self, engine: Engine, after: int) -> EventBatch:
        """The next events that fit, as many as are handy."""
        end = monotonic() + SECONDS
        with engine.connect() as connection:
            store = event_reader.log(connection).store
            while True:
                page = event_reader.page(connection, after, EVENTS)
                told = []
                size = 0
                for event in page:
                    after = event.id
                    if self._wanted.fits(event):
                        data = event_item(store, event)
                        told.append(
                            b"id: %d\nevent: %b\ndata: %b\n\n"
                            % (event.id, event.type.encode(), data)
                        )
                        size += len(told[-1])
                        if size > LARGEST_BATCH:
                            break
                more = len(page) == EVENTS or bool(page and after < page[-1].id)
                if told or not more or monotonic() > end:
                    return EventBatch(b"".join(told), after, more)


def check_kept(engine: Engine, after: int) -> None:
    """Check that no event behind the number `after` was deleted.

    :raises Problem: 410 where one was, with the number to begin behind.
    """
    with engine.connect() as connection:
        log = event_reader.log(connection)
        oldest = event_reader.first(connection)
    reached = oldest - 1 if oldest is not None else log.last
    if after < reached:
        raise Problem(
            410,
            f"the events up to {reached} are deleted by now (store.keep): begin with "
            f"after={reached}",
        )
