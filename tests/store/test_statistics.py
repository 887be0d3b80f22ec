"""Statistics agree with what is stored, exactly, whatever happens."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select, text

from kit.statistics import agree
from kit.store import START, Clock, receipt, rejection
from receiptd.message import Message
from receiptd.receipt import Kind, State
from receiptd.store.database.engine import open_engine
from receiptd.store.delivery_times import bucket, middle, percentile
from receiptd.store.giving_up import GivingUp
from receiptd.store.matching import Policy
from receiptd.store.networks import OTHER, derived
from receiptd.store.recorder import Quota, Recorder, Submission
from receiptd.store.registry import Registry
from receiptd.store.retention import Pruning
from receiptd.store.statistics_fill import FillIn
from receiptd.store.statistics_labels import MOST_LABELS
from receiptd.store.statistics_queries import StatisticsFilter, fill, statistics
from receiptd.store.statistics_tables import (
    statistics_fill,
)

POLICIES = {"soap": Policy(), "cdyne": Policy(region="US")}
REGIONS = {"csoft": None, "cdyne": "US"}
EVER = {"since": START - timedelta(days=40000), "until": START + timedelta(days=40000)}


# --- the property -------------------------------------------------------------------------------

IDENTIFIERS = st.sampled_from(["A1", "A2", "A3"])
NUMBERS = st.sampled_from(["447700900111", "447911123456", "12425550101", "999"])
LATER = st.integers(0, 3 * 3600)


def moment(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds)


A_RECEIPT = st.builds(
    receipt,
    IDENTIFIERS,
    endpoint=st.sampled_from(["soap", "cdyne"]),
    kind=st.sampled_from([Kind.DELIVERY, Kind.DELIVERY, Kind.SENT, Kind.REPLY]),
    state=st.sampled_from(list(State)),
    code=st.sampled_from(["0", "7", None]),
    network=st.sampled_from([None, None, "23410", "23415"]),
    recipient=NUMBERS,
    sender=NUMBERS,
    reported_at=st.one_of(st.none(), LATER.map(moment)),
    linked_id=st.sampled_from([None, None, "A2", "B1"]),
    backup=st.booleans(),
    parts=st.sampled_from([None, None, 2]),
    part=st.sampled_from([None, None, 1, 2]),
    last_try=st.sampled_from([None, None, None, 1]),
)
A_MESSAGE = st.builds(
    Message,
    st.just("csoft"),
    IDENTIFIERS,
    st.one_of(st.none(), NUMBERS),
    sender=st.none(),
    reference=st.none(),
    parts=st.sampled_from([None, None, 2]),
    sent_at=st.one_of(st.none(), LATER.map(moment)),
)
A_SUBMISSION = st.one_of(
    st.builds(lambda some: Submission(None, some), st.lists(A_RECEIPT, min_size=1, max_size=3)),
    st.builds(
        lambda some: Submission(None, messages=some), st.lists(A_MESSAGE, min_size=1, max_size=3)
    ),
    st.builds(
        lambda reason, seconds: Submission(
            None, rejection=rejection(reason=reason, received_at=moment(seconds))
        ),
        st.sampled_from(["invalid", "unreadable"]),
        LATER,
    ),
)
A_STEP = st.one_of(
    st.tuples(
        st.sampled_from(["store", "store", "store", "roll back", "store twice"]),
        st.integers(0, 1),
        st.lists(A_SUBMISSION, min_size=1, max_size=4),
    ),
    st.tuples(st.just("delete"), IDENTIFIERS, st.one_of(st.none(), NUMBERS)),
    st.tuples(st.just("give up"), LATER, st.just(0)),
)


EMPTIED = (
    *("events", "receipts", "messages", "aliases", "matching", "rejected_posts"),
    *("statistics_receipts", "statistics_messages", "statistics_rejected"),
)


def empty(engine: Engine) -> None:
    with engine.begin() as connection:
        for table in EMPTIED:
            connection.execute(text(f"DELETE FROM {table}"))


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(A_STEP, min_size=1, max_size=12))
def test_statistics_agree_with_the_tables_whatever_is_stored_registered_and_undone(engine, steps):
    empty(engine)
    recorders = [
        Recorder(engine, policies=POLICIES, quota=Quota(10**6, 10**6, 10**5), regions=REGIONS)
        for _ in range(2)
    ]
    registry = Registry(engine, POLICIES, REGIONS, now=lambda: START)
    for number, (kind, first, second) in enumerate(steps):
        if kind == "delete":
            registry.delete("csoft", first, second)
        elif kind == "give up":
            at = moment(3 * 3600 + number)
            GivingUp(engine, moment(first), at).run()
        else:
            # Each submission at its own time, told apart by the microsecond.
            batch = [each.distinct() for each in second]
            times = [
                moment(number * 1000) + timedelta(microseconds=index + 1)
                for index, _ in enumerate(batch)
            ]

            if kind == "roll back":
                with engine.connect() as connection:
                    recorders[first].record(connection, batch, times)
                    connection.rollback()
                continue
            with engine.begin() as connection:
                recorders[first].record(connection, batch, times)
            if kind == "store twice":
                with engine.begin() as connection:
                    recorders[1 - first].record(connection, batch, times, again=True)
    agree(engine, POLICIES)


# --- one by one ---------------------------------------------------------------------------------


def summed(engine: Engine, *by: str, **only: str) -> list[dict[str, Any]]:
    wanted = StatisticsFilter(by=by, only={name: (only[name],) for name in only}, **EVER)
    with engine.connect() as connection:
        found = statistics(connection, wanted)
    return found["items"]


def test_a_receipt_that_comes_again_is_counted_once(store, engine):
    store.outcomes(receipt("A"), receipt("A"))
    store.outcomes(receipt("A"))
    assert [each["receipts"] for each in summed(engine)] == [1]


def test_a_correction_moves_a_finished_message_to_its_new_state(store, engine):
    store.register(Message("csoft", "A"))
    store.outcomes(receipt("A", state=State.EXPIRED, reported_at=START))
    store.outcomes(receipt("A", state=State.DELIVERED, reported_at=START + timedelta(hours=2)))
    found = summed(engine, "state", provider="csoft")
    assert {each["state"]: each["messages"] for each in found} == {"DELIVERED": 1, "EXPIRED": 0}
    agree(engine, POLICIES)


def test_statistics_stay_when_retention_deletes(open_store, engine):
    store = open_store(now=Clock())
    store.register(Message("csoft", "A"))
    store.outcomes(receipt("A"))
    before = summed(engine, "provider")
    pruned = Pruning(engine, START + timedelta(days=1)).run()
    assert (pruned.receipts, pruned.messages) == (1, 1)
    assert summed(engine, "provider") == before


def test_rejected_posts_are_counted_also_those_that_the_quota_deletes(open_store, engine):
    store = open_store(quota=Quota(1, 1, 30))
    for number in range(3):
        store.put(rejection(str(number)))
    assert len(store.rejected()) == 1
    found = summed(engine, "endpoint", "reason")
    assert [(each["reason"], each["rejected"]) for each in found] == [("invalid", 3)]


def test_delivery_time_counts_from_when_a_message_was_sent(store, engine):
    sent_at = START
    store.register(*(Message("csoft", f"A{each}", sent_at=sent_at) for each in range(100)))
    store.outcomes(
        *(
            receipt(f"A{each}", reported_at=sent_at + timedelta(seconds=each))
            for each in range(100)
        )
    )
    (found,) = summed(engine)
    assert found["messages_delivered"] == 100
    for name, seconds in (("p50_seconds", 49), ("p95_seconds", 94), ("p99_seconds", 98)):
        assert found[name] == pytest.approx(seconds, rel=0.1)


def test_registering_a_message_again_with_another_time_counts_it_anew(store, engine):
    store.register(Message("csoft", "A"))
    store.outcomes(receipt("A", reported_at=START))
    sent_at = START - timedelta(minutes=10)
    assert store.register(Message("csoft", "A", sent_at=sent_at)) == ["updated"]
    assert store.register(Message("csoft", "A", sent_at=sent_at)) == ["unchanged"]
    agree(engine, POLICIES)
    (found,) = summed(engine)
    assert found["p50_seconds"] == pytest.approx(600, rel=0.1)


@given(st.lists(st.integers(0, 10**10), min_size=1), st.floats(1, 100))
def test_a_percentile_is_within_ten_per_cent(milliseconds, percent):
    times = Counter(bucket(START, START + timedelta(milliseconds=each)) for each in milliseconds)
    exact = sorted(milliseconds)
    wanted = len(exact) * percent / 100
    at = next(index for index in range(len(exact)) if index + 1 >= wanted)
    found = percentile(times, percent)
    assert found is not None
    assert found * 1000 == pytest.approx(exact[at], rel=0.1, abs=10)


def test_what_ended_before_it_began_took_no_time():
    assert middle(bucket(START, START - timedelta(days=3))) == 0.0


def test_what_took_longer_than_anything_does_is_in_the_last_bucket():
    assert middle(bucket(START, START + timedelta(days=36500))) > 20 * 365 * 86400


def test_an_hour_counts_so_many_codes_and_networks_by_themselves_and_the_sum_of_all(
    open_store, engine
):
    store = open_store(now=lambda: START)
    many = MOST_LABELS + 20
    store.put([receipt(f"A{n}", code=f"c{n}", network=f"9{n:04}") for n in range(many)])
    found = {each["code"]: each["receipts"] for each in summed(engine, "code")}
    assert len(found) == MOST_LABELS + 1
    assert found[OTHER] == 20
    assert sum(found.values()) == many
    # Another process goes by the same ones: what was counted as another stays so.
    again = open_store(now=lambda: START)
    again.put([receipt(f"B{n}", code=f"c{n}", network=f"9{n:04}") for n in range(many)])
    found = {each["code"]: each["receipts"] for each in summed(engine, "code")}
    assert set(found.values()) == {2, 40}


def test_a_receipt_counted_among_others_leaves_them_when_its_message_is_registered(
    open_store, engine
):
    store = open_store(now=lambda: START)
    store.register(Message("csoft", "known"))
    store.put([receipt(f"A{n}", code=f"c{n}", recipient=None) for n in range(MOST_LABELS + 5)])
    last = f"A{MOST_LABELS + 4}"
    store.register(Message("csoft", last), Message("csoft", "A0"))
    found = {each["verdict"]: each["receipts"] for each in summed(engine, "verdict")}
    assert found == {"accepted": 2, "unknown-message": MOST_LABELS + 3}
    by_code = {
        (each["code"], each["verdict"]): each["receipts"]
        for each in summed(engine, "code", "verdict")
    }
    assert by_code[OTHER, "accepted"] == by_code["c0", "accepted"] == 1
    assert by_code[OTHER, "unknown-message"] == 4


def test_a_text_that_is_too_long_to_be_a_code_is_counted_among_others(store, engine):
    store.outcomes(receipt("A", code="x" * 65), receipt("B", code="x" * 64))
    found = {each["code"]: each["receipts"] for each in summed(engine, "code")}
    assert found == {OTHER: 1, "x" * 64: 1}


def test_a_network_that_tables_name_otherwise_by_now_is_taken_back_all_the_same(
    store, engine, monkeypatch
):
    store.register(Message("csoft", "known"))
    store.outcomes(receipt("A", recipient="447700900111"))
    monkeypatch.setattr("receiptd.store.networks._labels", {("GB", ""): "~GB Renamed"})
    monkeypatch.setattr("receiptd.store.networks._operators", lambda: {"4477": "Renamed"})
    store.register(Message("csoft", "A"))
    found = {each["verdict"]: each["receipts"] for each in summed(engine, "verdict")}
    assert found == {"accepted": 1, "unknown-message": 0} or found == {"accepted": 1}


@pytest.mark.parametrize(
    ("number", "label"),
    [
        ("447911123456", "~GB"),
        ("12425550101", "~BS"),
        ("14165550101", "~CA"),
        ("12125550101", "~US"),
        ("77012345678", "~KZ"),
        ("79161234567", "~RU"),
        ("447624123456", "~IM"),
        ("8816123456789", ""),
        ("999", ""),
        ("0", ""),
        ("", ""),
        ("٣٣٣٣٣٣٣", ""),
    ],
)
def test_a_number_says_the_country_of_a_network(number, label):
    assert derived(number)[:3] == label


def test_a_number_says_the_operator_that_it_was_given_to():
    import phonenumbers
    from phonenumbers import carrier

    number = phonenumbers.parse("+393401234567")
    assert derived("393401234567") == f"~IT {carrier.name_for_number(number, 'en')}"


# --- what an older receiptd stored --------------------------------------------------------------


def make_old(engine: Engine) -> None:
    """Have the database be as the migration leaves one of an older receiptd."""
    with engine.begin() as connection:
        for table in ("statistics_receipts", "statistics_messages", "statistics_fill"):
            connection.execute(text(f"DELETE FROM {table}"))
        connection.execute(text("UPDATE messages SET network = NULL"))
        for table in ("receipts", "messages"):
            connection.execute(
                text(
                    "INSERT INTO statistics_fill (name, position, boundary) SELECT "
                    f"'{table}', coalesce(min(id), 1) - 1, coalesce(max(id), 0) FROM {table}"
                )
            )


def fill_pages(engine: Engine, pages: int) -> None:
    """Count so many pages of ten rows, then end as a process does that is killed."""
    filling = FillIn(engine, POLICIES)
    for _ in range(pages):
        for page in (filling._receipts, filling._messages):
            filling._turns.batch = 2
            with engine.begin() as connection:
                page(connection)


def test_what_an_older_version_stored_is_counted_while_receipts_come(open_store, engine):
    store = open_store(now=lambda: START)
    store.register(*(Message("csoft", f"A{n}", "447700900111") for n in range(30)))
    store.put(
        [
            receipt(f"A{n}", recipient="447700900111", network=[None, "23410"][n % 2])
            for n in range(20)
        ]
    )
    store.put([receipt(f"B{n}") for n in range(20)])
    make_old(engine)
    store = open_store(now=lambda: START)  # as a new version starts
    with engine.connect() as connection:
        assert fill(connection) == (40, 30)
    assert Pruning(engine, START + timedelta(days=1)).run().receipts == 0
    for number in range(0, 20, 5):
        fill_pages(engine, 1)
        # Counted or not yet: adopted, finished, corrected and deleted meanwhile, and new.
        store.register(*(Message("csoft", f"B{each}") for each in (number, number + 1)))
        store.put([receipt(f"A{20 + number // 5}", recipient="447700900111")])
        later = START + timedelta(days=400)
        store.put(
            [
                receipt(
                    f"A{each}", recipient="447700900111", reported_at=later, state=State.EXPIRED
                )
                for each in (number, 19 - number)
            ]
        )
        Registry(engine, POLICIES, REGIONS).delete("csoft", f"A{number + 2}")
        store.put([receipt(f"C{number}")])
    assert FillIn(engine, POLICIES).run()
    assert not FillIn(engine, POLICIES).run()
    with engine.connect() as connection:
        assert fill(connection).complete
    agree(engine, POLICIES)
    assert Pruning(engine, START + timedelta(days=1)).run().receipts > 0


# --- giving up ----------------------------------------------------------------------------------


def give_up(engine: Engine, before: datetime, now: datetime) -> int:
    return GivingUp(engine, before, now).run()


def test_a_message_without_a_final_state_is_given_up_and_keeps_its_state(open_store, engine):
    clock = Clock()
    store = open_store(now=clock)
    store.register(Message("csoft", "A"))
    store.outcomes(receipt("A", state=State.ACCEPTED, reported_at=START))
    store.register(Message("csoft", "B"))
    now = START + timedelta(days=3)
    assert give_up(engine, START + timedelta(hours=2), now) == 1
    assert give_up(engine, START + timedelta(hours=2), now) == 0
    row = store.message_of("a")
    assert (row.state, bool(row.final), row.gave_up_at) == ("ACCEPTED", True, now)
    assert not store.message_of("b").final
    agree(engine, POLICIES)
    (found,) = summed(engine, "state", state="ACCEPTED")
    assert (found["messages"], found["messages_given_up"]) == (1, 1)
    # Retention treats it as finished.
    assert Pruning(engine, START + timedelta(days=2)).run().messages == 1


def test_a_receipt_that_comes_after_a_message_was_given_up_still_counts(open_store, engine):
    store = open_store(now=Clock())
    store.register(Message("csoft", "A"))
    give_up(engine, START + timedelta(days=1), START + timedelta(days=2))
    store.outcomes(receipt("A", state=State.ENROUTE, reported_at=START))
    assert store.message().final, "an intermediate state does not open it again"
    agree(engine, POLICIES)
    store.outcomes(receipt("A", state=State.DELIVERED, reported_at=START))
    assert (store.message().state, bool(store.message().final)) == ("DELIVERED", True)
    agree(engine, POLICIES)
    (found,) = summed(engine)
    assert (found["messages"], found["messages_given_up"]) == (1, 0)


def test_two_processes_give_each_message_up_once(open_store, engine):
    store = open_store(now=Clock())
    store.register(*(Message("csoft", f"A{n}") for n in range(1500)))
    other = open_engine(engine.url.render_as_string(hide_password=False))
    try:
        now = START + timedelta(days=2)
        assert give_up(engine, now, now) + give_up(other, now, now) == 1500
    finally:
        other.dispose()
    agree(engine, POLICIES)


def test_what_is_asked_for_by_something_else_is_not_there(store, engine):
    store.register(Message("csoft", "A"))
    store.outcomes(receipt("A"))
    (found,) = summed(engine, "endpoint")
    assert (found["receipts"], found["messages"], found["rejected"]) == (1, None, 0)
    (found,) = summed(engine, "code")
    assert (found["receipts"], found["messages"], found["rejected"]) == (1, None, None)


def test_an_unstorable_text_is_of_nothing(store, engine):
    store.outcomes(receipt("A"))
    assert summed(engine, code="a\0b") == summed(engine, network="\ud800") == []


def test_statistics_fill_has_nothing_to_do_in_a_new_database(engine):
    with engine.connect() as connection:
        assert {row.boundary for row in connection.execute(select(statistics_fill))} == {0}
        assert fill(connection).complete
