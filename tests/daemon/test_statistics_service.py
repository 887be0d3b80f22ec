"""The statistics service: it counts what is stored already, and gives messages up."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from kit.periodic import Reactor
from kit.store import receipt
from receiptd.daemon.statistics_service import EVERY, FIRST, StatisticsService
from receiptd.message import Message
from receiptd.store.giving_up import GivingUp
from receiptd.store.statistics_queries import fill


def test_it_counts_what_an_older_version_stored(store):
    store.outcomes(receipt("A"))
    with store.engine.begin() as connection:
        connection.execute(text("DELETE FROM statistics_receipts"))
        connection.execute(text("UPDATE statistics_fill SET boundary = 1 WHERE name = 'receipts'"))
    reactor = Reactor()
    service = StatisticsService(reactor, store.engine, {}, None)
    service.startService()
    reactor.advance(FIRST)
    service.stopService()
    with store.engine.connect() as connection:
        assert fill(connection).complete
        counted = connection.execute(text("SELECT sum(count) FROM statistics_receipts"))
        assert counted.scalar() == 1


def test_it_gives_messages_up_once_it_is_told_after_how_long(store):
    store.register(Message("csoft", "A"))
    reactor = Reactor()
    service = StatisticsService(reactor, store.engine, {}, None)
    service.startService()
    reactor.advance(FIRST)
    assert not store.message().final
    service.renew({}, timedelta(days=366))
    reactor.advance(EVERY)
    assert not store.message().final
    service.renew({}, timedelta(days=364))
    reactor.advance(EVERY)
    assert store.message().final
    service.stopService()


def test_a_database_that_is_away_is_told_once_and_tried_again(store, logged, monkeypatch):
    store.register(Message("csoft", "A"))
    reactor = Reactor()
    service = StatisticsService(reactor, store.engine, {}, timedelta(days=1))
    service.startService()
    with monkeypatch.context() as patch:

        def away(_: object) -> int:
            raise OperationalError("", None, Exception("the database is away"))

        patch.setattr(GivingUp, "run", away)
        reactor.advance(FIRST)
        reactor.advance(EVERY)
    told = [line for line in logged if "the database is away" in line]
    assert len(told) == 1
    reactor.advance(EVERY)
    assert store.message().final
    service.stopService()
