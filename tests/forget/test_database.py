"""After a person is forgotten, no table holds their number, and others' rows are as they were."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select

from kit.store import Store, new_engine, on_sqlite, receipt, rejection
from receiptd.forget.database import Forgetting, Forgotten
from receiptd.forget.person import Person
from receiptd.forget.pseudonyms import Pseudonyms
from receiptd.forget.rows import Whom
from receiptd.forward.filters import Filter
from receiptd.message import Message
from receiptd.receipt import Kind
from receiptd.store import event_reader
from receiptd.store.database.engine import sqlite_file
from receiptd.store.event_tables import forward_destinations, forward_parked, forward_replays
from receiptd.store.schema import metadata
from receiptd.store.spool.folder import Spool

NUMBER = "447700900123"
OTHER = "447700900124"
TRACES = ("7700900123", "7700 900 123", "7700-900-123", "call me maybe tomorrow")
BATCH = b'[{"to":"+44 7700 900 123","m":"call me maybe tomorrow"},{"to":"+447700900124"}]'
PERSON = Person("+44 7700 900123", (None, "GB"))
PSEUDONYMS = Pseudonyms(b"k" * 32)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A new database, migrated."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'receipts.db'}"
    else:
        url = request.getfixturevalue("new_postgresql_database")(migrated=True)
    engine = new_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine, tmp_path: Path) -> Iterator[Store]:
    """A writer on a database that knows the person and others."""
    store = Store(engine, spool=Spool(tmp_path / "spool"))
    fill(store)
    yield store
    store.writer.stop()


def fill(store: Store) -> None:
    """Store something of the person in every place where a number can stand, and of others."""
    store.register(
        Message("csoft", "A", NUMBER, "ACME", "order 1"),
        Message("csoft", "A", OTHER, "ACME", "order 2"),
        Message("csoft", "B", "+44 7700 900123"),
        Message("csoft", "R", OTHER, NUMBER, f"for {NUMBER}"),
        Message("csoft", "O", OTHER),
    )
    store.outcomes(
        receipt("A", recipient="+447700900123", raw=b"To=%2B44%207700%20900123"),
        receipt("A", recipient=OTHER, raw=b"To=447700900124"),
        receipt("B", recipient=None, raw=b"no number"),
        receipt("C", recipient=NUMBER, linked_id="D", backup=True),
        receipt("O", recipient=OTHER, raw=b"Other=447700900123&To=447700900124"),
        receipt(
            "E",
            recipient=OTHER,
            text="ask 07700 900 123",
            extra={"cc": ["+44-7700-900-123", "x"], "n": "1"},
            reference=NUMBER,
            description="to 447700900123",
            sender=NUMBER,
        ),
        receipt("reply", recipient=OTHER, sender="+447700900123", kind=Kind.REPLY, text="yes"),
        receipt("F", recipient=OTHER, sender="447700900125", raw=b"\xff\x00whatever"),
        receipt(f"{NUMBER}-17", recipient=OTHER),
    )
    store.put(
        [
            receipt("S1", recipient="+44 7700 900 123", raw=BATCH, text="call me maybe tomorrow"),
            receipt("S2", recipient=OTHER, raw=BATCH, text="STOP"),
        ],
        [receipt("P1", recipient=NUMBER, raw=b"own"), receipt("P2", recipient=NUMBER, raw=b"own")],
        [
            receipt("Q1", recipient=OTHER, raw=b"others"),
            receipt("Q2", recipient=OTHER, raw=b"others"),
        ],
        rejection("bad", raw=f"<To>{NUMBER}</To>".encode("utf-16")),
        rejection("0044 7700 900123 is bad"),
        rejection("fine", raw=b"447700900124"),
    )
    park(store)


def park(store: Store) -> None:
    """Have each receipt's event be a dead letter of a destination."""
    now = datetime.now(UTC)
    with store.engine.begin() as connection:
        events = connection.execute(select(metadata.tables["events"])).all()
        connection.execute(
            insert(forward_destinations).values(
                **dict.fromkeys(("lease", "sent", "orders", "seeks", "lease_until"), 0),
                name="app",
                position=len(events),
                paused=False,
                breaker_open=False,
                last_error="HTTP 500: 447700900123 unknown",
            )
        )
        for event in events:
            connection.execute(
                insert(forward_parked).values(
                    destination="app",
                    event_id=event.id,
                    status="dead",
                    holds=False,
                    lanes="[]",
                    receipt_id=event.receipt_id,
                    message_ref=event.message_ref,
                    failures=1,
                    attempts=1,
                    died_at=now,
                    error="HTTP 400",
                    answer="no 447700900123" if event.id % 2 else "447700900124?",
                )
            )
        connection.execute(
            insert(forward_replays).values(
                destination="app",
                created_at=now,
                wanted='{"message": "447700900123-17"}',
                position=0,
                until=0,
                rate=0,
                sent=0,
                failed=0,
                status="done",
            )
        )


