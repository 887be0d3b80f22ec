"""A sender on a real database, by a clock of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from twisted.internet import reactor as twisted_reactor
from twisted.internet.defer import Deferred

from kit.forward import Link, Sending
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


@pytest.fixture(scope="session")
def in_reactor() -> Iterator[Callable[..., Any]]:
    """Runs coroutines in the reactor, in a thread of its own."""
    reactor: Any = twisted_reactor
    thread = threading.Thread(
        target=reactor.run, kwargs={"installSignalHandlers": False}, daemon=True
    )
    thread.start()

    def run(function: Callable[..., Any], *arguments: Any) -> Any:
        done = threading.Event()
        results: list[Any] = []

        def begin() -> None:
            Deferred.fromCoroutine(function(*arguments)).addBoth(results.append).addBoth(
                lambda _: done.set()
            )

        reactor.callFromThread(begin)
        assert done.wait(60)
        if hasattr(results[0], "raiseException"):
            results[0].raiseException()
        return results[0]

    yield run
    reactor.callFromThread(reactor.stop)
    thread.join(20)


@pytest.fixture
def link(in_reactor: Callable[..., Any]) -> Iterator[Callable[..., Link]]:
    """Opens destinations: `link(url, batch=10)`."""
    opened: list[Link] = []

    def begin(url: str, **keys: Any) -> Link:
        opened.append(Link(in_reactor, url, **keys))
        return opened[-1]

    yield begin
    for each in opened:
        each.close()
