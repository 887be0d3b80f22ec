"""The group-commit writer on a real database file."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import event

from kit.server import wait_until
from kit.soap import envelope
from kit.store import AT, on_sqlite, receipt, rejection
from receiptd.config import Config
from receiptd.receipt import Kind, Outcome, State
from receiptd.store.matching import Policy
from receiptd.store.queries import RejectionFilter
from receiptd.store.recorder import Recorder
from receiptd.store.rejections import count_rejected
from receiptd.store.rows import receipt_json
from receiptd.store.writer import Quota, Submission


def test_a_receipt_is_stored_as_it_is(store):
    full = receipt(
        " Mixed Case ",
        state=State.REJECTED,
        code="8",
        description="Blacklisted number",
        recipient="+44 (7700) 912345",
        sender="ACME",
        reference="order 17",
        part=2,
        parts=3,
        price=Decimal("0.0450"),
        network="23415",
        text="Grüße\n",
        extra={"a": "1", "b": ["2", "3"]},
        linked_id="Other ID",
        raw=b"\x00\xff<raw/>",
    )
    assert store.outcomes(full) == ["accepted"]

    (row,) = store.receipts()
    assert row.message_key == "mixed case"
    assert row.recipient_key == "447700912345"
    assert row.linked_key == "other id"
    assert row.raw == b"\x00\xff<raw/>"
    assert abs(row.received_at - datetime.now(UTC)) < timedelta(minutes=1)
    shown = receipt_json(row._mapping)
    assert shown | {"received_at": None, "raw": None} == {
        "id": 1,
        "received_at": None,
        "endpoint": "soap",
        "provider": "csoft",
        "kind": "delivery",
        "message_id": " Mixed Case ",
        "state": "REJECTED",
        "code": "8",
        "description": "Blacklisted number",
        "recipient": "+44 (7700) 912345",
        "sender": "ACME",
        "reference": "order 17",
        "reported_at": "2009-06-09T10:52:00Z",
        "part": 2,
        "parts": 3,
        "price": "0.0450",
        "network": "23415",
        "text": "Grüße\n",
        "extra": {"a": "1", "b": ["2", "3"]},
        "raw": None,
        "unread": [],
        "verdict": "accepted",
        "repeats": 0,
    }


def test_what_waits_is_stored_in_one_transaction(store):
    commits = []
    event.listen(store.engine, "commit", lambda connection: commits.append(connection))
    results = store.put(*([receipt(f"M{number}")] for number in range(100)))
    assert len(results) == 100
    assert len(commits) == 1


def test_what_comes_during_a_commit_waits_for_the_next_and_shares_it(open_store):
    entered, release = threading.Event(), threading.Event()
    store = open_store()

    def hold(connection):
        entered.set()
        assert release.wait(20)

    event.listen(store.engine, "commit", hold, once=True)
    store.writer.put([Submission(None, [receipt("first")])])
    assert entered.wait(20)
    for number in range(10):
        store.writer.put([Submission(None, [receipt(f"later {number}")])])
    release.set()
    assert len(store.transactions.get(timeout=20)) == 1
    assert len(store.transactions.get(timeout=20)) == 10


def test_nobody_is_answered_before_the_commit(open_store):
    entered, release = threading.Event(), threading.Event()
    store = open_store()

    def hold(connection):
        entered.set()
        assert release.wait(20)

    event.listen(store.engine, "commit", hold, once=True)
    store.writer.put([Submission(None, [receipt()])])
    assert entered.wait(20)
    assert store.transactions.empty()
    release.set()
    assert store.transactions.get(timeout=20)
    assert len(store.receipts()) == 1


# --- Duplicates

NOTHING = receipt(
    None,
    code=None,
    recipient=None,
    part=None,
    provider="easysms",
    kind=Kind.SENT,
)


@pytest.mark.parametrize("first", [receipt(), NOTHING, receipt(part=1), receipt(code=None)])
def test_the_same_receipt_is_stored_once_and_counted(store, first):
    assert store.outcomes(first) == ["accepted"]
    assert (
        store.outcomes(first, first._replace(raw=b"other", description="other"))
        == ["duplicate"] * 2
    )
    assert store.outcomes(first) == ["duplicate"]
    (row,) = store.receipts()
    assert row.repeats == 3
    assert row.raw == b"raw", "the first one stays as it was"


def test_the_same_receipt_twice_in_one_transaction(store):
    assert store.outcomes(receipt("A"), receipt("B"), receipt("A"), receipt("a ")) == [
        "accepted",
        "accepted",
        "duplicate",
        "duplicate",
    ]
    assert [row.repeats for row in store.receipts()] == [2, 0]


def test_a_duplicate_is_answered_by_the_stored_ones_verdict(store):
    store.outcomes(receipt())
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE receipts SET verdict = 'unknown-message'")
    (((verdict,),),) = (store.put([receipt()]),)
    assert verdict.outcome is Outcome.DUPLICATE
    assert verdict.standing is Outcome.UNKNOWN_MESSAGE
    assert verdict.mismatch


@pytest.mark.parametrize(
    "other",
    [
        {"message_id": "4A2E3C11"},
        {"message_id": None},
        {"provider": "cdyne"},
        {"kind": Kind.SENT},
        {"recipient": "447700912346"},
        {"recipient": None},
        {"code": "1"},
        {"code": None},
        {"reported_at": AT + timedelta(microseconds=1)},
        {"reported_at": None},
        {"part": 1},
    ],
)
def test_what_differs_in_any_of_these_is_another_receipt(store, other):
    assert store.outcomes(receipt(), receipt()._replace(**other)) == ["accepted"] * 2
    assert len(store.receipts()) == 2


def test_a_call_differs_by_all_its_fields(store):
    call = receipt(kind=Kind.CALL, extra={"Duration": "34", "confirm": "1"})
    reordered = call._replace(extra={"confirm": "1", "Duration": "34"})
    other = call._replace(extra={"Duration": "35", "confirm": "1"})
    assert store.outcomes(call, other, reordered) == ["accepted", "accepted", "duplicate"]


def test_duplicates_are_found_after_a_restart(open_store):
    open_store().outcomes(receipt())
    assert open_store().outcomes(receipt()) == ["duplicate"]


def test_two_writers_on_one_file_store_a_receipt_once(open_store):
    stores = [open_store() for _ in range(3)]
    same = [receipt(f"M{number}") for number in range(200)]
    threads = [
        threading.Thread(target=lambda store=store: [store.outcomes(each) for each in same])
        for store in stores
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    rows = stores[0].receipts()
    assert len(rows) == 200
    assert {row.repeats for row in rows} == {2}


# --- What cannot be stored


def test_a_row_that_the_database_refuses_fails_alone(store):
    bad = receipt("bad", part=2**70)
    results = store.put([receipt("A")], [bad], rejection(), [receipt("B"), receipt("C")])
    assert [isinstance(result, Exception) for result in results] == [False, True, False, False]
    assert [row.message_id for row in store.receipts()] == ["A", "B", "C"]
    kept, nonsense = sorted(store.rejected(), key=len, reverse=True)
    assert kept.startswith("the database refuses the receipt: ")
    assert nonsense == "nonsense"


def test_the_receipts_of_one_post_are_stored_together_or_not_at_all(store):
    (result,) = store.put([receipt("A"), receipt("bad", part=2**70)])
    assert isinstance(result, Exception)
    assert store.receipts() == []


def test_stopping_stores_what_was_put_before(open_store):
    store = open_store()
    for number in range(50):
        store.writer.put([Submission(None, [receipt(f"M{number}")])])
    store.writer.stop()
    assert len(store.receipts()) == 50


# --- Rejected posts


def test_rejected_posts_have_a_quota_by_count_for_each_endpoint_and_reason(open_store):
    store = open_store(quota=Quota(invalid=3, unreadable=2, days=30))
    for number in range(10):
        for endpoint in ("soap", "cdyne"):
            for reason in ("invalid", "unauthorized", "unreadable"):
                store.put(
                    rejection(f"{endpoint} {reason} {number}", endpoint=endpoint, reason=reason)
                )
    assert sorted(store.rejected()) == sorted(
        f"{endpoint} {reason} {number}"
        for endpoint in ("soap", "cdyne")
        for reason, kept in (("invalid", 3), ("unauthorized", 2), ("unreadable", 2))
        for number in range(10 - kept, 10)
    )


def test_rejected_posts_have_a_quota_by_bytes_for_each_endpoint_and_reason(open_store):
    store = open_store(quota=Quota(invalid=1000, unreadable=1000, days=30, size=6400))
    for number in range(10):
        for endpoint in ("soap", "cdyne"):
            size = 1000 if endpoint == "soap" else 10
            store.put(rejection(f"{endpoint} {number}", endpoint=endpoint, raw=b"x" * size))
    assert store.rejected() == [
        f"{endpoint} {number}"
        for number in range(10)
        for endpoint in ("soap", "cdyne")
        if endpoint == "cdyne" or number >= 3
    ]


def test_the_newest_rejected_post_is_kept_however_large_it_is(open_store):
    store = open_store(quota=Quota(invalid=1000, unreadable=1000, days=30, size=64))
    for number in range(3):
        store.put(rejection(f"post {number}", raw=b"x" * 1000))
    assert store.rejected() == ["post 2"]


@on_sqlite
def test_an_hour_of_a_mistyped_pin_at_ten_posts_a_second_is_kept(engine):
    store = Config().store
    recorder = Recorder(
        engine,
        policies={"soap": Policy()},
        quota=Quota(
            store.rejected_count, store.unreadable_count, store.rejected_days, store.rejected_size
        ),
    )
    body = envelope("4A2E3C10", Text="x" * 700)  # a third more than the vendor's posts have
    post = rejection(reason="unauthorized", raw=body)
    for _ in range(72):
        with engine.begin() as connection:
            batch = [Submission(None, rejection=post)] * 500
            recorder.record(connection, batch, [post.received_at] * 500)
    with engine.connect() as connection:
        assert count_rejected(connection, RejectionFilter())[0] == 36_000


def test_rejected_posts_have_a_quota_by_age(open_store):
    store = open_store(quota=Quota(invalid=1000, unreadable=100, days=30))
    now = datetime.now(UTC)
    store.put(
        rejection("old", received_at=now - timedelta(days=31)),
        rejection("young", received_at=now - timedelta(days=29)),
    )
    assert store.rejected() == ["young"]


def test_the_writer_ends(open_store):
    store = open_store()
    store.writer.stop()
    wait_until(lambda: not store.writer.running, "the writer's thread ends")


@pytest.mark.parametrize(
    "at", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)], ids=["1", "9999"]
)
def test_the_first_and_the_last_time_there_is_can_be_stored_and_read(store, at):
    assert store.outcomes(receipt(reported_at=at), receipt(reported_at=at)) == [
        "accepted",
        "duplicate",
    ]
    assert [row.reported_at for row in store.receipts()] == [at]
