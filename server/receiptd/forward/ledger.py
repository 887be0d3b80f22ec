"""What the database has to be told of a destination's events: noted until it is written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from receiptd.forward.lanes import LIVE, Item
from receiptd.store.forward_state import Parked, Progress


class Changes(NamedTuple):
    """What was taken out to be written, and is put back where that fails."""

    changed: dict[int, Item]
    """Parked events that are new or other than they were."""
    done: set[int]
    """Parked events that are dealt with."""
    dead: list[Parked]
    sent: int
    error: tuple[str, datetime] | None
    pause: str | None
    last_sent: datetime | None

    def progress(
        self,
        position: int,
        replays: Sequence[tuple[int, int, int, int, bool]],
        *,
        breaker_open: bool,
    ) -> Progress:
        """As it is written."""
        return Progress(
            position=position,
            parked=[*map(_row, self.changed.values()), *self.dead],
            done=list(self.done),
            sent=self.sent,
            error=self.error,
            breaker_open=breaker_open,
            pause=self.pause,
            last_sent=self.last_sent,
            replays=replays,
        )


class Ledger:
    """Notes it."""

    def __init__(self) -> None:
        self._changed: dict[int, Item] = {}
        self._done: set[int] = set()
        self._dead: list[Parked] = []
        self._sent = 0
        self.error: tuple[str, datetime] | None = None
        """What last went wrong, and when."""
        self.pause: str | None = None
        """Why the destination is to be paused."""
        self._last_sent: datetime | None = None

    @property
    def is_dirty(self) -> bool:
        """Whether there is anything to be written."""
        return bool(
            self._done or self._changed or self._dead or self._sent or self.pause or self.error
        )

    def sent(self) -> None:
        """That the destination has taken an event."""
        self._sent += 1
        self._last_sent = datetime.now(UTC)

    def changed(self, item: Item) -> None:
        """That `item` is parked, or waits behind one that is."""
        self._changed[item.event_id] = item

    def done(self, item: Item, *, stored: bool) -> None:
        """That `item` is dealt with.

        :param stored: whether the database has a row of it that is to go.
        """
        self._changed.pop(item.event_id, None)
        if stored:
            self._done.add(item.event_id)

    def keep(self, item: Item) -> None:
        """That the row of `item` stays though it is dealt with."""
        self._done.discard(item.event_id)

    def died(self, item: Item, error: str, answer: str, *, holds: bool) -> None:
        """That `item` is a dead letter.

        :param holds: whether it keeps its lanes waiting.
        """
        self._dead.append(
            _row(item)._replace(
                status="dead",
                holds=holds,
                died_at=datetime.now(UTC),
                next_at=None,
                error=error,
                answer=answer,
            )
        )

    def take(self) -> Changes:
        """Take out what there is."""
        changes = Changes(
            self._changed,
            self._done,
            self._dead,
            self._sent,
            self.error,
            self.pause,
            self._last_sent,
        )
        self._changed, self._done, self._dead, self._sent = {}, set(), [], 0
        self.error = self.pause = None
        return changes

    def put_back(self, changes: Changes) -> None:
        """What was taken out may not have been written."""
        self._changed = changes.changed | self._changed
        self._done |= changes.done
        self._dead = changes.dead + self._dead
        self._sent += changes.sent
        self.error = self.error or changes.error
        self.pause = self.pause or changes.pause


def item_of(row: Parked, *, ordered: bool) -> Item:
    """What is parked, as it goes on."""
    item = Item(row.event_id, row.lanes if ordered else (), source=LIVE)
    item.failures, item.attempts = row.failures, row.attempts
    item.first_failed, item.next_at = row.first_failed_at, row.next_at
    item.error, item.answer = row.error or "", row.answer or ""
    item.receipt_id, item.message_ref = row.receipt_id, row.message_ref
    item.stored = True
    item.holds = row.status == "dead"
    item.parked = row.status in ("dead", "retry")
    return item


def _row(item: Item) -> Parked:
    return Parked(
        item.event_id,
        "retry" if item.parked else "behind",
        False,
        item.lanes if item.source == LIVE else (),
        item.receipt_id,
        item.message_ref,
        item.failures,
        item.attempts,
        item.first_failed,
        item.next_at,
        None,
        item.error or None,
        item.answer or None,
    )
