"""Registering from outside a server: the server's rules, and room for the server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from kit.store import on_sqlite, receipt
from receiptd.message import Message
from receiptd.store.database.engine import open_engine
from receiptd.store.database.errors import StoreError
from receiptd.store.database.write_turns import LARGEST, LONG, SMALLEST, WriteTurns
from receiptd.store.matching import Policy
from receiptd.store.registry import Registry

POLICIES = {"soap": Policy(), "cdyne": Policy(region="US")}
REGIONS = {"csoft": None, "cdyne": "US"}


def several(count: int, start: int = 0) -> list[Message]:
    return [
        Message("csoft", f"M{number}", f"4477{number:08}")
        for number in range(start, start + count)
    ]


@pytest.fixture
def registry(engine: Engine) -> Registry:
    return Registry(engine, POLICIES, REGIONS)


def test_what_is_registered_outside_is_matched_by_the_server(store, registry):
    assert store.outcomes(receipt("early")) == ["accepted"]
    assert registry.register([Message("csoft", "M1", "+44 7700 912345")]) == ["registered"]
    assert store.outcomes(receipt("m1"), receipt("other")) == ["accepted", "unknown-message"]
    assert store.message().state == "DELIVERED"


def test_numbers_are_read_as_the_server_reads_them(store, registry):
    registry.register([Message("cdyne", "M1", "757-237-3369")])
    sent = receipt("M1", provider="cdyne", endpoint="cdyne", recipient="+1 757 237 3369")
    assert store.outcomes(sent) == ["accepted"]


def test_receipts_that_came_before_are_adopted_and_counted(store, registry):
    store.register(Message("csoft", "other"))
    store.outcomes(receipt("M1", recipient="447700000001"), receipt("M2", recipient="1"))
    registry.register([Message("csoft", "M1", "447700000001"), Message("csoft", "M2")])
    assert registry.adopted == 2
    assert [row.verdict for row in store.receipts()] == ["accepted"] * 2
    assert [row.state for row in store.messages()] == ["ENROUTE", "DELIVERED", "DELIVERED"]


def test_registering_again_says_what_changed(store, registry):
    first = Message("csoft", "M1", "1", reference="a")
    assert registry.register([first, first, first._replace(reference="b")]) == [
        "registered",
        "unchanged",
        "updated",
    ]
    assert registry.register([first, first._replace(message_id=" m1 ", parts=2)]) == [
        "updated",
        "updated",
    ]
    row = store.message()
    assert (row.message_id, row.reference, row.parts) == ("M1", "a", 2)


def test_many_are_registered_in_transactions_of_bounded_size(engine, registry):
    sizes: list[int] = []

    @event.listens_for(engine, "after_cursor_execute")
    def executed(_connection, _cursor, statement, parameters, _context, many):
        if statement.startswith("INSERT INTO messages"):
            sizes.append(len(parameters) if many else 1)

    assert registry.register(several(1700)) == ["registered"] * 1700
    assert sum(sizes) == 1700
    assert max(sizes) <= LARGEST
    assert registry.register(several(1700)) == ["unchanged"] * 1700


def test_registering_while_a_writer_stores_keeps_the_rules(engine, store):
    """The writer's receipts are about messages that are registered before, after, or at the
    very moment: in the end each belongs to its message."""
    engine_of_another = open_engine(engine.url.render_as_string(hide_password=False))
    registry = Registry(engine_of_another, POLICIES, REGIONS)
    messages = several(3000)
    failed: list[BaseException] = []

    def register() -> None:
        try:
            registry.register(messages)
        except BaseException as error:  # told in the test's own thread
            failed.append(error)

    thread = threading.Thread(target=register)
    thread.start()
    for start in range(0, 3000, 50):
        some = messages[start : start + 50] if start % 100 else messages[-start - 50 :][:50]
        for each in store.put(*([receipt(m.message_id, recipient=m.recipient)] for m in some)):
            assert not isinstance(each, Exception)
    thread.join(60)
    engine_of_another.dispose()
    assert not failed
    by_id = {row.id: row for row in store.messages()}
    stored = store.receipts()
    assert len(by_id) == 3000
    for row in stored:
        assert row.verdict == "accepted"
        message = by_id[row.message_ref]
        assert (message.message_key, message.state) == (row.message_key, "DELIVERED")
    assert sum(row.final for row in by_id.values()) == len(stored)


@on_sqlite
def test_no_statement_visits_a_whole_table(engine, store, registry):
    """SQLite's planner takes a long list of keys for a reason to read everything."""
    registry.register(several(500))
    store.put([receipt(each.message_id, recipient=each.recipient) for each in several(500)])
    store.put([receipt(each.message_id, recipient=each.recipient) for each in several(500, 9000)])
    executed: list[tuple[str, object]] = []

    @event.listens_for(engine, "before_cursor_execute")
    def remember(_connection, _cursor, statement, parameters, _context, many):
        if not statement.startswith("BEGIN"):
            executed.append((statement, parameters[0] if many else parameters))

    registry.register(several(500, 8750))
    store.put([receipt(each.message_id, code="1") for each in several(100)])
    assert registry.adopted == 250
    assert len(executed) > 5
    with engine.connect() as connection:
        for statement, parameters in list(executed):
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            steps = [step.detail for step in plan]
            assert not [
                step for step in steps if step.startswith(("SCAN messages", "SCAN receipts"))
            ], statement


