"""The tables of statistics: how much of what there was in each hour, whatever is deleted since."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, Table, Text

from receiptd.store.schema import Time, metadata

_count = BigInteger().with_variant(Integer(), "sqlite")

statistics_receipts = Table(
    "statistics_receipts",
    metadata,
    # when they were received
    Column("hour", Time, primary_key=True),
    Column("endpoint", Text, primary_key=True),
    Column("provider", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    # as `networks.network_of` says
    Column("network", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    # '' where there is none, '(other)' where an hour has too many
    Column("code", Text, primary_key=True),
    Column("verdict", Text, primary_key=True),
    Column("count", _count, nullable=False),
    sqlite_with_rowid=False,
)
"""Receipts that were stored, each once."""

statistics_messages = Table(
    "statistics_messages",
    metadata,
    # when they were registered
    Column("hour", Time, primary_key=True),
    Column("provider", Text, primary_key=True),
    Column("network", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("count", _count, nullable=False),
    # JSON: how many took how long, by the buckets of `delivery_times`
    Column("times", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""Messages that are finished, each once, by the state that they have now."""

statistics_rejected = Table(
    "statistics_rejected",
    metadata,
    Column("hour", Time, primary_key=True),
    Column("endpoint", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("count", _count, nullable=False),
    sqlite_with_rowid=False,
)
"""Posts that were rejected, also those that no quota keeps any more."""

statistics_fill = Table(
    "statistics_fill",
    metadata,
    # 'receipts' or 'messages'
    Column("name", Text, primary_key=True),
    # rows up to this id are counted
    Column("position", _count, nullable=False),
    # rows behind this id were counted when they were stored
    Column("boundary", _count, nullable=False),
)
"""How far what an older receiptd stored is counted."""
