"""The tables, as SQLAlchemy Core knows them; `migrations/` makes them in a database.

Times are UTC: on SQLite as ISO 8601 text of one width (`2009-06-09T10:52:00.000000Z`), which
sorts by time and reads well in any SQL shell, on PostgreSQL as `timestamptz`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
)
from sqlalchemy.types import TypeDecorator

REVISION = "0008"
"""The newest migration's number; a store that stands at it needs no Alembic at start-up."""

BUCKET_BITS = 17
"""Receipts are found by message and by recipient through indexes led by `id >> BUCKET_BITS`, so
that insertions stay among the last 131,072 entries however random the identifiers are; a look-up
visits each bucket. With 2 million receipts stored, that keeps nine tenths of an empty store's
rate."""


class Time(TypeDecorator[datetime]):
    """An aware time in UTC."""

    impl = String(27)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(DateTime(timezone=True))
        return dialect.type_descriptor(String(27))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return iso(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if isinstance(value, str):
            return datetime.fromisoformat(value)
        return value.astimezone(UTC) if value is not None else None


class Price(TypeDecorator[Decimal]):
    """An amount of money, digit for digit: never a binary float, `13.90` not `13.9`."""

    impl = String(64)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(Numeric())
        return dialect.type_descriptor(String(64))

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        return value if value is None or dialect.name == "postgresql" else str(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        return Decimal(value) if value is not None else None


@lru_cache(1024)
def iso(at: datetime) -> str:
    """`at` (aware) in UTC as text of one width. Remembered, since receipts come in bursts that say
    the same second, and each is written several times."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


metadata = MetaData()

_id = BigInteger().with_variant(Integer(), "sqlite")

receipts = Table(
    "receipts",
    metadata,
    Column("id", _id, primary_key=True, autoincrement=True),
    Column("received_at", Time, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("message_id", Text),
    # message_id as it compares, '' where there is none
    Column("message_key", Text, nullable=False),
    Column("linked_key", Text),
    Column("state", Text, nullable=False),
    Column("code", Text),
    Column("description", Text),
    Column("recipient", Text),
    # recipient as it compares: E.164 digits
    Column("recipient_key", Text),
    Column("sender", Text),
    Column("reference", Text),
    Column("reported_at", Time),
    Column("part", Integer),
    Column("parts", Integer),
    Column("price", Price),
    Column("network", Text),
    Column("text", Text),
    # JSON object
    Column("extra", Text, nullable=False),
    # the post as it came; empty where post_id says where it is
    Column("raw", LargeBinary, nullable=False),
    Column("verdict", Text, nullable=False),
    # what else tells it from others: a digest of a call's other fields and of what could not be
    # read, or a number that nothing else has; '' for most
    Column("variant", Text, nullable=False),
    # how often the same receipt came again
    Column("repeats", Integer, nullable=False, server_default="0"),
    # the row of messages that it is about, None where none is registered
    Column("message_ref", _id),
    # JSON array: the fields that could not be read; NULL where there are none
    Column("unread", Text),
    # how many failed attempts to send there are at most; NULL for anything but such an attempt
    Column("last_try", Integer),
    # the row of posts that has its post; NULL where that is in raw
    Column("post_id", _id),
    sqlite_autoincrement=True,
)

posts = Table(
    "posts",
    metadata,
    Column("id", _id, primary_key=True, autoincrement=False),
    # as of its receipts
    Column("received_at", Time, nullable=False),
    Column("raw", LargeBinary, nullable=False),
)
"""The posts that brought several receipts, once for all of them."""


def once(dialect: str) -> list[tuple[str, str]]:
    """What makes two receipts the same, None being equal to None: SQL expressions, each with
    the column it is of. The time leads, so that new receipts extend the index at its end
    instead of dirtying a page each all over it.
    """
    never = "'0001-01-01 00:00:00+00'::timestamptz" if dialect == "postgresql" else "''"
    return [
        ("reported_at", f"coalesce(reported_at, {never})"),
        ("message_key", "message_key"),
        ("recipient_key", "coalesce(recipient_key, '')"),
        ("code", "coalesce(code, '')"),
        ("state", "state"),
        ("part", "coalesce(part, -1)"),
        ("kind", "kind"),
        ("provider", "provider"),
        ("variant", "variant"),
    ]


messages = Table(
    "messages",
    metadata,
    Column("id", _id, primary_key=True, autoincrement=True),
    Column("registered_at", Time, nullable=False),
    Column("provider", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("message_key", Text, nullable=False),
    Column("recipient", Text),
    # recipient as it compares, '' where the application named none
    Column("recipient_key", Text, nullable=False),
    Column("sender", Text),
    Column("reference", Text),
    # how many parts there are: registered, or learned of receipts
    Column("parts", Integer),
    Column("state", Text, nullable=False),
    Column("final", Boolean, nullable=False),
    Column("state_at", Time),
    Column("delivered", Integer, nullable=False),
    Column("price", Price),
    # JSON: what is known of each part; NULL as long as nothing is
    Column("progress", Text),
    # when the application sent it, where it says so
    Column("sent_at", Time),
    # when it was given up: since then it is final, whatever its state
    Column("gave_up_at", Time),
    # as statistics count it: the first that a receipt names, else what the number says
    Column("network", Text),
    sqlite_autoincrement=True,
)
"""What applications registered as sent: a row for each recipient of an identifier."""

matching = Table(
    "matching",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("since", Time, nullable=False),
)
"""The providers for which messages were ever registered: `match = "auto"` is on for these, also
when their messages have been pruned."""

aliases = Table(
    "aliases",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("alias_key", Text, primary_key=True),
    Column("message_key", Text, nullable=False),
    Column("since", Time, nullable=False),
    Index("aliases_of_message", "provider", "message_key"),
)
"""Identifiers under which a backup route sends on a message that has another one."""

rejected_posts = Table(
    "rejected_posts",
    metadata,
    Column("id", _id, primary_key=True, autoincrement=True),
    Column("received_at", Time, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("provider", Text, nullable=False),
    # 'invalid': read, but nonsense; 'unauthorized' and 'unreadable' have a quota of their own
    Column("reason", Text, nullable=False),
    Column("field", Text),
    Column("text", Text, nullable=False),
    Column("peer", Text),
    Column("content_type", Text),
    Column("raw", LargeBinary, nullable=False),
    Index("rejected_posts_quota", "endpoint", "reason", "id"),
    sqlite_autoincrement=True,
)