# --- WriteTurns


class Clock:
    """A time that passes as told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


def test_others_get_the_database_for_their_share_of_the_time(engine):
    clock = Clock()
    rests: list[float] = []
    turns = WriteTurns(engine, share=0.2, rest=rests.append, clock=clock)
    for _ in range(2):
        turns.take(lambda _: clock.pass_by(0.5))
    assert rests == [pytest.approx(2.0)]
    clock.pass_by(60)
    turns.take(lambda _: None)
    assert len(rests) == 1, "nobody has to be let in where time has passed anyway"


def test_what_takes_long_is_done_in_smaller_pieces(engine):
    clock = Clock()
    turns = WriteTurns(engine, rest=lambda _: None, clock=clock)
    assert turns.batch == LARGEST
    for _ in range(9):
        turns.take(lambda _: clock.pass_by(2 * LONG))
    assert turns.batch == SMALLEST
    for _ in range(9):
        turns.take(lambda _: clock.pass_by(LONG / 10))
    assert turns.batch == LARGEST


@contextmanager
def locked(engine: Engine) -> Iterator[None]:
    """Another process's transaction."""
    other = open_engine(engine.url.render_as_string(hide_password=False))
    with other.begin():
        yield
    other.dispose()


@pytest.fixture
def impatient(engine: Engine) -> Engine:
    """The database, by connections that hardly wait for others."""
    engine.dispose()

    @event.listens_for(engine, "connect")
    def no_wait(connection: Any, _record: object) -> None:
        if engine.dialect.name == "sqlite":
            connection.execute("PRAGMA busy_timeout = 1")
        else:
            connection.execute("SET statement_timeout = '20ms'")
            connection.commit()

    return engine


def test_a_locked_database_is_waited_for(impatient):
    refused: SimpleQueue[object] = SimpleQueue()
    event.listen(impatient, "handle_error", refused.put)
    done: list[str] = []
    thread = threading.Thread(
        target=lambda: done.append(WriteTurns(impatient).take(lambda _: "done"))
    )
    with locked(impatient):
        thread.start()
        for _ in range(3):
            refused.get(timeout=20)
        assert done == []
    thread.join(20)
    assert done == ["done"]


def test_a_database_that_stays_locked_is_an_error_that_says_what_to_do(impatient):
    turns = WriteTurns(impatient, patience=0.02)
    with locked(impatient), pytest.raises(StoreError, match=r"locked for 0 s\. Is a transaction"):
        turns.take(lambda _: None)


def test_work_that_fails_is_not_done_again_and_leaves_nothing(engine, store):
    def work(connection: Connection) -> None:
        at = datetime.now(UTC)
        registry = Registry(engine, POLICIES, REGIONS)
        registry._matching.register(connection, several(1), at, REGIONS)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        WriteTurns(engine).take(work)
    assert store.messages() == []


# --- Deleting


def test_a_deleted_message_is_gone_and_its_receipts_stay_as_they_were(store, registry):
    store.register(
        Message("csoft", "M1", "1"), Message("csoft", "M1", "2"), Message("csoft", "M2")
    )
    store.outcomes(receipt("M1", recipient="1"), receipt("M1", recipient="3"), receipt("M2"))

    assert registry.delete("csoft", " m1 ") == 2
    assert [row.message_id for row in store.messages()] == ["M2"]
    kept = store.receipts()
    assert [row.verdict for row in kept] == ["accepted", "wrong-recipient", "accepted"]
    assert [row.message_ref is None for row in kept] == [True, True, False]


@pytest.mark.parametrize("name", [("csoft", "M2"), ("seeme", "M1"), ("csoft", "")])
def test_deleting_what_is_not_registered_changes_nothing(store, registry, name):
    store.register(Message("csoft", "M1"))
    assert registry.delete(*name) == 0
    assert len(store.messages()) == 1


def test_deleting_a_providers_last_message_turns_its_checks_off_in_a_running_server(
    store, registry
):
    store.register(Message("csoft", "M1"), Message("csoft", "M2"))
    assert store.outcomes(receipt("other")) == ["unknown-message"]
    registry.delete("csoft", "M1")
    assert store.outcomes(receipt("another")) == ["unknown-message"]
    registry.delete("csoft", "M2")
    assert store.outcomes(receipt("A"), receipt("B")) == ["accepted", "accepted"]
    registry.register([Message("csoft", "M3")])
    assert store.outcomes(receipt("C")) == ["unknown-message"]


def test_a_message_that_is_registered_again_adopts_what_the_deleted_one_had(store, registry):
    store.register(Message("csoft", "M1"))
    store.outcomes(receipt("M1"))
    registry.delete("csoft", "M1")
    registry.register([Message("csoft", "M1")])
    assert store.message().state == "DELIVERED"
