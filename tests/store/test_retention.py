"""Retention: what is old goes, what is not stays, and nobody waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Event

import pytest
from sqlalchemy import Engine, event

from kit.store import Store, on_sqlite, receipt, rejection
from receiptd.message import Message
from receiptd.receipt import Kind, State
from receiptd.store.database.write_turns import LARGEST
from receiptd.store.retention import PEEK, Elsewhere, Pruned, Pruning
from receiptd.store.writer import Quota

TODAY = datetime(2026, 6, 30, 12, tzinfo=UTC)
LONG_AGO = TODAY - timedelta(days=200)
LIMIT = TODAY - timedelta(days=180)


class Calendar:
    """The writer's clock."""

    def __init__(self) -> None:
        self.at = LONG_AGO

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture
def store(open_store: Callable[..., Store], calendar: Calendar) -> Store:
    """A writer that lives long ago, until the calendar is turned."""
    return open_store(now=calendar, quota=Quota(1000, 100, 100_000))


def prune(store: Store, **options) -> Pruned:
    return Pruning(store.engine, LIMIT, **options).run()


def message(message_id: str, recipient: str | None = "447700912345") -> Message:
    return Message("csoft", message_id, recipient)


def left(store: Store) -> tuple[list[str], list[str]]:
    """The identifiers of the receipts and of the messages that are there."""
    return (
        [row.message_id for row in store.receipts()],
        [row.message_id for row in store.messages()],
    )


def test_old_receipts_go_and_newer_ones_stay(store, calendar):
    store.outcomes(receipt("old"), receipt("call", kind=Kind.CALL))
    calendar.at = LIMIT - timedelta(microseconds=1)
    store.outcomes(receipt("just too old"))
    calendar.at = LIMIT
    store.outcomes(receipt("just kept"), receipt("kept", reported_at=LONG_AGO))
    assert prune(store) == Pruned(receipts=3)
    assert left(store)[0] == ["just kept", "kept"]
    assert prune(store) == Pruned()


def test_old_names_of_backup_routes_go(store):
    store.outcomes(receipt("A", linked_id="B", backup=True, reported_at=LONG_AGO))
    store.outcomes(receipt("C", linked_id="D", backup=True, reported_at=TODAY))
    prune(store)
    with store.engine.connect() as connection:
        names = connection.exec_driver_sql("SELECT alias_key FROM aliases").scalars().all()
    assert names == ["d"]


def test_old_rejected_posts_go(store):
    store.put(rejection("old", received_at=LONG_AGO))
    store.put(rejection("new", received_at=TODAY, reason="unauthorized"))
    assert prune(store) == Pruned(rejected_posts=1)
    assert store.rejected() == ["new"]


def test_a_finished_message_goes_with_its_last_receipt(store, calendar):
    store.register(*map(message, ("done", "pending", "answered", "several parts")))
    store.outcomes(
        receipt("done"),
        receipt("pending", state=State.ENROUTE),
        receipt("answered"),
        receipt("several parts", part=1, parts=2),
    )
    calendar.at = TODAY
    store.register(message("new"))
    store.outcomes(
        receipt("new"),
        receipt("R", kind=Kind.REPLY, linked_id="answered", sender="447700912345"),
    )
    assert prune(store) == Pruned(receipts=4, messages=1)
    assert left(store) == (["new", "R"], ["pending", "answered", "several parts", "new"])
    states = {row.message_id: (row.state, row.final) for row in store.messages()}
    assert states["pending"] == ("ENROUTE", False)
    assert states["answered"] == ("DELIVERED", True), "the state outlives the receipts"

    assert store.outcomes(receipt("several parts", part=2)) == ["accepted"]
    assert store.messages()[2].state == "DELIVERED", "and goes on from where it was"


def test_a_message_without_a_final_state_goes_where_that_is_asked_for(store, calendar):
    store.register(*map(message, ("done", "lost", "on its way", "stuck")))
    store.outcomes(
        receipt("done"),
        receipt("on its way", state=State.ENROUTE),
        receipt("stuck", state=State.ENROUTE),
    )
    calendar.at = TODAY
    store.register(message("new"))
    store.outcomes(receipt("stuck", state=State.ENROUTE, code="9"))
    told = prune(store, unfinished=True, dry_run=True)
    assert told == prune(store, unfinished=True) == Pruned(receipts=3, messages=3)
    # One of which there still is a receipt has not been given up.
    assert left(store) == (["stuck"], ["stuck", "new"])


def test_each_recipient_is_a_message_of_its_own(store):
    store.register(message("A", "1"), message("A", "2"))
    store.outcomes(receipt("A", recipient="1"))
    assert prune(store) == Pruned(receipts=1, messages=1)
    assert [row.recipient for row in store.messages()] == ["2"]


def test_matching_stays_on_when_all_is_gone(store, open_store):
    store.register(message("done"))
    store.outcomes(receipt("done"))
    assert prune(store) == Pruned(receipts=1, messages=1)
    assert store.outcomes(receipt("unknown")) == ["unknown-message"]
    assert open_store().outcomes(receipt("unknown too")) == ["unknown-message"]


