"""Posts that brought several receipts: stored once, and read with each of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, func, select

from kit.store import START, Store, on_sqlite, receipt, rejection
from receiptd.message import Message
from receiptd.receipt import Receipt
from receiptd.store import event_reader, forward_state
from receiptd.store.messages import message_with_receipts
from receiptd.store.paging import Page, one_row, page, pieces
from receiptd.store.posts import is_unused, whole
from receiptd.store.queries import RECEIPTS, ReceiptFilter, each_receipt, receipts_page
from receiptd.store.retention import PEEK, Pruned, Pruning
from receiptd.store.schema import posts, receipts

LARGE = Random(15).randbytes(52_000)
"""A post that no database can make smaller."""

ALL = ReceiptFilter()


def batch(count: int, raw: bytes = LARGE, prefix: str = "M", **fields: Any) -> list[Receipt]:
    """The receipts of one post."""
    return [receipt(f"{prefix}{number}", raw=raw, **fields) for number in range(count)]


def stored_posts(engine: Engine) -> list[bytes]:
    """The rows of posts, oldest first."""
    with engine.connect() as connection:
        return list(connection.scalars(select(posts.c.raw).order_by(posts.c.id)))


def assert_whole(engine: Engine) -> None:
    """That no post is without a receipt, and no receipt without its post."""
    with engine.connect() as connection:
        kept = set(connection.scalars(select(posts.c.id)))
        named = set(connection.scalars(select(receipts.c.post_id))) - {None}
    assert kept == named


def room(engine: Engine) -> int:
    """How many bytes the database has."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            return int(pages * connection.exec_driver_sql("PRAGMA page_size").scalar_one())
        found = connection.exec_driver_sql("SELECT pg_database_size(current_database())")
        return int(found.scalar_one())


# --- Stored once


def test_a_hundred_reports_of_one_post_write_it_once(engine, store):
    store.outcomes(*(receipt(f"before{number}", raw=LARGE) for number in range(3)))
    before = room(engine)
    store.put(batch(100))
    # Beside the post: 100 rows with their events, in two tables and six indexes.
    assert room(engine) - before < len(LARGE) + 300_000
    assert stored_posts(engine) == [LARGE]
    assert [row.raw for row in store.receipts()] == [LARGE] * 103
    before = room(engine)
    store.outcomes(*batch(100, prefix="alone"))
    assert room(engine) - before > 100 * len(LARGE), "the measure measures"


def test_a_receipt_that_came_alone_has_its_post_in_its_own_row(engine, store):
    store.put([receipt("A")], rejection(), [receipt("B", raw=b"B")])
    with engine.connect() as connection:
        rows = connection.execute(select(receipts.c.raw, receipts.c.post_id)).all()
    assert rows == [(b"raw", None), (b"B", None)]
    assert stored_posts(engine) == []


def test_receipts_of_one_request_whose_posts_differ_keep_each_its_own(engine, store):
    came = [b"x", b"y", b"x", b"z", b"y"]
    store.put([receipt(f"A{n}", raw=raw) for n, raw in enumerate(came)], batch(2, b"next"))
    assert [row.raw for row in store.receipts()] == [*came, b"next", b"next"]
    assert stored_posts(engine) == [b"x", b"y", b"next"]
    assert_whole(engine)


def test_a_batch_of_two_thousand_is_stored(engine, store):
    (verdicts,) = store.put(batch(2000))
    assert {verdict.outcome.value for verdict in verdicts} == {"accepted"}
    assert stored_posts(engine) == [LARGE]
    assert {row.post_id for row in store.receipts()} == {1}


# --- Read with each


