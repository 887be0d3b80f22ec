"""A working directory for the commands, and a writer on the database that they find there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.store import Store, new_engine
from receiptd.store.spool.folder import Spool


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each test."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A writer on `receiptd.db` of the working directory."""
    engine = new_engine(f"sqlite:///{tmp_path / 'receiptd.db'}")
    store = Store(engine, spool=Spool(tmp_path / "spool"))
    yield store
    store.writer.stop()
    engine.dispose()