def test_a_receipt_for_a_message_that_is_gone_can_still_come(store):
    store.register(message("done"))
    store.outcomes(receipt("done"))
    prune(store)
    assert store.outcomes(receipt("done", code="5")) == ["unknown-message"]
    assert store.register(message("done")) == ["registered"]
    assert [row.verdict for row in store.receipts()] == ["accepted"]


def test_a_dry_run_tells_the_same_and_deletes_nothing(store, calendar):
    store.register(*map(message, ("done", "pending", "answered")))
    store.outcomes(*(receipt(f"old{number}") for number in range(700)))
    store.outcomes(receipt("done"), receipt("answered"))
    store.put(rejection(received_at=LONG_AGO))
    calendar.at = TODAY
    store.outcomes(receipt("answered", code="1"))
    before = left(store)
    told = prune(store, dry_run=True)
    assert left(store) == before
    assert told == prune(store) == Pruned(receipts=702, rejected_posts=1, messages=1)


def fill(store: Store, count: int) -> None:
    for first in range(0, count, 500):
        names = [f"m{number}" for number in range(first, min(first + 500, count))]
        store.register(*map(message, names))
        store.put(*([receipt(name)] for name in names))


def test_it_is_done_in_small_transactions(store):
    fill(store, 1700)
    deleted: list[int] = []

    @event.listens_for(store.engine, "after_cursor_execute")
    def executed(_connection, cursor, statement, _parameters, _context, _many):
        if statement.startswith("DELETE"):
            deleted.append(cursor.rowcount)

    assert prune(store) == Pruned(receipts=1700, messages=1700)
    assert sum(deleted) == 3400
    assert max(deleted) <= LARGEST


def test_it_stops_when_told_to_and_keeps_what_it_has_done(store):
    fill(store, 3 * PEEK)
    stop = Event()
    pruning = Pruning(store.engine, LIMIT, stop=stop)
    pruning.run(lambda table, done, ids: stop.set())
    assert pruning.pruned == Pruned(receipts=PEEK)
    assert len(store.receipts()) == 2 * PEEK
    assert prune(store) == Pruned(receipts=2 * PEEK, messages=3 * PEEK)


def test_it_tells_how_far_it_is(store):
    fill(store, PEEK + 1)
    told: list[tuple[str, int, int]] = []
    Pruning(store.engine, LIMIT).run(lambda *far: told.append(far))
    assert [each for each in told if each[0] == "receipts"] == [
        ("receipts", PEEK, PEEK + 1),
        ("receipts", PEEK + 1, PEEK + 1),
    ]
    assert {each[0] for each in told} == {"receipts", "messages"}


@pytest.mark.parametrize("ahead", [PEEK, 5 * PEEK])
def test_times_of_a_clock_that_was_wrong_keep_nothing_behind_them(store, calendar, ahead):
    calendar.at = TODAY + timedelta(days=999)
    store.put(*([receipt(f"future{number}")] for number in range(ahead)))
    calendar.at = LONG_AGO
    store.put(*([receipt(f"old{number}")] for number in range(ahead)))
    assert prune(store) == Pruned(receipts=ahead)
    assert all(row.message_id.startswith("future") for row in store.receipts())


def test_there_is_one_run_at_a_time(store):
    fill(store, 600)
    refused: list[str] = []

    def meanwhile(*_: object) -> None:
        with pytest.raises(Elsewhere, match="another process deletes what is old already"):
            prune(store)
        refused.append("once")
        assert prune(store, dry_run=True) is not None

    Pruning(store.engine, LIMIT).run(meanwhile)
    assert refused
    assert prune(store) == Pruned()


@on_sqlite
def test_what_is_new_is_not_gone_through(store, calendar):
    """An hourly run must not read a database of millions to find nothing."""
    calendar.at = TODAY
    fill(store, 12 * PEEK)
    statements = 0

    @event.listens_for(Engine, "after_cursor_execute")
    def executed(*_):
        nonlocal statements
        statements += 1

    try:
        assert prune(store) == Pruned()
    finally:
        event.remove(Engine, "after_cursor_execute", executed)
    assert statements < 40


@on_sqlite
def test_a_messages_receipts_are_looked_up_by_their_index(store):
    with store.engine.connect() as connection:
        plan = connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN DELETE FROM messages WHERE id BETWEEN 1 AND 500 AND final "
            "AND NOT EXISTS (SELECT * FROM receipts WHERE message_ref = messages.id)"
        ).all()
    assert "receipts_of_message" in str(plan)


def test_a_writer_goes_on_meanwhile_and_loses_nothing(store, calendar):
    fill(store, 6000)
    calendar.at = TODAY
    done: list[Pruned] = []
    thread = threading.Thread(target=lambda: done.append(prune(store)))
    thread.start()
    names = []
    while thread.is_alive():
        names.append(f"new{len(names)}")
        assert store.outcomes(receipt(names[-1])) == ["unknown-message"]
    thread.join()
    assert done == [Pruned(receipts=6000, messages=6000)]
    assert names
    assert left(store) == (names, [])