def test_every_reader_gives_each_receipt_its_post(engine, store):
    store.register(Message("csoft", "M1", "447700912345"))
    store.put([receipt("alone", raw=b"alone")], batch(3))
    posted = [b"alone", LARGE, LARGE, LARGE]
    by_name = ReceiptFilter(message_id="M1")
    with engine.connect() as connection:
        assert [row["raw"] for row in receipts_page(connection, ALL, limit=9)] == posted[::-1]
        assert [row["raw"] for row in receipts_page(connection, by_name, limit=9)] == [LARGE]
        shown = message_with_receipts(connection, "csoft", "M1")
        told = event_reader.page(connection, 0, 9, raw=True)
        one = event_reader.by_number(connection, [1, 2], raw=True)
        assert event_reader.page(connection, 0, 9)[1].raw is None
    assert [row["raw"] for row in each_receipt(engine, ALL, oldest_first=True)] == posted
    assert [row["raw"] for row in each_receipt(engine, by_name)] == [LARGE]
    assert [row["raw"] for row in page(engine, RECEIPTS, ALL, limit=9).rows] == posted[::-1]
    assert [row["raw"] for row in page(engine, RECEIPTS, by_name, limit=9).rows] == [LARGE]
    assert [one_row(engine, receipts, number)["raw"] for number in range(1, 5)] == posted
    assert [each["raw"] for each in shown["receipts"]] == [LARGE.decode("latin-1")]
    assert [each.raw for each in told if each.type == "receipt.stored"] == posted
    assert [one[number].raw for number in (1, 2)] == posted[:2]


def test_pages_are_bounded_by_the_posts_that_they_show(engine, store):
    store.put(batch(60))
    sizes = [len(piece.rows) for piece in pieces(engine, RECEIPTS, ALL, size=100)]
    assert sizes == [21, 21, 18], "pieces of 1 MiB and the receipt beyond it"
    first = page(engine, RECEIPTS, ALL, limit=60)
    assert (len(first.rows), first.next_id) == (42, 19)
    assert isinstance(page(engine, RECEIPTS, ALL, limit=60, before_id=19), Page)


@on_sqlite
def test_a_list_reads_posts_by_their_ids_and_nothing_twice(engine, store):
    store.put(batch(2))
    statement = whole(receipts).order_by(receipts.c.id.desc()).limit(9)
    text = str(statement.compile(engine, compile_kwargs={"literal_binds": True}))
    with engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}").all()
    assert [row[3] for row in plan] == [
        "SCAN receipts",
        "CORRELATED SCALAR SUBQUERY 1",
        "SEARCH posts USING INTEGER PRIMARY KEY (rowid=?)",
    ]


# --- Repetitions, refusals, several writers


def outcomes(result: Any) -> list[str]:
    return [verdict.outcome.value for verdict in result]


def test_a_post_that_comes_again_is_not_stored_again(engine, store):
    store.put(batch(3, b"first"))
    (again,) = store.put(batch(3, b"second"))
    assert outcomes(again) == ["duplicate"] * 3
    assert stored_posts(engine) == [b"first"]
    first, second = store.put(batch(2, b"one", "N"), batch(2, b"two", "N"))
    assert outcomes([*first, *second]) == ["accepted"] * 2 + ["duplicate"] * 2
    assert stored_posts(engine) == [b"first", b"one"]
    assert_whole(engine)


def test_a_post_of_which_something_is_new_is_stored_for_that(engine, store):
    store.put(batch(3, b"first"))
    (result,) = store.put([*batch(3, b"second"), receipt("new", raw=b"second")])
    assert outcomes(result) == ["duplicate"] * 3 + ["accepted"]
    assert [row.raw for row in store.receipts()] == [b"first"] * 3 + [b"second"]
    assert stored_posts(engine) == [b"first", b"second"]
    assert_whole(engine)


def test_a_post_whose_receipts_the_database_refuses_leaves_nothing(engine, store):
    bad = [receipt("A"), receipt("bad", part=2**70)]
    good, refused, last = store.put(batch(2, b"good"), bad, batch(2, b"last", "N"))
    assert isinstance(refused, Exception)
    assert outcomes([*good, *last]) == ["accepted"] * 4
    assert stored_posts(engine) == [b"good", b"last"]
    assert_whole(engine)


