"""Retention: deleting what is older than it is to be kept, a few rows at a time.

What is deleted:

- receipts received before the limit, whatever they are about: a message keeps the state that
  they made;
- the posts that brought several of these, each with the last of its receipts;
- the events of before it;
- rejected posts received before it (their own quota holds as well);
- messages, one recipient at a time, that were registered before it, are final and have no
  receipt left. A message without a final state stays, however old, unless whoever prunes says
  otherwise: the one whose receipt was lost on the way.

What a destination has not been told of yet stays, with its receipt and its message, however old.
So does what an older receiptd stored and statistics do not count yet. Statistics themselves stay.

`matching` stays: receipts go on being checked when the last message is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from threading import Event
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Engine,
    Table,
    delete,
    exists,
    func,
    select,
    true,
)

from receiptd.store.database.engine import open_engine
from receiptd.store.database.single_run import Elsewhere, Task, single_run
from receiptd.store.database.write_turns import WriteTurns
from receiptd.store.event_retention import event_is_free, message_is_free, receipt_is_free
from receiptd.store.event_tables import events
from receiptd.store.posts import is_unused
from receiptd.store.schema import aliases, messages, posts, receipts, rejected_posts
from receiptd.store.statistics_fill import is_counted

__all__ = ["Elsewhere", "Pruned", "Pruning"]

SHARE = 0.2
"""Of the time, how much the deleting may keep others from writing."""

PEEK = 1000
"""Rows looked at together, by a reader, whom nobody waits for."""

_PRUNING = Task(7251930847, "-prune", "another process deletes what is old already")

Watch = Callable[[str, int, int], object]
"""Is told the table's name, how many ids of it are done with, and how many there are."""


@dataclass
class Pruned:
    """How many rows were deleted, or would be."""

    receipts: int = 0
    rejected_posts: int = 0
    messages: int = 0
    posts: int = field(default=0, compare=False)
    """Of `posts`: each goes with the last of its receipts."""
    events: int = field(default=0, compare=False)
    held: int = field(default=0, compare=False)
    """Old receipts that stay since a destination has not been told of them yet."""

    def __str__(self) -> str:
        return (
            f"{self.receipts} receipts, {self.rejected_posts} rejected posts, "
            f"{self.messages} messages"
        )


class Pruning:
    """One run over the database."""

    def __init__(
        self,
        engine: Engine,
        before: datetime,
        *,
        dry_run: bool = False,
        unfinished: bool = False,
        stop: Event | None = None,
    ) -> None:
        """
        :param engine: opened for writing.
        :param before: what came before this time (aware) goes.
        :param dry_run: whether it is only counted.
        :param unfinished: whether messages go that have no final state, too.
        :param stop: ends the run when set: after the transaction that is under way.
        """
        self.pruned = Pruned()
        self.before = before
        self._dry_run = dry_run
        self._unfinished = unfinished
        self._stop = stop or Event()
        self._url = engine.url.render_as_string(hide_password=False)
        self._turns = WriteTurns(engine, share=SHARE, rest=self._stop.wait)

    def run(self, watch: Watch = lambda table, done, ids: None) -> Pruned:
        """Delete, until nothing is left to delete or the run is stopped.

        :param watch: is told how far it is.
        :raises Elsewhere: where a run over this database is under way already.
        :raises StoreTaken: where the database stays locked.
        """
        reader = open_engine(self._url, writes=False)
        try:
            with nullcontext() if self._dry_run else single_run(reader, self._url, _PRUNING):
                for table, time in (
                    (receipts, "received_at"),
                    (posts, "received_at"),
                    (rejected_posts, "received_at"),
                    (messages, "registered_at"),
                    (events, "at"),
                ):
                    self._table(reader, table, table.c[time] < self.before, watch)
                if not self._dry_run and not self._stop.is_set():
                    # Few: one for each message that went on by a backup route.
                    self._turns.take(
                        partial(_row_count, delete(aliases).where(aliases.c.since < self.before))
                    )
        finally:
            reader.dispose()
        return self.pruned

    def _table(self, reader: Engine, table: Table, old: ColumnElement[bool], watch: Watch) -> None:
        """Go through `table` by id, which is in the order of time but for a clock that was
        wrong, as far as anything old is found."""
        if table in (receipts, messages):
            old &= is_counted(table)
        goes = old
        if table is messages:
            goes &= self._spent() & message_is_free()
        elif table is receipts:
            goes &= receipt_is_free()
        elif table is posts:
            goes &= is_unused()
        elif table is events:
            goes &= event_is_free()
        with reader.connect() as connection:
            first = connection.execute(select(func.min(table.c.id))).scalar_one() or 0
            last = connection.execute(select(func.max(table.c.id))).scalar_one() or 0
        at = first - 1
        while at < last and not self._stop.is_set():
            with reader.connect() as connection:
                page = _page(connection, table, old, goes, at)
                if not any(row.old for row in page):
                    ahead = _ahead(connection, table, old, page[-1].id if page else last)
                    if ahead is None:
                        break
                    at = ahead
                    continue
            self._delete(table, goes, [row.id for row in page if row.goes])
            if table is receipts:
                self.pruned.held += sum(bool(row.old and not row.goes) for row in page)
            at = page[-1].id
            watch(table.name, at - first + 1, last - first + 1)

    def _spent(self) -> ColumnElement[bool]:
        """Whether a message is final, where that matters, and has no receipt left; of a dry run,
        would have."""
        left = exists().where(receipts.c.message_ref == messages.c.id)
        if self._dry_run:
            left = left.where(receipts.c.received_at >= self.before)
        return ~left if self._unfinished else messages.c.final & ~left

    def _delete(self, table: Table, goes: ColumnElement[bool], ids: Sequence[int]) -> None:
        """Delete the rows of these ids, those that may still go."""
        while ids and not self._stop.is_set():
            some, ids = ids[: self._turns.batch], ids[self._turns.batch :]
            count = len(some)
            if not self._dry_run:
                statement = delete(table).where(table.c.id.between(some[0], some[-1]), goes)
                count = self._turns.take(partial(_row_count, statement))
            setattr(self.pruned, table.name, getattr(self.pruned, table.name) + count)


def _row_count(statement: Delete, connection: Connection) -> int:
    return connection.execute(statement).rowcount


def _page(
    connection: Connection,
    table: Table,
    old: ColumnElement[bool],
    goes: ColumnElement[bool],
    after: int,
) -> Sequence[Any]:
    """The next rows: their ids, whether they are old, and whether they go."""
    return connection.execute(
        select(table.c.id, old.label("old"), goes.label("goes"))
        .where(table.c.id > after)
        .order_by(table.c.id)
        .limit(PEEK)
    ).all()


def _ahead(
    connection: Connection, table: Table, old: ColumnElement[bool], after: int
) -> int | None:
    """Behind which id to go on where no row up to `after` is old: looks at some rows at growing
    distances, so that a stretch of times by a wrong clock does not keep what lies behind it.
    None where all of them are new."""
    distance = 0
    while page := _page(connection, table, old, true(), after + distance):
        if any(row.old for row in page):
            return after + distance // 2
        distance = 2 * distance or PEEK
    return None
