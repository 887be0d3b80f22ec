"""A database file and a writer on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from kit.store import Store, new_engine
from receiptd.store.spool.folder import Spool


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A new database, migrated: every test of the store's rules runs on both."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'receipts.db'}"
    else:
        url = request.getfixturevalue("new_postgresql_database")(migrated=True)
    engine = new_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def open_store(engine: Engine, tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """Opens writers on the database; they are stopped at the test's end."""
    opened: list[Store] = []

    def open_one(**options: Any) -> Store:
        options.setdefault("spool", Spool(tmp_path / "spool"))
        opened.append(Store(engine, **options))
        return opened[-1]

    yield open_one
    for store in opened:
        store.writer.stop()


@pytest.fixture
def store(open_store: Callable[..., Store]) -> Store:
    """One writer."""
    return open_store()


@pytest.fixture
def log() -> Iterator[list[str]]:
    """The texts that are logged for people."""
    texts: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        if event["log_level"] >= LogLevel.info:
            texts.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield texts
    globalLogPublisher.removeObserver(observe)