def test_several_writers_give_each_post_to_its_own_receipts(engine, open_store):
    stores = [open_store() for _ in range(3)]

    def post(number: int) -> None:
        for count in range(20):
            raw = f"{number}/{count}".encode()
            stores[number].put(batch(3, raw, f"{number}/{count}/"))

    threads = [threading.Thread(target=post, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    rows = stores[0].receipts()
    assert len(rows) == 180
    assert all(row.message_id.startswith(f"{row.raw.decode()}/") for row in rows)
    assert len(stored_posts(engine)) == 60
    assert_whole(engine)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    transactions=st.lists(
        st.lists(
            st.lists(
                st.tuples(st.integers(0, 6), st.sampled_from([b"", b"a", b"b"])),
                min_size=1,
                max_size=4,
            ),
            min_size=1,
            max_size=3,
        ),
        min_size=1,
        max_size=3,
    )
)
def test_whatever_comes_together_each_keeps_the_post_that_it_came_with_first(
    engine, store, transactions
):
    with engine.begin() as connection:
        connection.execute(delete(receipts))
        connection.execute(delete(posts))
    first: dict[str, bytes] = {}
    for requests in transactions:
        store.put(
            *([receipt(str(name), raw=raw) for name, raw in request] for request in requests)
        )
        for name, raw in (each for request in requests for each in request):
            first.setdefault(str(name), raw)
    assert {row.message_id: row.raw for row in store.receipts()} == first
    assert_whole(engine)


# --- Retention

LIMIT = START + timedelta(days=180)


@pytest.fixture
def old_store(open_store: Callable[..., Store]) -> Store:
    """A writer in whose time all is old."""
    return open_store(now=lambda: START)


def test_a_post_goes_with_the_last_of_its_receipts(engine, old_store, open_store):
    old_store.put(batch(3, b"gone"), batch(2, b"gone too", "N"))
    open_store().put(batch(2, b"new", "O"))
    pruning = Pruning(engine, LIMIT, dry_run=True)
    assert pruning.run() == Pruned(receipts=5)
    assert len(stored_posts(engine)) == 3
    pruning = Pruning(engine, LIMIT)
    assert pruning.run() == Pruned(receipts=5)
    assert pruning.pruned.posts == 2
    assert stored_posts(engine) == [b"new"]
    assert_whole(engine)


def test_a_post_stays_as_long_as_one_of_its_receipts_does(engine, old_store):
    with engine.begin() as connection:
        forward_state.register(connection, ["app"])
    old_store.put(batch(3, b"post"))

    def told(position: int) -> Pruned:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE forward_destinations SET position = {position}")
        return Pruning(engine, LIMIT).run()

    assert told(2) == Pruned(receipts=2)
    assert [row.raw for row in old_store.receipts()] == [b"post"]
    assert told(3) == Pruned(receipts=1)
    assert stored_posts(engine) == []


def test_posts_go_in_small_transactions_and_all_of_them(engine, old_store):
    count = PEEK + 200
    for begin in range(0, count, 100):
        old_store.put(*(batch(2, b"%d" % each, f"{each}/") for each in range(begin, begin + 100)))
    assert len(stored_posts(engine)) == count
    pruning = Pruning(engine, LIMIT)
    assert pruning.run() == Pruned(receipts=2 * count)
    assert pruning.pruned.posts == count
    assert stored_posts(engine) == []


def test_the_number_of_a_post_that_is_gone_misleads_nobody(engine, old_store, open_store):
    old_store.put(batch(2, b"old"))
    Pruning(engine, LIMIT).run()
    open_store().put(batch(2, b"new", "N"))
    assert [row.raw for row in old_store.receipts()] == [b"new"] * 2
    assert_whole(engine)


@on_sqlite
def test_whether_a_post_is_used_is_looked_up_by_the_index_of_times(engine):
    statement = select(func.count()).select_from(posts).where(is_unused())
    text = str(statement.compile(engine, compile_kwargs={"literal_binds": True}))
    with engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}").all()
    assert "SEARCH receipts USING INDEX receipts_by_time (received_at=?)" in str(plan)


def test_a_writer_that_posts_while_old_posts_go_loses_nothing(engine, old_store, open_store):
    for begin in range(0, 600, 100):
        old_store.put(*(batch(2, b"old", f"{each}/") for each in range(begin, begin + 100)))
    writer = open_store()
    thread = threading.Thread(target=Pruning(engine, LIMIT).run)
    thread.start()
    names: list[str] = []
    while thread.is_alive() or not names:
        names.append(f"new{len(names)}/")
        writer.put(batch(2, names[-1].encode(), names[-1]))
    thread.join()
    assert [raw.decode() for raw in stored_posts(engine)] == names
    assert_whole(engine)