def dump(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables."""
    with engine.connect() as connection:
        return {
            name: [
                dict(row)
                for row in connection.execute(
                    select(table).order_by(*table.primary_key)
                ).mappings()
            ]
            for name, table in metadata.tables.items()
        }


def traces(engine: Engine) -> list[tuple[str, str, Any]]:
    """Where the person still is."""
    return [
        (table, name, value)
        for table, rows in dump(engine).items()
        for row in rows
        for name, value in row.items()
        if any(trace in written(value) for trace in TRACES)
        or (isinstance(value, str | bytes) and PERSON.within(value))
    ]


def written(value: Any) -> str:
    return value.decode("latin-1").replace("\0", "") if isinstance(value, bytes) else str(value)


def forget(store: Store, **options: Any) -> Forgotten:
    whom = Whom(PERSON, pseudonyms=options.pop("pseudonyms", None))
    return Forgetting(store.engine, whom, **options).run()


def test_afterwards_no_table_holds_the_number(store):
    assert traces(store.engine)
    forget(store)
    assert traces(store.engine) == []


def test_what_is_about_others_is_as_it_was_byte_for_byte(store):
    before = dump(store.engine)
    forget(store)
    after = dump(store.engine)
    kept = {row["message_id"]: row for row in after["receipts"]}
    was = {row["message_id"]: row for row in before["receipts"] if row["recipient"] == OTHER}
    assert set(kept) == {"A", "O", "E", "F", "S2", "Q1", "Q2", "***-17"}
    for name in ("A", "F", "S2", "Q1", "Q2"):
        assert kept[name] == was[name]
    assert kept["O"] == was["O"] | {"raw": b"Other=***&To=447700900124"}
    assert kept["E"] == was["E"] | {
        "text": "ask ***",
        "extra": '{"cc": ["+***", "x"], "n": "1"}',
        "reference": "***",
        "description": "to ***",
        "sender": "***",
    }
    assert [(row["message_id"], row["recipient"]) for row in after["messages"]] == [
        ("A", OTHER),
        ("R", OTHER),
        ("O", OTHER),
    ]
    assert [row for row in after["messages"] if row["message_id"] != "R"] == [
        row
        for row in before["messages"]
        if row["message_id"] in "AO" and row["recipient"] == OTHER
    ]
    assert [row["text"] for row in after["rejected_posts"]] == ["fine"]
    assert sorted(row["raw"] for row in after["posts"]) == [
        b'[{"to":"+***","m":"***"},{"to":"+447700900124"}]',
        b"others",
    ]


def test_the_log_of_events_has_no_gap_and_tells_of_others_as_before(store):
    with store.engine.connect() as connection:
        before = event_reader.page(connection, 0, 1000)
    forget(store)
    with store.engine.connect() as connection:
        after = event_reader.page(connection, 0, 1000)
    assert [each.id for each in after] == [each.id for each in before]
    told = [each for each in after if Filter().fits(each)]
    assert told
    assert len(told) < len(after)
    was = {each.id: each for each in before}
    assert any(each == was[each.id] for each in told)
    # What is about the person is about nothing now, so no destination is told of it.
    gone = [each for each in before if each.receipt and each.receipt["recipient"] != OTHER]
    now = {each.id: each for each in after}
    assert gone
    assert all(not Filter().fits(now[each.id]) for each in gone)


def test_what_waits_about_the_person_goes_and_the_sender_is_told(store):
    forget(store)
    with store.engine.connect() as connection:
        events = {each.id: each for each in event_reader.page(connection, 0, 1000)}
        parked = connection.execute(select(forward_parked)).all()
        orders = connection.scalar(select(forward_destinations.c.orders))
    assert orders
    assert parked
    assert all(events[row.event_id].receipt or events[row.event_id].message for row in parked)
    assert {row.answer for row in parked} == {"no ***", "447700900124?"}


def test_nothing_refers_to_what_is_gone(store):
    forget(store)
    tables = dump(store.engine)
    messages = {row["id"] for row in tables["messages"]}
    assert {row["message_ref"] for row in tables["receipts"]} - {None} <= messages
    posts = {row["id"] for row in tables["posts"]}
    assert {row["post_id"] for row in tables["receipts"]} - {None} == posts


def test_a_backup_routes_name_of_the_persons_message_goes_and_others_stay(store):
    for name, recipient in (("Z", NUMBER), ("Y", OTHER)):
        store.register(Message("csoft", name, recipient))
        store.outcomes(receipt(name, recipient=recipient, linked_id=f"{name}2", backup=True))
    assert forget(store).aliases == 1
    names = [row["alias_key"] for row in dump(store.engine)["aliases"]]
    assert "y2" in names
    assert "z2" not in names


def test_a_dry_run_counts_what_a_run_forgets_and_changes_nothing(store):
    before = dump(store.engine)
    counted = forget(store, dry_run=True)
    assert dump(store.engine) == before
    done = forget(store)
    assert (counted.receipts, counted.messages, counted.rejected_posts) == (7, 2, 2)
    assert (done.receipts, done.messages, done.rejected_posts) == (7, 2, 2)
    assert counted.mentions == done.mentions == 4
    assert counted.waiting == done.waiting > 0


def test_a_second_run_finds_nothing(store):
    forget(store)
    before = dump(store.engine)
    assert forget(store) == Forgotten()
    assert dump(store.engine) == before


def test_a_run_that_was_stopped_is_done_again(store):
    whom = Whom(PERSON)
    for table in ("messages", "receipts", "posts", "rejected_posts"):
        stop = Event()

        def watch(name: str, done: int, ids: int, table: str = table, stop: Event = stop) -> None:
            if name == table:
                stop.set()

        Forgetting(store.engine, whom, stop=stop).run(watch)
    forget(store)
    assert traces(store.engine) == []
    assert {row["message_id"] for row in dump(store.engine)["receipts"]} == {
        *("A", "O", "E", "F", "S2", "Q1", "Q2", "***-17")
    }


def test_what_comes_later_is_stored_and_forgotten_by_another_run(store):
    forget(store)
    store.outcomes(receipt("B", recipient=NUMBER))
    assert traces(store.engine)
    assert forget(store).receipts == 1
    assert traces(store.engine) == []


def test_a_writer_goes_on_meanwhile(store):
    def watch(table: str, done: int, ids: int) -> None:
        store.outcomes(receipt(f"{table}{done}", recipient=OTHER))

    Forgetting(store.engine, Whom(PERSON)).run(watch)
    assert traces(store.engine) == []
    assert sum(row.message_id.startswith("receipts") for row in store.receipts()) >= 1


# --- Pseudonyms


def test_a_pseudonym_keeps_statistics_and_nothing_personal(store):
    before = dump(store.engine)
    forget(store, pseudonyms=PSEUDONYMS)
    assert traces(store.engine) == []
    after = dump(store.engine)
    assert len(after["receipts"]) == len(before["receipts"])
    assert len(after["messages"]) == len(before["messages"])
    assert len(after["forward_parked"]) == len(before["forward_parked"])
    pseudonym = PSEUDONYMS.of(NUMBER)
    mine = [row for row in after["receipts"] if row["recipient_key"] == pseudonym]
    assert [row["message_id"] for row in mine] == ["A", "C", "S1", "P1", "P2"]
    for row in mine:
        assert row["recipient"] == pseudonym
        assert (row["text"], row["raw"], row["extra"], row["post_id"]) == (None, b"", "{}", None)
    # The same number has the same pseudonym, however it was written.
    assert {row["recipient"] for row in after["messages"]} == {pseudonym, OTHER}
    states = [(row["message_id"], row["state"], row["price"]) for row in before["messages"]]
    assert states == [(row["message_id"], row["state"], row["price"]) for row in after["messages"]]


def test_a_second_pseudonymisation_is_of_what_came_since_and_a_repetition_goes(store):
    forget(store, pseudonyms=PSEUDONYMS)
    before = len(store.receipts())
    store.register(Message("csoft", "A", NUMBER))
    store.outcomes(
        receipt("A", recipient=NUMBER, raw=b"To=447700900123"), receipt("new", recipient=NUMBER)
    )
    assert len(store.receipts()) == before + 2
    forget(store, pseudonyms=PSEUDONYMS)
    assert traces(store.engine) == []
    assert len(store.receipts()) == before + 1
    tables = dump(store.engine)
    assert {row["message_ref"] for row in tables["receipts"]} - {None} <= {
        row["id"] for row in tables["messages"]
    }


def test_another_key_gives_other_pseudonyms():
    assert PSEUDONYMS.of(NUMBER) == PSEUDONYMS.of(NUMBER) != PSEUDONYMS.of(OTHER)
    assert Pseudonyms(b"j" * 32).of(NUMBER) != PSEUDONYMS.of(NUMBER)


# --- Senders


def test_a_reply_is_its_senders(store):
    forget(store)
    assert "reply" not in {row.message_id for row in store.receipts()}


def test_a_sender_alone_is_forgotten_as_a_sender(store):
    store.outcomes(receipt("to", recipient=NUMBER, sender=OTHER, raw=b"x"))
    Forgetting(store.engine, Whom(PERSON, recipient=False, sender=True)).run()
    rows = dump(store.engine)
    assert "E" not in {row["message_id"] for row in rows["receipts"]}
    assert not any(row["sender"] == NUMBER for row in rows["messages"])
    assert "to" in {row["message_id"] for row in rows["receipts"]}


# --- SQLite's files


@on_sqlite
def test_afterwards_sqlites_files_have_no_trace(store, engine):
    """Read by another process, since closing a file here would drop SQLite's locks."""
    file = sqlite_file(str(engine.url))
    assert file is not None
    assert found(file)
    forgetting = Forgetting(engine, Whom(PERSON))
    forgetting.run()
    assert forgetting.log_truncated
    assert found(file) == []


def found(file: Path) -> list[str]:
    command = ["grep", "-c", "-a", "-F", "7700900123", str(file), f"{file}-wal"]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.split()
    return [line for line in lines if not line.endswith(":0")]
