"""A database of an earlier version is brought forward, and keeps what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, inspect, select

from kit.store import Store, receipt
from receiptd.receipt import State
from receiptd.store.database.engine import open_engine
from receiptd.store.database.migrating import upgrade
from receiptd.store.posts import whole
from receiptd.store.queries import ReceiptFilter, each_receipt
from receiptd.store.schema import receipts

COLUMNS = (
    "received_at, endpoint, provider, kind, message_id, message_key, state, code, recipient, "
    "recipient_key, reported_at, part, extra, raw, verdict, variant"
)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A database with nothing in it."""
    url = f"sqlite:///{tmp_path / 'receipts.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("new_postgresql_database")()
    engine = open_engine(url)
    yield engine
    engine.dispose()


def bring_to(engine: Engine, revision: str) -> None:
    """Migrate as an earlier version did."""
    config = Config()
    config.set_main_option("script_location", "receiptd:store/migrations")
    config.set_main_option("path_separator", "os")
    with engine.execution_options(any_revision=True).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


VALUES = (
    "'2026-01-01T00:00:00.000000Z', 'soap', 'csoft', 'delivery', {id}, {key}, 'DELIVERED', '0', "
    "'447700912345', '447700912345', '2009-06-09T10:52:00.000000Z', NULL, '{{}}', {raw}, "
    "'accepted', ''"
)


@pytest.fixture
def earlier(empty: Engine) -> Engine:
    """A database of revision 0002, with a receipt in it."""
    bring_to(empty, "0002")
    values = VALUES.format(id="'4A2E3C10'", key="'4a2e3c10'", raw="''")
    with empty.execution_options(any_revision=True).begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO receipts ({COLUMNS}) VALUES ({values})")
    return empty


def test_what_is_stored_stays_as_it_was_and_is_still_recognized(earlier: Engine) -> None:
    assert upgrade(earlier) == "0002"
    with earlier.connect() as connection:
        (row,) = connection.execute(select(receipts)).all()
    assert (row.message_id, row.unread, row.last_try) == ("4A2E3C10", None, None)
    assert "aliases" in inspect(earlier).get_table_names()
    store = Store(earlier)
    try:
        found = store.outcomes(receipt(), receipt(state=State.EXPIRED))
    finally:
        store.writer.stop()
    assert found == ["duplicate", "accepted"]


def test_millions_of_receipts_are_not_rewritten_for_the_posts_table(empty: Engine) -> None:
    bring_to(empty, "0005")
    postgresql = empty.dialect.name == "postgresql"
    place = "pg_relation_filepath('receipts')" if postgresql else "0"
    with empty.execution_options(any_revision=True).begin() as connection:
        number = "CAST(n AS text)"
        raw = f"convert_to(repeat({number}, 500), 'UTF8')" if postgresql else "randomblob(500)"
        connection.exec_driver_sql(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers "
            f"WHERE n < 3000) INSERT INTO receipts ({COLUMNS}) "
            f"SELECT {VALUES.format(id=number, key=number, raw=raw)} FROM numbers"
        )
        before = connection.exec_driver_sql(f"SELECT {place}").scalar_one()
        stored = connection.exec_driver_sql("SELECT id, raw FROM receipts ORDER BY id").all()
        pages = None if postgresql else _pages(connection)
    bring_to(empty, "0006")
    with empty.execution_options(any_revision=True).connect() as connection:
        assert connection.exec_driver_sql(f"SELECT {place}").scalar_one() == before
        found = connection.execute(whole(receipts).order_by(receipts.c.id)).all()
        if pages is not None:
            assert _pages(connection) - pages < 10
    assert [(row.id, row.raw) for row in found] == [tuple(row) for row in stored]
    assert {row.post_id for row in found} == {None}
    assert upgrade(empty) == "0006"
    store = Store(empty)
    try:
        (verdicts,) = store.put([receipt("7"), receipt("3001"), receipt("3002")])
        rows = store.receipts()
    finally:
        store.writer.stop()
    assert [verdict.outcome.value for verdict in verdicts] == ["duplicate", *["accepted"] * 2]
    assert [(row.raw, row.post_id) for row in rows[3000:]] == [(b"raw", 1)] * 2
    assert (rows[6].raw, rows[6].post_id) == (stored[6].raw, None)


def test_receipts_that_are_there_already_are_found_by_their_number(empty: Engine) -> None:
    bring_to(empty, "0006")
    values = VALUES.replace("'447700912345', '447700912345'", "{number}, {number}")
    with empty.execution_options(any_revision=True).begin() as connection:
        for key, number in (("'a'", "'447700912345'"), ("'b'", "NULL"), ("'c'", "'4477'")):
            each = values.format(id=key, key=key, number=number, raw="''")
            connection.exec_driver_sql(f"INSERT INTO receipts ({COLUMNS}) VALUES ({each})")
    upgrade(empty)
    found = each_receipt(empty, ReceiptFilter(recipient="+44 7700 912345"))
    assert [row["message_id"] for row in found] == ["a"]


def _pages(connection: Connection) -> int:
    """How many pages a SQLite database has: one whose rows are written anew gets many more, which
    are free afterwards."""
    return int(connection.exec_driver_sql("PRAGMA page_count").scalar_one())
