"""A sender on a real database, by a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from kit.forward import Sending
from kit.store import Store
from receiptd.store.database.engine import open_engine
from receiptd.store.database.migrating import upgrade
from receiptd.store.spool.folder import Spool


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A new database, migrated."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'receipts.db'}"
    else:
        url = request.getfixturevalue("new_postgresql_database")()
    engine = open_engine(url)
    upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine, tmp_path: Path) -> Iterator[Store]:
    """A writer on it."""
    store = Store(engine, spool=Spool(tmp_path / "spool"))
    yield store
    store.writer.stop()


@pytest.fixture
def sending(engine: Engine, store: Store) -> Iterator[Callable[..., Sending]]:
    """Begins senders: `sending(batch=10)`."""
    begun: list[Sending] = []

    def begin(**keys: Any) -> Sending:
        begun.append(Sending(engine, **keys))
        return begun[-1]

    yield begin
    for each in begun:
        each.close()
