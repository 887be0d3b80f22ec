"""A PostgreSQL that is frozen, neither answering nor gone, stops nobody."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import OperationalError

from kit.server import wait_until
from kit.store import new_engine, receipt
from receiptd.store import writer
from receiptd.store.database.connection import WriterConnection


@pytest.fixture
def engine(own_postgresql):
    engine = new_engine(own_postgresql.url(own_postgresql.new_database(migrated=True)))
    yield engine
    engine.dispose()


def ids(store):
    return [row.message_id for row in store.receipts()]


def test_what_comes_meanwhile_is_spooled_and_stored_in_order(
    own_postgresql, open_store, monkeypatch
):
    monkeypatch.setattr(writer, "TRANSACTION_TIMEOUT", 0.3)
    store = open_store()
    assert store.outcomes(receipt("before")) == ["accepted"]
    with own_postgresql.frozen():
        for name in ("at work", "next", "last"):
            assert store.outcomes(receipt(name)) == ["accepted"]
        assert store.writer.backlog.records == 3
    wait_until(lambda: store.writer.backlog.since is None, "the spool is drained")
    assert store.outcomes(receipt("after"), receipt("at work")) == ["accepted", "duplicate"]
    assert ids(store) == ["before", "at work", "next", "last", "after"]


def test_so_it_is_with_the_first_that_comes(own_postgresql, engine, open_store):
    store = open_store()
    with own_postgresql.frozen():
        assert store.outcomes(receipt("first")) == ["accepted"]
    wait_until(lambda: ids(store) == ["first"], "what was spooled is stored")


def test_a_writer_that_stops_meanwhile_spools_what_it_has(own_postgresql, engine, open_store):
    store = open_store()
    store.outcomes(receipt("before"))
    with own_postgresql.frozen():
        store.writer.put([writer.Submission(None, [receipt("at work")])])
        store.writer.stop()
        ((_, (verdict,)),) = store.transactions.get(timeout=1)
        assert verdict.outcome == "accepted"
    assert ids(store) == ["before"]
    again = open_store()
    wait_until(lambda: len(ids(again)) == 2, "what was spooled is stored")


def test_what_does_not_take_too_long_is_left_alone(engine):
    connection = WriterConnection(engine)
    assert not connection.cut(0), "nothing is connected"
    connection.transact(lambda _: None)
    assert not connection.cut(0), "nothing is under way"
    connection.transact(lambda _: None if not connection.cut(60) else pytest.fail("too soon"))
    with pytest.raises(OperationalError):
        connection.transact(lambda it: connection.cut(0) and it.exec_driver_sql("SELECT 1"))
    connection.transact(lambda it: it.exec_driver_sql("SELECT 1"))
    connection.close()
