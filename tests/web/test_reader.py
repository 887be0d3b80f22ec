"""Reading the store beside the reactor: bounded, and in spite of a database that hangs."""

from __future__ import annotations

import threading
from queue import Queue

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock

from receiptd.web import reader as module
from receiptd.web.reader import MOST_WAITING, THREADS, Reader, Unavailable


class Reactor(Clock):
    """Virtual time; what threads hand over waits until the test takes it."""

    def __init__(self):
        super().__init__()
        self.handed: Queue = Queue()

    def callFromThread(self, function, *args):  # noqa: N802
        self.handed.put((function, args))

    def turn(self):
        """Take what a thread hands over."""
        function, args = self.handed.get(timeout=20)
        function(*args)


@pytest.fixture
def reactor():
    return Reactor()


@pytest.fixture
def reader(reactor, tmp_path):
    made = Reader(reactor, f"sqlite:///{tmp_path / 'x.db'}", "test")
    made.start()
    yield made
    ensureDeferred(made.stop())


def test_a_read_gives_what_the_function_returns(reactor, reader):
    found = []
    reader.read(lambda engine: engine.connect().scalar(text("SELECT 7"))).addCallback(found.append)
    reactor.turn()
    assert found == [7]


@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (OperationalError("SELECT", {}, Exception("away")), Unavailable),
        (LookupError("no such thing"), LookupError),
        (KeyError("a fault of ours"), KeyError),
    ],
)
def test_a_database_that_does_not_answer_is_told_from_a_fault(reactor, reader, raised, seen):
    def fail(_engine):
        raise raised

    failures = []
    reader.read(fail).addErrback(failures.append)
    reactor.turn()
    assert isinstance(failures[0].value, seen)


def test_more_than_a_few_reads_at_once_are_turned_away(reactor, reader):
    go_on = threading.Event()
    results, refused = [], []
    most = THREADS + MOST_WAITING
    for number in range(most + 3):
        reader.read(lambda _engine, n=number: (go_on.wait(20), n)[1]).addCallbacks(
            results.append, refused.append
        )
    assert [failure.type for failure in refused] == [Unavailable] * 3
    go_on.set()
    for _ in range(most):
        reactor.turn()
    assert sorted(results) == list(range(most))
    reader.read(lambda _engine: "again").addCallback(results.append)
    reactor.turn()
    assert results[-1] == "again"


def test_stopping_waits_for_what_is_read_but_not_for_ever(reactor, reader):
    go_on = threading.Event()
    found, stopped = [], []
    reader.read(lambda _engine: go_on.wait(20)).addCallback(found.append)
    ensureDeferred(reader.stop()).addCallback(stopped.append)
    assert stopped == []
    go_on.set()
    reactor.turn()
    assert (found, stopped) == ([True], [None])


def test_stopping_gives_up_on_a_read_that_hangs(reactor, reader):
    go_on = threading.Event()
    stopped = []
    reader.read(lambda _engine: go_on.wait(20))
    ensureDeferred(reader.stop()).addCallback(stopped.append)
    reactor.advance(module.SHUTDOWN_TIMEOUT + 1)
    assert stopped == [None]
    go_on.set()
