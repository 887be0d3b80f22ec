"""The retention service: when it deletes what is old, and that it lets the server go."""

from __future__ import annotations

from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from twisted.internet.task import Clock

from kit.periodic import Reactor
from kit.store import receipt
from receiptd.config import load
from receiptd.daemon.retention_service import EVERY, FIRST, RetentionService
from receiptd.daemon.service import Daemon


def test_it_runs_a_while_after_the_start_and_then_every_hour(store, logged):
    reactor = Reactor()
    service = RetentionService(reactor, store.engine, timedelta(days=180))
    service.startService()
    store.outcomes(receipt("A"))
    reactor.advance(FIRST - 1)
    assert len(store.receipts()) == 1
    reactor.advance(1)
    assert store.receipts() == []
    assert logged[-1].endswith(": 1 receipts, 0 rejected posts, 0 messages")
    store.outcomes(receipt("B"))
    reactor.advance(EVERY - 1)
    assert len(store.receipts()) == 1
    reactor.advance(1)
    assert store.receipts() == []
    service.stopService()
    assert reactor.getDelayedCalls() == []


def test_a_database_that_does_not_answer_is_tried_again(store, logged):
    reactor = Reactor()
    service = RetentionService(reactor, store.engine, timedelta(days=180))
    service.startService()
    store.outcomes(receipt("A"))
    with store.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE receipts RENAME TO gone")
    reactor.advance(FIRST)
    assert logged[-1] == ("deleting what is old: no such table: receipts; it goes on in an hour")
    with store.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE gone RENAME TO receipts")
    reactor.advance(EVERY)
    assert store.receipts() == []
    service.stopService()


def test_stopping_ends_a_run_and_waits_for_its_end(store, monkeypatch):
    from receiptd.store import retention

    began = Event()

    def run(self: retention.Pruning, *_: Any) -> retention.Pruned:
        began.set()
        assert self._stop.wait(20), "nobody stopped it"
        return self.pruned

    monkeypatch.setattr(retention.Pruning, "run", run)
    from twisted.internet import reactor as twisted_reactor
    from twisted.python.threadpool import ThreadPool

    class Threaded(Clock):
        """A clock, and threads; what they hand over waits until it is asked for."""

        def __init__(self) -> None:
            super().__init__()
            self.pool = ThreadPool(0, 1)
            self.pool.start()
            self.handed = Event()
            self.work: list[Any] = []

        def getThreadPool(self) -> ThreadPool:  # noqa: N802
            return self.pool

        def callFromThread(self, work: Any, *args: Any) -> None:  # noqa: N802
            self.work.append((work, args))
            self.handed.set()

    assert twisted_reactor is not None
    reactor = Threaded()
    service = RetentionService(reactor, store.engine, timedelta(days=180))
    service.startService()
    reactor.advance(FIRST)
    assert began.wait(20)
    stopped = service.stopService()
    ends: list[object] = []
    assert stopped is not None
    stopped.addCallback(ends.append)
    assert reactor.handed.wait(20)
    assert ends == []
    for work, args in reactor.work:
        work(*args)
    assert ends == [None]
    assert reactor.getDelayedCalls() == []
    reactor.pool.stop()


@pytest.mark.parametrize(("text", "kept"), [("", []), ('keep = "180d"', [RetentionService])])
def test_the_configuration_says_whether_there_is_any(tmp_path, monkeypatch, text, kept):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "receiptd.toml"
    file.write_text(f"[store]\n{text}\n")
    daemon = Daemon(load(file), Clock())
    assert [type(each) for each in daemon if isinstance(each, RetentionService)] == kept
