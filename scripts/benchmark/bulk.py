"""Fills a database with millions of receipts at once, by SQL alone: for what is measured
afterwards, how they came there does not matter, and the writer would take hours."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import NullPool, create_engine, make_url

DAYS = 90
"""Over which the receipts came, evenly, until now."""

BUSY = "447700900001"
"""A phone that every hundredth receipt is about, such as a monitoring's; each other has four."""

_STEP = 500_000
"""Receipts in a transaction."""

_COLUMNS = (
    "id, received_at, endpoint, provider, kind, message_id, message_key, state, code, recipient, "
    "recipient_key, reported_at, price, extra, raw, verdict, variant, message_ref"
)
_MESSAGE_COLUMNS = (
    "id, registered_at, provider, message_id, message_key, recipient, recipient_key, state, "
    "final, state_at, delivered"
)

# Each tenth receipt is about a registered message. A key is what its number scrambles to, as
# random as GUIDs are, so that a message's row can be made from its number alone.
_SQLITE_RECEIPTS = f"""
WITH RECURSIVE number (i) AS (SELECT :first UNION ALL SELECT i + 1 FROM number WHERE i < :last),
    made AS MATERIALIZED (
    SELECT i, printf('%08x%08x', (i * 1664525 + 1013904223) & 4294967295, i) AS key,
        CASE WHEN i % 100 = 0 THEN '{BUSY}'
            ELSE printf('4475%08d', (i * 7919) % :phones) END AS phone,
        strftime('%Y-%m-%dT%H:%M:%S', :begun + i * :apart, 'unixepoch') || '.000000Z' AS at
    FROM number)
INSERT INTO receipts ({_COLUMNS})
SELECT i, at, 'seeme', 'seeme', 'delivery', key, key, 'DELIVERED', '1', '+' || phone, phone, at,
    '13.90', '{{}}',
    CAST('reference=' || key || '&status=1&number=' || phone || '&timestamp=' || at ||
        '&operator=Example&price=13.90&token=***' AS BLOB),
    'accepted', '', CASE WHEN i % 10 = 0 THEN i / 10 END
FROM made
"""
_SQLITE_MESSAGES = f"""
INSERT INTO messages ({_MESSAGE_COLUMNS})
SELECT message_ref, received_at, provider, message_id, message_key, recipient, recipient_key,
    state, 1, received_at, 1
FROM receipts WHERE id BETWEEN :first AND :last AND message_ref IS NOT NULL
"""
_POSTGRESQL_RECEIPTS = f"""
INSERT INTO receipts ({_COLUMNS})
SELECT i, at, 'seeme', 'seeme', 'delivery', key, key, 'DELIVERED', '1', '+' || phone, phone, at,
    13.90, '{{}}',
    convert_to('reference=' || key || '&status=1&number=' || phone || '&timestamp=' || at ||
        '&operator=Example&price=13.90&token=***', 'UTF8'),
    'accepted', '', CASE WHEN i % 10 = 0 THEN i / 10 END
FROM (
    SELECT i, lpad(to_hex((i * 1664525 + 1013904223) & 4294967295), 8, '0')
            || lpad(to_hex(i), 8, '0') AS key,
        CASE WHEN i % 100 = 0 THEN '{BUSY}'
            ELSE '4475' || lpad(((i * 7919) % %(phones)s)::text, 8, '0') END AS phone,
        date_trunc('second', to_timestamp(%(begun)s + i * %(apart)s)) AS at
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS number (i)) AS made
""".replace("i % 10", "i %% 10").replace("7919) % ", "7919) %% ")
_POSTGRESQL_MESSAGES = f"""
INSERT INTO messages ({_MESSAGE_COLUMNS})
SELECT message_ref, received_at, provider, message_id, message_key, recipient, recipient_key,
    state, true, received_at, 1
FROM receipts WHERE id BETWEEN %(first)s AND %(last)s AND message_ref IS NOT NULL
"""


def key_of(number: int) -> str:
    """The identifier of a receipt that was filled in."""
    return f"{(number * 1664525 + 1013904223) & 4294967295:08x}{number:08x}"


def phones(count: int) -> int:
    """How many phones `count` receipts are about, beside `BUSY`."""
    return max(count // 4, 1)


def phone_of(number: int, count: int) -> str:
    """The phone that a receipt of `count` is about, where that is not `BUSY`."""
    return f"4475{number * 7919 % phones(count):08d}"


def fill(url: str, count: int, progress: Callable[[str], None]) -> dict[str, float]:
    """Store `count` receipts in a database that is empty but for its tables.

    Its indexes are dropped before and built afterwards.

    :returns: the seconds that each index took.
    """
    numbers = {
        "phones": phones(count),
        "begun": time.time() - DAYS * 86400,
        "apart": DAYS * 86400 / count,
    }
    if make_url(url).get_backend_name() == "sqlite":
        return _fill_sqlite(make_url(url).database or "", count, numbers, progress)
    return _fill_postgresql(url, count, numbers, progress)


def _fill_sqlite(
    file: str, count: int, numbers: dict[str, float], progress: Callable[[str], None]
) -> dict[str, float]:
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        # Nothing of it need outlive a failure: it is then filled anew.
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-262144"):
            connection.execute(f"PRAGMA {pragma}")
        indexes = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL "
            "AND tbl_name IN ('receipts', 'messages')"
        ).fetchall()
        run = connection.execute
        taken = _filled(
            run, (_SQLITE_RECEIPTS, _SQLITE_MESSAGES), indexes, count, numbers, progress
        )
        connection.execute("PRAGMA journal_mode=WAL")
        return taken


def _fill_postgresql(
    url: str, count: int, numbers: dict[str, float], progress: Callable[[str], None]
) -> dict[str, float]:
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        run = connection.exec_driver_sql
        run("SET synchronous_commit = off")
        indexes = [
            (name, statement)
            for name, statement in run(
                "SELECT indexname, indexdef FROM pg_indexes WHERE tablename IN "
                "('receipts', 'messages') AND indexname NOT LIKE '%%_pkey'"
            )
        ]
        taken = _filled(
            run, (_POSTGRESQL_RECEIPTS, _POSTGRESQL_MESSAGES), indexes, count, numbers, progress
        )
        for table in ("receipts", "messages"):
            run(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), "
                f"(SELECT coalesce(max(id), 1) FROM {table}))"
            )
        return taken


def _filled(
    run: Callable[..., Any],
    statements: tuple[str, str],
    indexes: list[tuple[str, str]],
    count: int,
    numbers: dict[str, float],
    progress: Callable[[str], None],
) -> dict[str, float]:
    for name, _ in indexes:
        run(f"DROP INDEX {name}")
    for first in range(1, count + 1, _STEP):
        progress(f"filling in receipt {first:,} of {count:,}")
        span = {"first": first, "last": min(first + _STEP - 1, count)}
        run(statements[0], numbers | span)
        run(statements[1], span)
    taken = {}
    for name, statement in indexes:
        progress(f"building {name}")
        begun = time.perf_counter()
        run(statement)
        taken[name] = time.perf_counter() - begun
    return taken
