"""Reading the store: filters, pages, look-ups by message, and the indexes they use."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import event

from kit.store import AT, START, Clock, count_on, on_sqlite, receipt, rejection
from receiptd.receipt import Kind, State
from receiptd.store import indexed, paging
from receiptd.store.matching import Policy
from receiptd.store.paging import PAGE
from receiptd.store.queries import (
    RECEIPTS,
    ReceiptFilter,
    RejectionFilter,
    each_receipt,
    each_rejection,
    receipts_page,
    rejections_page,
)
from receiptd.store.schema import BUCKET_BITS, receipts, rejected_posts


def found(engine, **wanted):
    """The message identifiers of the receipts that fit, newest first."""
    return [row["message_id"] for row in each_receipt(engine, ReceiptFilter(**wanted))]


@pytest.fixture
def some(open_store, engine):
    """Four receipts, an hour apart, that differ in everything there is a filter for."""
    store = open_store(now=Clock())
    for one in (
        receipt("A1", reference="order 1"),
        receipt("b2", state=State.EXPIRED, code="27", recipient="+44 7700 900 001"),
        receipt(
            "c3",
            endpoint="cdyne",
            provider="cdyne",
            kind=Kind.REPLY,
            state=State.UNKNOWN,
            recipient="757-237-3369",
            linked_id="A1",
        ),
        receipt("d4", endpoint="cdyne", provider="cdyne", kind=Kind.SENT, state=State.ENROUTE),
    ):
        store.outcomes(one)
    return engine


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ["d4", "c3", "b2", "A1"]),
        ({"provider": ["cdyne"]}, ["d4", "c3"]),
        ({"endpoint": ["soap"]}, ["b2", "A1"]),
        ({"kind": ["reply", "sent"]}, ["d4", "c3"]),
        ({"state": ["EXPIRED"]}, ["b2"]),
        ({"state": ["EXPIRED", "DELIVERED"]}, ["b2", "A1"]),
        ({"verdict": ["unknown-message"]}, []),
        ({"verdict": ["accepted"], "kind": ["sent"]}, ["d4"]),
        ({"recipient": "00447700900001"}, ["b2"]),
        ({"recipient": "7572373369"}, []),
        ({"recipient": "7572373369", "regions": [None, "US"]}, ["c3"]),
        ({"recipient": "+1 757 237 3369"}, ["c3"]),
        ({"reference": "order 1"}, ["A1"]),
        ({"message_id": " a1 "}, ["c3", "A1"]),
        ({"message_id": "B2"}, ["b2"]),
        ({"message_id": "A1", "kind": ["reply"]}, ["c3"]),
        ({"message_id": "none"}, []),
        ({"message_id": ""}, []),
        ({"name": "2"}, ["b2"]),
        ({"name": "D4"}, ["d4"]),
        ({"name": "99999999999999999999"}, []),
        ({"since": START + timedelta(hours=3)}, ["d4", "c3"]),
        ({"until": START + timedelta(hours=3)}, ["b2", "A1"]),
        ({"since": START + timedelta(hours=2), "until": START + timedelta(hours=3)}, ["b2"]),
        ({"message_id": "a\0"}, []),
        ({"provider": ["\ud800"]}, []),
    ],
)
def test_a_filter_finds_what_fits(some, wanted, expected):
    assert found(some, **wanted) == expected


def test_a_number_that_is_an_identifier_too_finds_both(open_store, engine):
    store = open_store()
    store.outcomes(receipt("7"), receipt("2"))
    assert found(engine, name="2") == ["2"]
    store.outcomes(*(receipt(f"x{number}") for number in range(5)))
    assert found(engine, name="7") == ["x4", "7"]


def test_only_a_filter_that_asks_for_less_than_all_is_narrow():
    assert not ReceiptFilter(regions=[None, "US"]).narrow
    assert ReceiptFilter(regions=[None, "US"], state=["EXPIRED"]).narrow
    assert not RejectionFilter().narrow
    assert RejectionFilter(number=1).narrow


def test_pages_neither_skip_nor_repeat_while_receipts_arrive(open_store, engine):
    store = open_store()
    store.outcomes(*(receipt(f"m{number}") for number in range(10)))
    seen, before = [], None
    while True:
        with engine.connect() as connection:
            page = receipts_page(connection, ReceiptFilter(), limit=3, before_id=before)
        if not page:
            break
        seen += [row["message_id"] for row in page]
        before = page[-1]["id"]
        store.outcomes(receipt(f"late{before}"))
    assert seen == [f"m{number}" for number in reversed(range(10))]


def test_pages_go_forward_as_well(open_store, engine):
    store = open_store()
    store.outcomes(*(receipt(f"m{number}") for number in range(5)))
    with engine.connect() as connection:
        page = receipts_page(connection, ReceiptFilter(), limit=2, after_id=2, oldest_first=True)
    assert [row["message_id"] for row in page] == ["m2", "m3"]


@pytest.mark.parametrize("limit", [None, 1, PAGE - 1, PAGE, PAGE + 1, 5 * PAGE])
@pytest.mark.parametrize("oldest_first", [False, True])
def test_all_are_read_across_pages(many, limit, oldest_first):
    rows = each_receipt(many, ReceiptFilter(), limit=limit, oldest_first=oldest_first)
    numbers = range(1, 2 * PAGE + 4)
    expected = list(numbers if oldest_first else reversed(numbers))
    assert [row["id"] for row in rows] == expected[:limit]


@pytest.fixture
def many(open_store, engine):
    """Two pages of receipts, and three more."""
    store = open_store()
    store.outcomes(*(receipt(f"m{number}") for number in range(2 * PAGE + 3)))
    return engine


def test_rejected_posts_are_read_alike(open_store, engine):
    store = open_store()
    for one in (
        rejection("first"),
        rejection("second", reason="unauthorized", endpoint="cdyne", provider="cdyne"),
        rejection("third"),
    ):
        store.put(one)

    def texts(**wanted):
        return [row["text"] for row in each_rejection(engine, RejectionFilter(**wanted))]

    assert texts() == ["third", "second", "first"]
    assert texts(reason=["unauthorized"]) == ["second"]
    assert texts(endpoint=["soap"]) == ["third", "first"]
    assert texts(provider=["cdyne"]) == ["second"]
    assert texts(number=1) == ["first"]
    assert texts(number=10**30) == []
    assert texts(until=AT) == []
    with engine.connect() as connection:
        (row,) = rejections_page(connection, RejectionFilter(), limit=1, before_id=3)
    assert row["text"] == "second"


@on_sqlite
@pytest.mark.parametrize(
    "wanted", [ReceiptFilter(message_id="M7"), ReceiptFilter(name="7", state=["DELIVERED"])]
)
def test_a_look_up_by_message_uses_the_indexes(many, wanted):
    statements = []

    @event.listens_for(many, "before_cursor_execute")
    def note(_connection, _cursor, statement, parameters, *_):
        statements.append((statement, parameters))

    with many.connect() as connection:
        assert receipts_page(connection, wanted, limit=20, before_id=10**6)
        statement, parameters = statements[-1]
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        steps = "\n".join(row.detail for row in plan)
    assert "receipts_by_message (<expr>=? AND message_key=?)" in steps
    assert "receipts_by_link (<expr>=? AND linked_key=?)" in steps
    assert "SCAN" not in steps


def test_a_look_up_by_message_finds_it_in_every_bucket(open_store, engine):
    store = open_store()
    store.outcomes(receipt("m"))
    for bucket in (1, 5):
        count_on(engine, (bucket << BUCKET_BITS) - 1)  # as if a bucket were full
        store.outcomes(receipt("m", recipient=f"44770090000{bucket}"))
    rows = each_receipt(engine, ReceiptFilter(message_id="M"), oldest_first=True)
    assert [row["id"] >> BUCKET_BITS for row in rows] == [0, 1, 5]


@pytest.mark.parametrize(
    "further", [{}, {"state": ["DELIVERED"], "since": AT}], ids=["all", "some"]
)
@pytest.mark.parametrize("oldest_first", [False, True])
def test_a_look_up_by_number_uses_the_index(engine, further, oldest_first):
    rows = [values(number, recipient_key=str(number % 2000)) for number in range(20_000)]
    with engine.begin() as connection:
        connection.execute(receipts.insert(), rows)
    with engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")
    statements = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, parameters, *_):
        statements.append((statement, parameters))

    wanted = ReceiptFilter(recipient="1234", **further)
    found = list(each_receipt(engine, wanted, oldest_first=oldest_first))
    assert len(found) == 10
    explain = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN"
    of_ids, of_rows = [each for each in statements if "recipient_key" in each[0]]
    with engine.connect() as connection:
        for (statement, parameters), index in (
            (of_ids, "receipts_by_recipient"),
            (of_rows, "PRIMARY KEY" if engine.dialect.name == "sqlite" else "receipts_pkey"),
        ):
            plan = connection.exec_driver_sql(f"{explain} {statement}", parameters)
            steps = "\n".join(str(row[-1]) for row in plan)
            assert index in steps
            assert "SCAN receipts" not in steps
            assert "Seq Scan on receipts" not in steps


def values(number, **others):
    """A row of `receipts`, written without the writer where there are to be thousands."""
    return {
        "received_at": AT + timedelta(seconds=number),
        "endpoint": "soap",
        "provider": "csoft",
        "kind": "delivery",
        "message_id": f"n{number}",
        "message_key": f"n{number}",
        "state": "DELIVERED",
        "extra": "{}",
        "raw": b"",
        "verdict": "accepted",
        "variant": "",
        **others,
    }


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("oldest_first", [False, True])
def test_receipts_of_a_number_are_read_bucket_by_bucket(engine, size, oldest_first):
    numbers = sorted(
        {
            max((bucket << BUCKET_BITS) + offset, 1)
            for bucket in (0, 1, 2, 5, 9, 30)
            for offset in (-1, 0, 1, 77)
        }
    )
    with engine.begin() as connection:
        connection.execute(
            receipts.insert(),
            [values(n, id=n, recipient_key=key) for n in numbers for key in [str(4410 + n % 2)]],
        )
    wanted = ReceiptFilter(recipient="4411")
    expected = [number for number in numbers if number % 2]
    got, reached = [], None
    for piece in paging.pieces(engine, RECEIPTS, wanted, size=size, oldest_first=oldest_first):
        assert len(piece.rows) <= size
        got += [row["id"] for row in piece.rows]
        if reached is not None:
            assert (piece.reached > reached) is oldest_first
        reached = piece.reached
        passed = [n for n in expected if (n <= reached if oldest_first else n >= reached)]
        assert sorted(got) == passed
    assert not piece.more
    assert got == (expected if oldest_first else expected[::-1])
    # From within a bucket on.
    got, before = [], None
    while True:
        found = paging.page(engine, RECEIPTS, wanted, limit=size, before_id=before)
        got += [row["id"] for row in found.rows]
        before = found.next_id
        if before is None:
            break
    assert got == expected[::-1]
    with engine.connect() as connection:
        rows = receipts_page(connection, wanted, limit=3, before_id=expected[-1])
    assert [row["id"] for row in rows] == expected[-2:-5:-1]


def test_many_large_posts_of_a_number_come_in_several_pieces(engine, monkeypatch):
    monkeypatch.setattr(indexed, "LARGEST_PIECE", 2500)
    rows = [values(n, id=n, recipient_key="4411", raw=b"x" * 1000) for n in range(1, 8)]
    with engine.begin() as connection:
        connection.execute(receipts.insert(), rows)
    wanted = ReceiptFilter(recipient="4411")
    found = list(paging.pieces(engine, RECEIPTS, wanted, size=500))
    assert [[row["id"] for row in piece.rows] for piece in found] == [[7, 6, 5], [4, 3, 2], [1]]
    assert [(piece.reached, piece.more) for piece in found] == [(5, True), (2, True), (1, False)]


def test_reading_all_keeps_no_transaction_open(many):
    before = many.pool.checkedout()
    rows = each_receipt(many, ReceiptFilter())
    next(rows)
    assert many.pool.checkedout() == before


def test_an_empty_store_has_nothing_by_any_look_up(engine):
    for wanted in (ReceiptFilter(), ReceiptFilter(message_id="m"), ReceiptFilter(name="1")):
        assert list(each_receipt(engine, wanted)) == []


# Pages that end in time, and searches that have no index


def joined(pages):
    """The ids of all pages."""
    return [number for page in pages for number in page]


def read_all(engine, limit, **wanted):
    """The pages: for each its ids."""
    found, before = [], None
    while True:
        got = paging.page(engine, RECEIPTS, ReceiptFilter(**wanted), limit=limit, before_id=before)
        found.append([row["id"] for row in got.rows])
        if got.next_id is None:
            return found
        before = got.next_id


def test_a_page_knows_whether_another_follows(open_store, engine):
    store = open_store()
    states = [State.DELIVERED, State.EXPIRED, State.ENROUTE]
    store.outcomes(*(receipt(f"m{number}", state=states[number % 3]) for number in range(9)))
    assert read_all(engine, 9) == [[9, 8, 7, 6, 5, 4, 3, 2, 1]]
    assert read_all(engine, 4) == [[9, 8, 7, 6], [5, 4, 3, 2], [1]]
    assert read_all(engine, 3, state=["EXPIRED"]) == [[8, 5, 2]]
    assert read_all(engine, 2, state=["EXPIRED"]) == [[8, 5], [2]]
    assert read_all(engine, 2, state=["DELETED"]) == [[]]


def test_pages_are_put_together_of_pieces(many, monkeypatch):
    monkeypatch.setattr(paging, "PIECE", 7)
    monkeypatch.setattr(paging, "_STRETCH", 10)
    last = 2 * PAGE + 3
    pages = read_all(many, 100)
    assert [len(each) for each in pages] == [100] * 10 + [3]
    assert joined(pages) == list(range(last, 0, -1))


@pytest.mark.parametrize("oldest_first", [False, True])
def test_a_search_without_an_index_goes_through_stretches_of_ids(many, monkeypatch, oldest_first):
    monkeypatch.setattr(paging, "_STRETCH", 10)
    wanted = ReceiptFilter(reference="none")
    found = list(paging.pieces(many, RECEIPTS, wanted, size=100, oldest_first=oldest_first))
    assert 1 < len(found) < 12, "each stretch is twice the one before"
    assert not any(piece.rows for piece in found)
    reached = [piece.reached for piece in found]
    assert reached == sorted(reached, reverse=not oldest_first)
    assert reached[-1] == (2 * PAGE + 3 if oldest_first else 1)
    assert [piece.more for piece in found] == [True] * (len(found) - 1) + [False]


def test_a_page_ends_in_time_and_goes_on_where_it_ended(many, monkeypatch):
    monkeypatch.setattr(paging, "SECONDS", 0.0)
    monkeypatch.setattr(paging, "_STRETCH", 10)
    pages = read_all(many, 100, endpoint=["soap"])
    assert len(pages[0]) == 10
    assert joined(pages) == list(range(2 * PAGE + 3, 0, -1))


def test_a_page_of_large_posts_is_shorter(open_store, engine, monkeypatch):
    monkeypatch.setattr(paging, "PIECE", 10)
    monkeypatch.setattr(paging, "LARGEST_PAGE", 15_000)
    store = open_store()
    store.outcomes(*(receipt(f"m{number}", raw=b"x" * 1000) for number in range(50)))
    pages = read_all(engine, 50)
    assert [len(each) for each in pages] == [20, 20, 10]
    assert joined(pages) == list(range(50, 0, -1))


def test_what_comes_while_a_list_is_read_is_not_in_it(open_store, engine):
    store = open_store()
    store.outcomes(*(receipt(f"m{number}") for number in range(PAGE + 1)))
    rows = each_receipt(engine, ReceiptFilter(), oldest_first=True)
    next(rows)
    store.outcomes(receipt("late"))
    assert [row["message_id"] for row in rows][-1] == f"m{PAGE}"


@on_sqlite
def test_mismatches_are_found_by_their_index(open_store, engine):
    store = open_store(policies={"soap": Policy("always"), "cdyne": Policy("never")})
    store.outcomes(receipt("m1"), receipt("m2", endpoint="cdyne", provider="cdyne"))
    plans = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(connection, _cursor, statement, parameters, *_):
        plan = connection.connection.cursor().execute(
            f"EXPLAIN QUERY PLAN {statement}", parameters
        )
        plans.append(" ".join(row[3] for row in plan))

    assert found(engine, verdict=["unknown-message", "wrong-recipient"]) == ["m1"]
    assert "USING INDEX receipts_mismatched" in plans[-1]
    assert found(engine, verdict=["unknown-message", "accepted"]) == ["m2", "m1"]


def test_one_row_is_found_by_its_number(open_store, engine):
    open_store().outcomes(receipt("m1"))
    row = paging.one_row(engine, receipts, 1)
    assert row is not None
    assert row["message_id"] == "m1"
    assert paging.one_row(engine, receipts, 10**30) is None
    assert paging.newest_id(engine, receipts) == 1
    assert paging.newest_id(engine, rejected_posts) == 0
