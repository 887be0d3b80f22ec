"""What the tests of services that run now and then share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from twisted.logger import formatEvent, globalLogPublisher

from kit.store import Store, new_engine
from receiptd.store.spool.folder import Spool


@pytest.fixture
def store(tmp_path):
    """A writer, a year ago."""
    engine = new_engine(f"sqlite:///{tmp_path / 'receipts.db'}")
    then = datetime.now(UTC) - timedelta(days=365)
    store = Store(engine, spool=Spool(tmp_path / "spool"), now=lambda: then)
    yield store
    store.writer.stop()
    engine.dispose()


@pytest.fixture
def logged():
    """What is logged meanwhile."""
    texts: list[str] = []

    def observe(entry: dict[str, Any]) -> None:
        texts.append(formatEvent(entry))

    globalLogPublisher.addObserver(observe)
    yield texts
    globalLogPublisher.removeObserver(observe)
