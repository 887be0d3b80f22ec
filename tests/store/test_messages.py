"""Reading registered messages: filters, pages, one message with its timeline, their indexes."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import event

from kit.store import AT, START, Clock, on_sqlite, receipt
from receiptd.message import Message
from receiptd.receipt import Kind, State
from receiptd.store import messages, paging
from receiptd.store.messages import (
    MessageFilter,
    each_message,
    message_json,
    message_with_receipts,
    messages_page,
)

LATER = AT + timedelta(minutes=5)


@pytest.fixture
def some(open_store, engine):
    """Three messages, registered an hour apart, of which one is delivered."""
    store = open_store(now=Clock())
    for one in (
        Message("csoft", "A1", "447700912345", "ACME", "order 1"),
        Message("csoft", "b2", "+44 7700 900001"),
        Message("cdyne", "c3", "757-237-3369"),
    ):
        store.register(one)
    store.outcomes(receipt("a1"))
    return engine


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ["c3", "b2", "A1"]),
        ({"provider": ["csoft"]}, ["b2", "A1"]),
        ({"state": ["DELIVERED"]}, ["A1"]),
        ({"state": ["DELIVERED", "ENROUTE"]}, ["c3", "b2", "A1"]),
        ({"final": True}, ["A1"]),
        ({"final": False}, ["c3", "b2"]),
        ({"final": False, "until": START + timedelta(hours=3)}, ["b2"]),
        ({"final": False, "message_id": "a1"}, []),
        ({"recipient": "00447700900001"}, ["b2"]),
        ({"recipient": "+1 757 237 3369"}, ["c3"]),
        ({"recipient": "7572373369", "regions": [None, "US"]}, ["c3"]),
        ({"reference": "order 1"}, ["A1"]),
        ({"message_id": " a1 "}, ["A1"]),
        ({"message_id": "none"}, []),
        ({"message_id": "a\0"}, []),
        ({"since": START + timedelta(hours=2)}, ["c3", "b2"]),
        ({"until": START + timedelta(hours=2)}, ["A1"]),
    ],
)
def test_a_filter_finds_what_fits(some, wanted, expected):
    rows = each_message(some, MessageFilter(**wanted))
    assert [row["message_id"] for row in rows] == expected


def test_only_a_filter_that_asks_for_less_than_all_is_narrow():
    assert not MessageFilter(regions=[None, "US"]).narrow
    assert MessageFilter(final=False).narrow


def test_pages_neither_skip_nor_repeat_while_messages_are_registered(store, engine):
    store.register(*(Message("csoft", f"m{number}") for number in range(7)))
    seen, before = [], None
    while True:
        with engine.connect() as connection:
            page = messages_page(connection, MessageFilter(), limit=3, before_id=before)
        if not page:
            break
        seen += [row["message_id"] for row in page]
        before = page[-1]["id"]
        store.register(Message("csoft", f"late{before}"))
    assert seen == [f"m{number}" for number in reversed(range(7))]


def test_each_message_stops_at_its_limit(store, engine):
    store.register(*(Message("csoft", f"m{number}") for number in range(7)))
    rows = each_message(engine, MessageFilter(), 3)
    assert [row["message_id"] for row in rows] == ["m6", "m5", "m4"]
    assert list(each_message(engine, MessageFilter(), 0)) == []


def test_a_message_is_shown_by_the_keys_that_are_used_everywhere(some):
    (row,) = each_message(some, MessageFilter(message_id="A1"))
    assert message_json(row) == {
        "provider": "csoft",
        "message_id": "A1",
        "recipient": "447700912345",
        "sender": "ACME",
        "reference": "order 1",
        "parts": None,
        "delivered": 1,
        "state": "DELIVERED",
        "final": True,
        "state_at": "2009-06-09T10:52:00Z",
        "price": None,
        "sent_at": None,
        "gave_up_at": None,
        "registered_at": "2026-01-01T01:00:00Z",
    }


def shown(engine, message_id, provider="csoft"):
    with engine.connect() as connection:
        return message_with_receipts(connection, provider, message_id)


def test_a_message_comes_with_its_timeline(store, engine):
    """What was matched with it, and what was not though it names the identifier: oldest first."""
    store.outcomes(receipt("A1", state=State.ENROUTE, code="1"))
    store.register(Message("csoft", "A1", "447700912345"))
    assert store.outcomes(
        receipt("a1"),
        receipt("A1", recipient="447700900001"),
        receipt("R", kind=Kind.REPLY, sender="447700912345", linked_id="A1", text="thanks"),
        receipt("A2"),
        receipt("A1", provider="cdyne", endpoint="cdyne"),
    ) == ["accepted", "wrong-recipient", "accepted", "unknown-message", "accepted"]

    message = shown(engine, " a1")

    assert message["state"] == "DELIVERED"
    assert "recipients" not in message
    assert message["receipts_complete"]
    assert [
        (each["message_id"], each["kind"], each["state"], each["verdict"])
        for each in message["receipts"]
    ] == [
        ("A1", "delivery", "ENROUTE", "accepted"),
        ("a1", "delivery", "DELIVERED", "accepted"),
        ("A1", "delivery", "DELIVERED", "wrong-recipient"),
        ("R", "reply", "DELIVERED", "accepted"),
    ]


def test_a_message_that_is_not_registered_is_none(store, engine):
    store.register(Message("csoft", "A1"))
    store.outcomes(receipt("B2"))
    assert shown(engine, "B2") is None
    assert shown(engine, "A1", "cdyne") is None
    assert shown(engine, "A\0") is None


def test_several_recipients_are_summed_up_as_parts_are(store, engine):
    store.register(
        Message("csoft", "A1", "447700900001", "ACME", "one", 2),
        Message("csoft", "A1", "447700900002", "ACME", "two"),
    )
    store.outcomes(
        receipt("A1", recipient="447700900001", part=1, price=Decimal("0.10")),
        receipt("A1", recipient="447700900002", reported_at=LATER, price=Decimal("0.25")),
    )

    message = shown(engine, "A1")

    assert {key: message[key] for key in message if key not in ("recipients", "receipts")} == {
        "provider": "csoft",
        "message_id": "A1",
        "recipient": None,
        "sender": "ACME",
        "reference": None,
        "parts": 3,
        "delivered": 2,
        "state": "ENROUTE",
        "final": False,
        "state_at": "2009-06-09T10:57:00Z",
        "price": "0.35",
        "sent_at": None,
        "gave_up_at": None,
        "registered_at": message["recipients"][0]["registered_at"],
        "receipts_complete": True,
    }
    assert [
        (each["recipient"], each["reference"], each["parts"], each["delivered"], each["final"])
        for each in message["recipients"]
    ] == [("447700900001", "one", 2, 1, False), ("447700900002", "two", None, 1, True)]

    store.outcomes(receipt("A1", recipient="447700900001", part=2, state=State.EXPIRED))
    message = shown(engine, "A1")
    assert (message["state"], message["final"]) == ("EXPIRED", True)
    assert [each["state"] for each in message["recipients"]] == ["EXPIRED", "DELIVERED"]


def test_of_a_long_timeline_the_newest_are_shown(store, engine, monkeypatch):
    monkeypatch.setattr(messages, "LONGEST_TIMELINE", 3)
    store.register(Message("csoft", "A1"))
    store.outcomes(*(receipt("A1", code=str(number)) for number in range(5)))
    message = shown(engine, "A1")
    assert [each["code"] for each in message["receipts"]] == ["2", "3", "4"]
    assert not message["receipts_complete"]

    monkeypatch.setattr(messages, "LONGEST_TIMELINE", 5)
    monkeypatch.setattr(messages, "PIECE", 2)
    assert shown(engine, "A1")["receipts_complete"]
    monkeypatch.setattr(messages, "LARGEST_PAGE", len(b"raw"))
    message = shown(engine, "A1")
    assert [each["code"] for each in message["receipts"]] == ["3", "4"]
    assert not message["receipts_complete"]


@pytest.fixture
def plans(engine):
    """What SQLite does for each statement that reads messages or receipts."""
    found = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(connection, _cursor, statement, parameters, *_):
        if statement.startswith("SELECT messages.id") or statement.startswith("SELECT receipts."):
            plan = connection.connection.cursor().execute(
                f"EXPLAIN QUERY PLAN {statement}", parameters
            )
            found.append(" / ".join(row[3] for row in plan))

    return found


@on_sqlite
def test_a_message_is_found_by_indexes(store, engine, plans):
    store.register(Message("csoft", "A1"))
    plans.clear()
    shown(engine, "A1")
    of_messages, of_receipts = plans
    assert "messages_once" in of_messages
    for index in ("receipts_of_message", "receipts_by_message", "receipts_by_link"):
        assert f"USING INDEX {index} " in of_receipts or f"COVERING INDEX {index}" in of_receipts
    assert "SCAN receipts" not in of_receipts


@on_sqlite
def test_an_identifier_is_looked_up_once_by_its_index(store, engine, plans):
    store.register(Message("csoft", "A1"))
    plans.clear()
    list(each_message(engine, MessageFilter(message_id="A1")))
    of_ids, of_rows = plans
    assert "COVERING INDEX messages_once" in of_ids
    assert "INTEGER PRIMARY KEY (rowid=?)" in of_rows


PENDING = {
    "all": {},
    "old ones": {"until": AT},
    "of a state": {"state": ["ENROUTE"]},
    "of a provider": {"provider": ["csoft"]},
}


@pytest.mark.parametrize("further", PENDING.values(), ids=PENDING)
@pytest.mark.parametrize("before_id", [None, 1500], ids=["first page", "further page"])
def test_a_page_of_pending_messages_goes_along_their_index(engine, further, before_id):
    """In the order of the ids, so that nothing is sorted: else each page would cost as much as
    there are such messages."""
    with engine.begin() as connection:
        connection.execute(
            messages.messages.insert(),
            [
                {
                    "registered_at": AT + timedelta(seconds=number),
                    "provider": "csoft",
                    "message_id": f"m{number}",
                    "message_key": f"M{number}",
                    "recipient_key": str(number),
                    "state": "ENROUTE",
                    "final": number % 20 > 0,
                    "delivered": 0,
                }
                for number in range(2000)
            ],
        )
    with engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")
    statements = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, parameters, *_):
        statements.append((statement, parameters))

    explain = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN"
    with engine.connect() as connection:
        wanted = MessageFilter(final=False, **further)
        messages_page(connection, wanted, limit=20, before_id=before_id)
        statement, parameters = statements[-1]
        plan = connection.exec_driver_sql(f"{explain} {statement}", parameters)
        steps = "\n".join(str(row[-1]) for row in plan)
    assert "messages_unfinished" in steps
    assert "ORDER BY" not in steps
    assert "Sort" not in steps


@pytest.mark.parametrize("further", [{}, {"final": False}, {"state": ["ENROUTE"]}])
def test_the_messages_of_a_number_are_found_by_their_index(engine, further):
    pending = {"state": "ENROUTE", "final": False, "delivered": 0, "provider": "csoft"}
    rows = [
        {
            "registered_at": AT,
            "message_id": f"m{number}",
            "message_key": f"m{number}",
            "recipient_key": str(number % 2000),
            **pending,
        }
        for number in range(20_000)
    ]
    with engine.begin() as connection:
        connection.execute(messages.messages.insert(), rows)
    with engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")
    statements = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, parameters, *_):
        statements.append((statement, parameters))

    wanted = MessageFilter(recipient="1234", **further)
    found = [row["message_id"] for row in each_message(engine, wanted)]
    assert found == [f"m{number}" for number in range(19234, 0, -2000)]
    sqlite = engine.dialect.name == "sqlite"
    of_ids, of_rows = [each for each in statements if "recipient_key" in each[0]]
    with engine.connect() as connection:
        for (statement, parameters), index in (
            (of_ids, "messages_by_recipient"),
            (of_rows, "PRIMARY KEY" if sqlite else "messages_pkey"),
        ):
            explain = "EXPLAIN QUERY PLAN" if sqlite else "EXPLAIN"
            plan = connection.exec_driver_sql(f"{explain} {statement}", parameters)
            assert index in "\n".join(str(row[-1]) for row in plan)


@pytest.mark.parametrize("size", [1, 3, 500])
def test_pages_of_one_identifier_hold_each_recipient_once(store, engine, monkeypatch, size):
    store.register(*(Message("csoft", "A1", f"4477009000{number}") for number in range(10, 17)))
    store.register(Message("csoft", "B1"))
    found, before = [], None
    while True:
        page = paging.page(
            engine, messages.MESSAGES, MessageFilter(message_id="a1"), limit=size, before_id=before
        )
        found += [row["recipient"] for row in page.rows]
        before = page.next_id
        if before is None:
            break
    assert found == [f"4477009000{number}" for number in range(16, 9, -1)]
