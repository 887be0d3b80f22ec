"""A database of an earlier version is brought forward, and keeps what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, inspect, select

from kit.store import Store, receipt
from receiptd.receipt import State
from receiptd.store.database.engine import open_engine
from receiptd.store.database.migrating import upgrade
from receiptd.store.schema import receipts

COLUMNS = (
    "received_at, endpoint, provider, kind, message_id, message_key, state, code, recipient, "
    "recipient_key, reported_at, part, extra, raw, verdict, variant"
)


@pytest.fixture(params=["sqlite", "postgresql"])
def earlier(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A database at the revision before, with a receipt in it."""
    url = f"sqlite:///{tmp_path / 'receipts.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("new_postgresql_database")()
    engine = open_engine(url)
    config = Config()
    config.set_main_option("script_location", "receiptd:store/migrations")
    config.set_main_option("path_separator", "os")
    with engine.execution_options(any_revision=True).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        connection.exec_driver_sql(
            f"INSERT INTO receipts ({COLUMNS}) VALUES ('2026-01-01T00:00:00.000000Z', 'soap', "
            "'csoft', 'delivery', '4A2E3C10', '4a2e3c10', 'DELIVERED', '0', '447700912345', "
            "'447700912345', '2009-06-09T10:52:00.000000Z', NULL, '{}', '', 'accepted', '')"
        )
    yield engine
    engine.dispose()


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
