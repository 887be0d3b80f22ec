"""Lanes: the events about one message are sent one after the other, those about others beside
them. Decides what may be sent; knows nothing of how. For one thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime
from heapq import heappop, heappush

from receiptd.forward.events import Event

LIVE, AGAIN, REPLAYED = 0, 1, 2
"""Where an item is from: the log, a dead letter that is retried, a replay. The smaller goes
first."""


class Item:
    """An event on its way to one destination."""

    __slots__ = (
        "answer",
        "attempts",
        "blocked",
        "error",
        "event",
        "event_id",
        "failures",
        "first_failed",
        "group",
        "holds",
        "lanes",
        "lonely",
        "message_ref",
        "next_at",
        "parked",
        "receipt_id",
        "replay",
        "seen",
        "source",
        "stored",
    )

    def __init__(
        self,
        event_id: int,
        lanes: tuple[str, ...],
        event: Event | None = None,
        *,
        source: int = 0,
        replay: int | None = None,
    ) -> None:
        """
        :param event: None where it is to be read again before it is sent.
        :param source: what comes from a smaller one goes first.
        :param replay: the number of the replay that it is part of.
        """
        self.event_id = event_id
        self.lanes = lanes
        self.event = event
        self.source = source
        self.replay = replay
        self.attempts = 0
        """How often it was sent."""
        self.failures = 0
        """How often it was refused."""
        self.first_failed: datetime | None = None
        self.next_at: datetime | None = None
        self.error = ""
        self.answer = ""
        self.parked = False
        """Whether it keeps its lane waiting because it was refused."""
        self.holds = False
        """Whether it is dead and keeps its lane waiting."""
        self.stored = False
        """Whether the database knows that it is parked, or waits behind one that is."""
        self.seen = 0
        """How much the destination had taken when this event last failed."""
        self.lonely = 0
        """How often it failed while others went through."""
        self.group: tuple[Item, ...] = ()
        """Those it is to be sent with, where that was tried before."""
        self.blocked = 0
        """In how many of its lanes another one is before it."""
        self.receipt_id: int | None = None
        self.message_ref: int | None = None


class Lanes:
    """What is to be sent to a destination, in the order in which it may be."""

    def __init__(self) -> None:
        self._lanes: dict[str, deque[Item]] = {}
        self._ready: list[tuple[int, int, int, Item]] = []
        self._waiting: list[tuple[float, int, Item]] = []
        self._count = 0
        self.items = 0
        """How many are in it, under way or not."""

    def add(self, item: Item) -> None:
        """Have `item` sent, behind those of its lanes that were added before."""
        self.items += 1
        for lane in item.lanes:
            queue = self._lanes.setdefault(lane, deque())
            if queue:
                item.blocked += 1
            queue.append(item)
        if not item.blocked:
            self._make_ready(item)

    def take(self, now: float) -> Item | None:
        """The next one to send, the oldest first; None where there is none now. It keeps its
        lanes until `finish`, and comes again after `again`."""
        while self._waiting and self._waiting[0][0] <= now:
            self._make_ready(heappop(self._waiting)[-1])
        return heappop(self._ready)[-1] if self._ready else None

    def take_group(self, item: Item, now: float) -> tuple[Item, ...]:
        """`item`, which was taken, and those that it was sent with before: that very batch is sent
        again. They come back at the same time, so they are taken together."""
        group = item.group
        members = {id(each) for each in group}
        found = {id(item)}
        others = []
        while len(found) < len(group):
            other = self.take(now)
            if other is None:
                break
            if id(other) in members:
                found.add(id(other))
            else:
                others.append(other)
        for other in others:
            self.again(other, now)
        return tuple(each for each in group if id(each) in found)

    def next_time(self) -> float | None:
        """When the next one that waits is ready; None where none waits for a time."""
        return self._waiting[0][0] if self._waiting else None

    def again(self, item: Item, when: float) -> None:
        """Have `item`, which was taken, sent again, but not before `when`."""
        self._count += 1
        heappush(self._waiting, (when, self._count, item))

    def finish(self, item: Item) -> None:
        """`item`, which was taken, is dealt with: its lanes go on."""
        self.items -= 1
        for lane in item.lanes:
            queue = self._lanes[lane]
            first = queue.popleft()
            assert first is item
            if queue:
                queue[0].blocked -= 1
                if not queue[0].blocked:
                    self._make_ready(queue[0])
            else:
                del self._lanes[lane]

    def stuck(self, item: Item) -> bool:
        """Whether `item` waits for one that was refused: itself, or one before it in a lane."""
        return item.parked or any(
            first.parked or first.stored
            for first in (self._lanes[lane][0] for lane in item.lanes)
            if first is not item
        )

    def waiting(self) -> Iterator[Item]:
        """All that are in a lane and not the first there."""
        seen: set[int] = set()
        for queue in self._lanes.values():
            for item in queue:
                if item.blocked and id(item) not in seen:
                    seen.add(id(item))
                    yield item

    def ready_now(self, now: float) -> bool:
        """Whether there is anything that may be sent."""
        return bool(self._ready) or bool(self._waiting and self._waiting[0][0] <= now)

    def _make_ready(self, item: Item) -> None:
        self._count += 1
        heappush(self._ready, (item.source, item.event_id, self._count, item))


class Window:
    """The events behind a destination's position that were read: the position moves on over those
    that are settled, dealt with or known to the database as parked."""

    def __init__(self, position: int) -> None:
        self.read_to = position
        """The last event that was read."""
        self._open: dict[int, Item] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, items: Iterable[Item], read_to: int) -> None:
        """That these were read, and nothing else that is wanted up to `read_to`."""
        for item in items:
            self._open[item.event_id] = item
        self.read_to = read_to

    def settle(self, item: Item) -> None:
        """That `item` is settled."""
        self._open.pop(item.event_id, None)

    @property
    def position(self) -> int:
        """The event up to which all are settled."""
        return next(iter(self._open)) - 1 if self._open else self.read_to

    def __iter__(self) -> Iterator[Item]:
        return iter(list(self._open.values()))
