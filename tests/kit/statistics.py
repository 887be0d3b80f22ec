"""Compares statistics with the tables that they were counted from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Table, select, text

from receiptd.receipt import State
from receiptd.store.database.engine import open_engine
from receiptd.store.delivery_times import bucket, read_times
from receiptd.store.matching import Policy
from receiptd.store.networks import network_of
from receiptd.store.phone import e164
from receiptd.store.schema import messages, receipts, rejected_posts
from receiptd.store.statistics_tables import (
    statistics_messages,
    statistics_receipts,
    statistics_rejected,
)

Counts = Counter[tuple[Any, ...]]


def hour(at: datetime) -> datetime:
    """The hour of `at`."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def counted(connection: Connection, table: Table) -> Counts:
    """What statistics say."""
    found: Counts = Counter()
    for *key, count in connection.execute(select(table)):
        assert count >= 0
        found[tuple(key)] += count
    return +found


def stored_receipts(connection: Connection, policies: Mapping[str, Policy]) -> Counts:
    """The same of the receipts that are there."""
    found: Counts = Counter()
    for row in connection.execute(select(receipts)).mappings():
        phone = row["recipient_key"]
        if row["kind"] == "reply":
            region = policies.get(row["endpoint"], Policy()).region
            phone = e164(row["sender"], region) if row["sender"] else None
        found[
            hour(row["received_at"]),
            row["endpoint"],
            row["provider"],
            row["kind"],
            network_of(row["network"], phone),
            row["state"],
            row["code"] or "",
            row["verdict"],
        ] += 1
    return found


def counted_messages(connection: Connection) -> Counts:
    """What statistics say of messages, with the bucket of the time that each took."""
    found: Counts = Counter()
    for hour_, provider, network, state, count, text_ in connection.execute(
        select(statistics_messages)
    ):
        times = read_times(text_)
        assert count == sum(times.values())
        assert all(each > 0 for each in times.values())
        for number, each in times.items():
            found[hour_, provider, network, state, number] += each
    return found


def stored_messages(connection: Connection) -> Counts:
    """The same of the messages that are finished."""
    found: Counts = Counter()
    for row in connection.execute(select(messages).where(messages.c.final)).mappings():
        ended = row["state_at"] if State(row["state"]).final else row["gave_up_at"]
        took = bucket(row["sent_at"] or row["registered_at"], ended)
        name = row["provider"], row["network"] or "", row["state"]
        found[(hour(row["registered_at"]), *name, took)] += 1
    return found


def stored_rejected(connection: Connection) -> Counts:
    """How many rejected posts there are."""
    found: Counts = Counter()
    for row in connection.execute(select(rejected_posts)).mappings():
        found[hour(row["received_at"]), row["endpoint"], row["reason"]] += 1
    return found


def agree(database: str | Engine, policies: Mapping[str, Policy] | None = None) -> None:
    """Statistics and tables say the same; nothing was deleted, and no hour has many labels.

    :param database: its URL, or an engine on it.
    :param policies: those of the writers.
    """
    url = database if isinstance(database, str) else database.url.render_as_string(False)
    engine = open_engine(url, writes=False)
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":  # SQLite's are of one moment anyway
                connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            assert counted(connection, statistics_receipts) == stored_receipts(
                connection, policies or {}
            )
            assert counted_messages(connection) == stored_messages(connection)
            assert counted(connection, statistics_rejected) == stored_rejected(connection)
    finally:
        engine.dispose()
