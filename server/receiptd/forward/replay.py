"""A replay under way: what is to be told again, and how far it has come."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from receiptd.forward.events import Event
from receiptd.forward.filters import Filter
from receiptd.forward.lanes import Item

OPEN = 200
"""Events of a replay that may be in memory."""


class Replay:
    """One replay of a destination. Times are seconds of a monotonic clock."""

    def __init__(self, row: Mapping[str, Any], now: float) -> None:
        """
        :param row: of `forward_replays`.
        """
        self.number: int = row["id"]
        self._wanted = Filter.read(json.loads(row["wanted"]))
        self._rate: float = row["rate"]
        self._until: int = row["until"]
        self._written: int = row["position"]
        self.read_to: int = row["position"]
        self._open: dict[int, Item] = {}
        self._sent = self._failed = 0
        self._told = 0, 0
        self.next_time = now
        """Before which nothing more of it is read."""
        self._read_all = self.read_to >= self._until
        self.over = False

    @property
    def room(self) -> int:
        """How many events may be read now."""
        room = OPEN - len(self._open)
        return min(room, max(int(self._rate), 1)) if self._rate else room

    def wants(self, now: float) -> bool:
        """Whether more is to be read."""
        return not self._read_all and now >= self.next_time and len(self._open) < OPEN // 2 + 1

    def take(self, page: Sequence[Event]) -> Iterator[Event]:
        """Those of the events that were read that are to be told again."""
        wanted = [each for each in page if each.id <= self._until and self._wanted.fits(each)]
        if page:
            self.read_to = min(page[-1].id, self._until)
        if not page or self.read_to >= self._until:
            self._read_all = True
            self.read_to = self._until
        if self._rate and wanted:
            from time import monotonic

            self.next_time = max(self.next_time, monotonic() - 1.0) + len(wanted) / self._rate
        yield from wanted

    def opened(self, item: Item) -> None:
        """That `item` is on its way."""
        self._open[item.event_id] = item

    def finished(self, item: Item, *, failed: bool) -> None:
        """That `item` was taken, or has become a dead letter."""
        self._open.pop(item.event_id, None)
        if failed:
            self._failed += 1
        else:
            self._sent += 1

    @property
    def position(self) -> int:
        """The event up to which all are dealt with."""
        return next(iter(self._open)) - 1 if self._open else self.read_to

    @property
    def dirty(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._sent or self._failed or self.position != self._written) or (
            self._read_all and not self._open
        )

    def progress(self) -> tuple[int, int, int, int, bool]:
        """What is to be written; see `forward_state.Progress`."""
        self._written = self.position
        self.over = self._read_all and not self._open
        sent, failed = self._sent, self._failed
        self._sent = self._failed = 0
        self._told = sent, failed
        return self.number, self._written, sent, failed, self.over

    def not_written(self) -> None:
        """What `progress` gave last could not be written."""
        self._sent += self._told[0]
        self._failed += self._told[1]
        self._written = -1
        self.over = False
