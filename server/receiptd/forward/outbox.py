"""What a destination is to be told, as far as it is in memory: no input or output.

An `Outbox` begins at the position that the database says, with what is parked. Events are added as
they are read, taken to be sent, and end as taken, refused, or dead; `collect` says what the
database has to be told of it (`ledger`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from receiptd.config.forward import Forward
from receiptd.forward.events import Event
from receiptd.forward.filters import Filter
from receiptd.forward.lanes import AGAIN, LIVE, REPLAYED, Item, Lanes, Window
from receiptd.forward.ledger import Changes, Ledger, item_of
from receiptd.forward.replay import Replay
from receiptd.forward.schedule import delay
from receiptd.store.forward_state import Parked, Progress

PAGE = 200
"""Events read at once."""

WINDOW = 1000
"""Events behind the position that may be in memory."""

WINDOW_BYTES = 8 * 1024 * 1024
"""Bytes of posts that these may have, where posts are sent."""

MOST_PARKED = 10_000
"""Events that may wait for their schedule, or behind one that does. With more the destination is
in trouble as a whole: nothing new is begun until some of these are dealt with."""


class Outbox:
    """One destination's. Times are seconds of a monotonic clock unless they are datetimes."""

    def __init__(
        self,
        config: Forward,
        position: int = 0,
        parked: Sequence[Parked] = (),
        replays: Sequence[Any] = (),
        now: float = 0.0,
    ) -> None:
        """
        :param position: the event behind which it begins.
        :param parked: what stands in `forward_parked`, oldest first.
        :param replays: rows of `forward_replays` that run.
        """
        self.config = config
        self._wanted = Filter.of(config)
        self._ordered = config.order == "message"
        self.lanes = Lanes()
        self._window = Window(position)
        self._behind = 0
        """How many parked events are in memory."""
        self.ledger = Ledger()
        """What the database has to be told."""
        self._settled: list[Item] = []
        self._bytes = 0
        self.missing: list[Item] = []
        """What is due and has to be read again first."""
        self.again_read_to = -1
        """The dead letter that is retried up to which they were read."""
        self._again_more = True
        self._again_open = 0
        self._replays = [Replay(row, now) for row in replays]
        self.caught_up = False
        """Whether all that was there was read."""
        self._load(parked, now)

    def _load(self, parked: Sequence[Parked], now: float) -> None:
        today = datetime.now(UTC)
        for row in parked:
            self._behind += 1
            self.lanes.add(item_of(row, ordered=self._ordered))
        # Each that waits for its time is taken out of what is ready until then.
        first = []
        while (taken := self.lanes.take(now)) is not None:
            first.append(taken)
        for item in first:
            if not item.holds:
                wait = (item.next_at - today).total_seconds() if item.next_at else 0.0
                self.lanes.again(item, now + max(wait, 0.0))

    # --- Reading

    @property
    def read_to(self) -> int:
        """The last event that was read of the log."""
        return self._window.read_to

    @property
    def has_room(self) -> bool:
        """Whether more of the log may be read."""
        return (
            len(self._window) < WINDOW
            and self._behind < MOST_PARKED
            and self._bytes < WINDOW_BYTES
        )

    @property
    def holds_any(self) -> bool:
        """Whether there is anything in it that was not dealt with."""
        return bool(len(self._window) or self.lanes.items)

    @property
    def wants_again(self) -> bool:
        """Whether dead letters that are retried are to be read."""
        return self._again_more and self._again_open == 0

    def due_replay(self, now: float) -> Replay | None:
        """A replay of which more is to be read."""
        return next((each for each in self._replays if each.wants(now)), None)

    def next_replay(self) -> list[float]:
        """When more of each replay is to be read."""
        return [each.next_time for each in self._replays]

    def add(self, page: Sequence[Event]) -> int:
        """Add the next events of the log; how many the destination does not want."""
        items = [self._item(event, LIVE) for event in page if self._wanted.fits(event)]
        if page:
            self._window.add(items, page[-1].id)
        for item in items:
            self.lanes.add(item)
        return len(page) - len(items)

    def add_again(self, rows: Sequence[Parked]) -> None:
        """Add dead letters that are retried."""
        self._again_more = len(rows) == PAGE
        for row in rows:
            item = Item(row.event_id, (), source=AGAIN)
            item.receipt_id, item.message_ref = row.receipt_id, row.message_ref
            item.attempts = row.attempts
            item.stored = True
            self.again_read_to = row.event_id
            self._again_open += 1
            self.lanes.add(item)

    def add_replayed(self, replay: Replay, page: Sequence[Event]) -> None:
        """Add what is to be told again of the next events of a replay."""
        for event in replay.take(page):
            if self._wanted.fits(event):
                item = self._item(event, REPLAYED, replay)
                replay.opened(item)
                self.lanes.add(item)

    def _item(self, event: Event, source: int, replay: Replay | None = None) -> Item:
        lanes = event.lanes if self._ordered else ()
        if replay is not None:
            lanes = tuple(f"{replay.number} {lane}" for lane in lanes)
        number = replay.number if replay is not None else None
        item = Item(event.id, lanes, event, source=source, replay=number)
        item.receipt_id = event.receipt_id
        item.message_ref = event.message_ref
        self._bytes += len(event.raw or b"")
        return item

    def found(self, item: Item, event: Event, now: float) -> None:
        """`item`, which was missing, was read again."""
        item.event = event
        self._bytes += len(event.raw or b"")
        self.lanes.again(item, now)

    def _forget_payload(self, item: Item) -> None:
        if item.event is not None:
            self._bytes -= len(item.event.raw or b"")
            item.event = None

    # --- Taking

    def next_items(self, now: float) -> tuple[Item, ...]:
        """What the next request tells; nothing where nothing may be told now."""
        found: list[Item] = []
        while len(found) < self.config.batch:
            item = self.lanes.take(now)
            if item is None:
                break
            if item.event is None:
                self.missing.append(item)
                continue
            if found and (item.replay != found[0].replay or item.group):
                self.lanes.again(item, now)
                break
            if item.group:
                return self.lanes.take_group(item, now)
            found.append(item)
        return tuple(found)

    # --- Ending

    def took(self, item: Item) -> None:
        """The destination has taken it."""
        self.ledger.sent()
        self._finish(item, failed=False)

    def drop(self, item: Item) -> None:
        """There is nothing left to tell."""
        self._finish(item, failed=False)

    def _finish(self, item: Item, *, failed: bool) -> None:
        """`item` is dealt with."""
        self._forget_payload(item)
        item.group = ()
        if item.source == REPLAYED:
            for each in self._replays:
                if each.number == item.replay:
                    each.finished(item, failed=failed)
        else:
            self.ledger.done(item, stored=item.stored)
            if item.stored:
                if item.source == AGAIN:
                    self._again_open -= 1
                else:
                    self._behind -= 1
            self._window.settle(item)
        self.lanes.finish(item)

    def park(self, item: Item, now: float) -> None:
        """It was refused once more: again when its schedule says so."""
        seconds = delay(item.failures)
        item.next_at = datetime.now(UTC) + timedelta(seconds=seconds)
        item.parked = True
        if item.source == AGAIN:  # from now on it waits like any other
            item.source = LIVE
            self._again_open -= 1
            self._behind += 1
        if not item.stored:
            self._behind += 1
        self.ledger.changed(item)
        self._settled.append(item)
        self._forget_payload(item)
        self.lanes.again(item, now + seconds)

    def die(self, item: Item, error: str, answer: str) -> None:
        """A person has to decide."""
        holds = self.config.on_dead == "hold" and bool(item.lanes) and item.source == LIVE
        self.ledger.died(item, error, answer, holds=holds)
        if not holds:
            self._finish(item, failed=True)
            # Its row stays, so it is not among those that are done.
            if item.source != REPLAYED:
                self.ledger.keep(item)
            return
        item.holds = item.parked = True
        self._forget_payload(item)
        self._window.settle(item)
        self.ledger.done(item, stored=False)
        if not item.stored:
            item.stored = True
            self._behind += 1

    # --- What the database has to be told

    def is_dirty(self, position: int) -> bool:
        """Whether it has to be told anything.

        :param position: the one that it knows.
        """
        return (
            self.ledger.is_dirty
            or self._window.position != position
            or any(each.dirty for each in self._replays)
        )

    def collect(self, *, breaker_open: bool) -> tuple[Progress, Changes]:
        """What it is told, and what is to be put back where that fails."""
        for item in self._window:
            if item.parked or (item.blocked and self.lanes.stuck(item)):
                self.ledger.changed(item)
                self._settled.append(item)
        for item in self._settled:
            self._window.settle(item)
            self._forget_payload(item)
            if not item.stored:
                item.stored = True
                if not item.parked:
                    self._behind += 1
        self._settled = []
        changes = self.ledger.take()
        replays = [each.progress() for each in self._replays]
        progress = changes.progress(self._window.position, replays, breaker_open=breaker_open)
        return progress, changes

    def put_back(self, changes: Changes) -> None:
        """What was collected may not have been written."""
        self.ledger.put_back(changes)
        for each in self._replays:
            each.not_written()

    def written(self) -> None:
        """What was collected is written."""
        self._replays = [each for each in self._replays if not each.over]
