"""Which receipts and rejected posts are wanted, and how a database finds them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Engine,
    Select,
    Table,
    false,
    literal_column,
    select,
    union,
)

from receiptd.receipt import Outcome, match_key, spellings
from receiptd.store.indexed import Search
from receiptd.store.paging import LARGEST_ID, Row, Source, each, ends, rows_of
from receiptd.store.phone import e164
from receiptd.store.schema import BUCKET_BITS, receipts, rejected_posts


def _bucket(table: Table) -> ColumnElement[int]:
    # A literal, not a parameter: SQLite uses an index on an expression only for the very one.
    return table.c.id.op(">>")(literal_column(str(BUCKET_BITS)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptFilter:
    """Which receipts are wanted: those that fit every field that is set, and of a field with
    several values one."""

    provider: Collection[str] = ()
    endpoint: Collection[str] = ()
    kind: Collection[str] = ()
    state: Collection[str] = ()
    verdict: Collection[str] = ()
    code: Collection[str] = ()
    recipient: str | None = None
    """A phone number, compared as E.164."""
    regions: Collection[str | None] = (None,)
    """By whose national forms `recipient` is read; None: as an international number."""
    reference: str | None = None
    message_id: str | None = None
    """A message's identifier, also the linked one; case does not count."""
    name: str | None = None
    """A receipt's number or a message's identifier."""
    since: datetime | None = None
    """Received at this time (aware) or later."""
    until: datetime | None = None
    """Received before this time (aware)."""

    @property
    def narrow(self) -> bool:
        """Whether anything is asked for but all."""
        return self != ReceiptFilter(regions=self.regions)


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionFilter:
    """Which rejected posts are wanted, as `ReceiptFilter` says it."""

    provider: Collection[str] = ()
    endpoint: Collection[str] = ()
    reason: Collection[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    number: int | None = None
    ids: Collection[int] = ()

    @property
    def narrow(self) -> bool:
        """Whether anything is asked for but all."""
        return self != RejectionFilter()


def receipts_page(
    connection: Connection,
    wanted: ReceiptFilter,
    *,
    limit: int,
    before_id: int | None = None,
    after_id: int | None = None,
    oldest_first: bool = False,
) -> Sequence[Row]:
    """At most `limit` rows of `receipts` that fit, newest first.

    :param before_id: only those with a smaller id: the last of the page before.
    :param after_id: only those with a larger id.
    """
    return rows_of(connection, RECEIPTS, wanted, limit, before_id, after_id, oldest_first)


def rejections_page(
    connection: Connection,
    wanted: RejectionFilter,
    *,
    limit: int,
    before_id: int | None = None,
    after_id: int | None = None,
    oldest_first: bool = False,
) -> Sequence[Row]:
    """At most `limit` rows of `rejected_posts` that fit, as `receipts_page` gives them."""
    return rows_of(connection, REJECTIONS, wanted, limit, before_id, after_id, oldest_first)


def each_receipt(
    engine: Engine,
    wanted: ReceiptFilter,
    *,
    limit: int | None = None,
    oldest_first: bool = False,
) -> Iterator[Row]:
    """All rows of `receipts` that fit, or the first `limit` of them, newest first; in memory are
    no more than `PAGE` of them."""
    return each(engine, RECEIPTS, wanted, limit, oldest_first)


def each_rejection(
    engine: Engine,
    wanted: RejectionFilter,
    *,
    limit: int | None = None,
    oldest_first: bool = False,
) -> Iterator[Row]:
    """All rows of `rejected_posts` that fit, as `each_receipt` gives them."""
    return each(engine, REJECTIONS, wanted, limit, oldest_first)


def _search_receipts(connection: Connection, wanted: ReceiptFilter) -> Search:
    if not storable(wanted):
        return NOTHING
    columns = receipts.c
    conditions = common(
        receipts, wanted, ("provider", "endpoint", "kind", "state", "verdict", "code")
    )
    if wanted.reference is not None:
        conditions.append(columns.reference == wanted.reference)
    ids: CompoundSelect[Any] | None = None
    if wanted.message_id is not None:
        ids = union(*of_message(connection, wanted.message_id))
    if wanted.name is not None:
        found = of_message(connection, wanted.name)
        number = wanted.name.strip()
        if number.isascii() and number.isdigit() and len(number) < 20:
            found.append(select(columns.id).where(columns.id == min(int(number), LARGEST_ID)))
        if ids is not None:
            conditions.append(columns.id.in_(ids))
        ids = union(*found)
    if wanted.recipient is not None:
        if ids is None:
            return Search(conditions, in_buckets=of_recipient(receipts, wanted))
        conditions.append(columns.recipient_key.in_(phone_keys(wanted)))
    if ids is not None:
        return Search(conditions, ids=ids)
    if wanted.verdict and Outcome.ACCEPTED not in wanted.verdict:
        # Said as the index of mismatches says it, so that it is used.
        conditions.append(columns.verdict != literal_column(f"'{Outcome.ACCEPTED}'"))
        return Search(conditions, indexed=True)
    return Search(conditions)


def _search_rejections(_connection: Connection, wanted: RejectionFilter) -> Search:
    if not storable(wanted):
        return NOTHING
    conditions = common(rejected_posts, wanted, ("provider", "endpoint", "reason"))
    if wanted.number is not None:
        conditions.append(rejected_posts.c.id == min(wanted.number, LARGEST_ID))
    if wanted.ids:
        conditions.append(rejected_posts.c.id.in_([min(each, LARGEST_ID) for each in wanted.ids]))
    # There are never many of these.
    return Search(conditions, indexed=True)


NOTHING = Search([false()], indexed=True)

RECEIPTS = Source(receipts, _search_receipts)
REJECTIONS = Source(rejected_posts, _search_rejections)


def phone_keys(wanted: Any) -> list[str]:
    """The phone number that a filter asks for, as it compares, read by each of its regions."""
    return sorted({e164(wanted.recipient, region) for region in wanted.regions})


def common(
    table: Table,
    wanted: Any,
    names: Sequence[str],
    time: str = "received_at",
) -> list[ColumnElement[bool]]:
    """The conditions of the fields that are called as the columns are, and of the times.

    :param time: the column that `since` and `until` are about.
    """
    conditions: list[ColumnElement[bool]] = []
    for name in names:
        values = getattr(wanted, name)
        if values:
            conditions.append(table.c[name].in_(list(values)))
    if wanted.since is not None:
        conditions.append(table.c[time] >= wanted.since)
    if wanted.until is not None:
        conditions.append(table.c[time] < wanted.until)
    return conditions


def of_message(connection: Connection, identifier: str) -> list[Select[tuple[int]]]:
    """Selects of the ids of a message's receipts, each by an index: the receipts of the message
    itself, and those linked to it."""
    identity = receipts.c.id
    oldest, newest = connection.execute(ends(receipts)).one()
    key = match_key(identifier)
    buckets: Collection[int] = ()
    if newest and key:
        buckets = range(oldest >> BUCKET_BITS, (newest >> BUCKET_BITS) + 1)
    return [
        select(identity).where(_bucket(receipts).in_(buckets), column.in_([key, *spellings(key)]))
        for column in (receipts.c.message_key, receipts.c.linked_key)
    ]


def of_recipient(table: Table, wanted: Any) -> Callable[[range], Select[tuple[int]]]:
    """Selects, by an index, the ids of the rows in some buckets that are about the phone number
    that a filter asks for."""
    keys = phone_keys(wanted)

    def in_buckets(buckets: range) -> Select[tuple[int]]:
        return select(table.c.id).where(
            _bucket(table).in_(buckets), table.c.recipient_key.in_(keys)
        )

    return in_buckets


def storable(wanted: Any) -> bool:
    """Whether the texts asked for could be in a database at all: it refuses to look for NUL and
    for halves of surrogate pairs."""
    for field in fields(wanted):
        value = getattr(wanted, field.name)
        texts = value if isinstance(value, Collection) and not isinstance(value, str) else (value,)
        for text in texts:
            if isinstance(text, str) and (
                "\0" in text or any("\ud800" <= character <= "\udfff" for character in text)
            ):
                return False
    return True
