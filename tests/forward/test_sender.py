"""What a sender does with what its destination answers, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.exc import OperationalError

from kit.forward import AWAY, REFUSED
from kit.store import receipt
from receiptd.forget.database import Forgetting
from receiptd.forget.person import Person
from receiptd.forget.rows import Whom
from receiptd.forward.destinations import TAKEN, Fault, Outcome
from receiptd.message import Message
from receiptd.receipt import State
from receiptd.store import forward_orders, forward_state
from receiptd.store.forward_orders import DeadFilter


def stored(store, *names, **fields):
    for name in names:
        store.outcomes(receipt(name, **fields))


def about(event):
    return (event.receipt or event.message)["message_id"]


def test_what_is_stored_is_sent_once(sending, store):
    one = sending()
    stored(store, "A", "B", "C")
    one.run(1)
    assert one.ids == [1, 2, 3]
    assert [about(each) for each in one.destination.taken] == ["A", "B", "C"]
    one.run(3)
    assert one.status.position == 3
    assert (one.status.waiting, one.status.sent, one.status.state) == (0, 3, "sending")
    one.stop()
    one.begin()
    one.run(3)
    assert one.ids == [1, 2, 3]


def test_a_new_destination_begins_with_what_comes(engine, sending, store):
    stored(store, "before")
    one = sending()
    stored(store, "after")
    one.run(1)
    assert [about(each) for each in one.destination.taken] == ["after"]


def test_filters_choose_what_is_sent(sending, store):
    one = sending(types=["receipt.stored"], states=["DELIVERED"], providers=["csoft"])
    store.register(Message("csoft", "A"))
    stored(store, "A")
    stored(store, "B", state=State.ENROUTE)
    stored(store, "C", provider="cdyne", endpoint="cdyne")
    stored(store, "D")
    one.run(3)
    assert [about(each) for each in one.destination.taken] == ["A", "D"]
    assert one.status.waiting == 0


def test_events_about_one_message_go_one_after_the_other(sending, store):
    one = sending()
    one.destination.answer = lambda _: None
    store.register(Message("csoft", "A"))
    stored(store, "A", state=State.ENROUTE, code="9")
    stored(store, "A", "B")
    one.run(1)
    # The first about A, and what is about B beside it.
    assert [about(each.events[0]) for each in one.destination.deliveries] == ["A", "B"]
    one.destination.answer = lambda _: TAKEN
    one.destination.release()
    one.run(1)
    of_a = [each for each in one.destination.taken if about(each) == "A"]
    assert [each.type for each in of_a] == ["receipt.stored", "receipt.stored", "message.state"]
    assert [each.message["state"] for each in of_a] == ["ENROUTE", "DELIVERED", "DELIVERED"]


def test_without_order_they_go_beside_each_other(sending, store):
    one = sending(order="none")
    one.destination.answer = lambda _: None
    stored(store, "A")
    stored(store, "A", code="1")
    one.run(1)
    assert len(one.destination.deliveries) == 2


def test_no_more_requests_are_under_way_than_are_allowed(sending, store):
    one = sending(concurrency=3)
    one.destination.answer = lambda _: None
    stored(store, *(f"m{number}" for number in range(10)))
    one.run(1)
    assert len(one.destination.held) == 3
    one.destination.release()
    one.run(1)
    assert len(one.destination.held) == 3


def test_a_rate_is_kept(sending, store):
    one = sending(per_second=10)
    stored(store, *(f"m{number}" for number in range(40)))
    one.run(2, step=0.01)
    assert 15 <= len(one.ids) <= 25
    one.run(3)
    assert len(one.ids) == 40


def test_while_a_destination_is_away_nothing_is_spent_and_nothing_skipped(sending, store):
    one = sending()
    one.destination.answer = lambda _: AWAY
    stored(store, *(f"m{number}" for number in range(20)))
    one.run(10)
    attempts = len(one.destination.deliveries)
    one.run(600, step=1)
    # A probe a minute and no more.
    assert 9 <= len(one.destination.deliveries) - attempts <= 18
    assert one.status.state == "failing"
    assert one.status.waiting == 20
    assert one.status.last_error == "the connection is refused"
    assert not one.parked
    one.destination.answer = lambda _: TAKEN
    one.run(90)
    assert sorted(one.ids) == list(range(1, 21))
    one.run(5)
    assert one.status.state == "sending"
    assert one.status.dead == one.status.waiting == 0


def test_a_destination_that_is_away_costs_next_to_nothing(sending, store):
    one = sending()
    one.destination.answer = lambda _: AWAY
    stored(store, *(f"m{number}" for number in range(5)))
    one.run(60)
    reads = one.database.reads
    one.run(600, step=0.5)
    assert one.database.reads - reads < 20


def test_what_waits_follows_slowly_once_it_is_back(sending, store):
    one = sending(concurrency=8)
    one.destination.answer = lambda _: AWAY
    stored(store, *(f"m{number}" for number in range(30)))
    one.run(60)
    one.destination.answer = lambda _: None
    one.run(70)
    assert len(one.destination.held) == 1  # the probe
    at_once = []
    for _ in range(5):
        at_once.append(len(one.destination.held))
        one.destination.release()
        one.run(0.1)
    assert at_once[:3] == [1, 1, 2]
    assert max(at_once) <= 8


def test_an_event_that_is_refused_parks_its_own_message_alone(sending, store):
    one = sending()
    one.destination.answer = lambda delivery: (
        REFUSED if about(delivery.events[0]) == "bad" else TAKEN
    )
    stored(store, "bad", "good")
    stored(store, "bad", "good", code="1")
    one.run(3)
    assert one.ids == [2, 4]
    assert [(each.event_id, each.status, each.failures) for each in one.parked] == [
        (1, "retry", 1),
        (3, "behind", 0),
    ]
    assert one.status.position == 4
    assert one.status.waiting == 2
    one.destination.answer = lambda _: TAKEN
    one.run(8)
    assert one.ids == [2, 4, 1, 3]
    assert one.destination.deliveries[-2].attempt == 2
    assert not one.parked


def test_what_waits_about_a_person_who_is_forgotten_is_not_sent(engine, sending, store):
    one = sending()
    one.destination.answer = lambda delivery: (
        REFUSED if about(delivery.events[0]) == "theirs" else TAKEN
    )
    stored(store, "theirs", recipient="447700900123")
    stored(store, "theirs", recipient="447700900123", code="1")
    stored(store, "other")
    one.run(3)
    assert [each.event_id for each in one.parked] == [1, 2]
    assert Forgetting(engine, Whom(Person("447700900123"))).run().waiting == 2
    one.destination.answer = lambda _: TAKEN
    stored(store, "more")
    one.run(8)
    assert one.ids == [3, 4]
    assert not one.parked
    assert (one.status.position, one.status.waiting) == (4, 0)


def test_a_sender_that_comes_upon_a_person_who_is_forgotten_goes_on(engine, sending, store):
    one = sending()
    one.stop()
    stored(store, "theirs", recipient="447700900123")
    stored(store, "other")
    Forgetting(engine, Whom(Person("447700900123"))).run()
    one.begin()
    one.run(3)
    assert one.ids == [2]
    assert (one.status.position, one.status.waiting) == (2, 0)


def test_the_schedule_outlives_a_crash(sending, store):
    one = sending()
    one.destination.answer = lambda _: REFUSED
    stored(store, "A")
    stored(store, "A", code="1")
    one.run(8)
    assert len(one.destination.deliveries) == 2
    one.crash()
    one.begin()
    one.run(3)
    assert len(one.destination.deliveries) == 2  # its time has not come
    one.destination.answer = lambda _: TAKEN
    one.run(40)
    assert one.ids == [1, 2]
    assert one.destination.deliveries[2].attempt == 3


def test_after_a_crash_nothing_is_missing(sending, store):
    one = sending()
    stored(store, "A", "B")
    one.run(1)
    one.destination.answer = lambda _: None
    stored(store, "C", "D")
    one.run(1)
    one.crash()
    one.destination.held.clear()
    one.destination.answer = lambda _: TAKEN
    one.begin()
    stored(store, "E")
    one.run(2)
    assert set(one.ids) == {1, 2, 3, 4, 5}
    assert one.ids.count(3) == one.ids.count(5) == 1


def test_what_is_refused_for_too_long_is_dead_and_its_message_goes_on(sending, store, monkeypatch):
    one = sending(give_up="1s")
    one.destination.answer = lambda delivery: REFUSED if delivery.events[0].id == 1 else TAKEN
    stored(store, "A")
    stored(store, "A", code="1")
    one.run(2)
    long_ago = datetime.now(UTC) - timedelta(seconds=2)
    for item in one.sender._lease.outbox.lanes._waiting:  # as if refused two seconds ago
        item[-1].first_failed = long_ago
    one.run(10)
    assert one.ids == [2]
    (row,) = one.parked
    assert (row.event_id, row.status, row.error, row.answer) == (
        1,
        "dead",
        "answered 422",
        "no such order",
    )
    assert (one.status.dead, one.status.waiting) == (1, 0)


def test_a_dead_letter_may_hold_its_message(sending, store):
    one = sending(on_dead="hold")
    abort = Outcome(Fault.ABORT, "answered 400 and webhook-delivery: abort-message")
    one.destination.answer = lambda delivery: abort if delivery.events[0].id == 1 else TAKEN
    stored(store, "A", "B")
    stored(store, "A", "B", code="1")
    one.run(5)
    assert one.ids == [2, 4]
    one.crash()
    one.begin()
    one.run(5)
    assert one.ids == [2, 4]
    assert one.status.waiting == 1
    one.destination.answer = lambda _: TAKEN
    assert one.order(forward_orders.retry, DeadFilter()) == 1
    assert one.ids == [2, 4, 1, 3]
    one.run(3)
    assert not one.parked


def test_a_held_message_goes_on_when_its_dead_letter_is_discarded(sending, store):
    one = sending(on_dead="hold")
    abort = Outcome(Fault.ABORT, "abort")
    one.destination.answer = lambda delivery: abort if delivery.events[0].id == 1 else TAKEN
    stored(store, "A")
    stored(store, "A", code="1")
    one.run(3)
    assert one.ids == []
    assert one.order(forward_orders.discard, DeadFilter(ids=[1])) == 1
    assert one.ids == [2]
    one.run(3)
    assert not one.parked


def test_a_dead_letter_that_is_retried_begins_its_schedule_anew(sending, store):
    one = sending()
    abort = Outcome(Fault.ABORT, "abort")
    one.destination.answer = lambda _: abort
    stored(store, *(f"m{number}" for number in range(5)))
    one.run(3)
    assert one.status.dead == 5
    one.destination.answer = lambda _: REFUSED
    assert one.order(forward_orders.retry, DeadFilter(ids=[2, 3])) == 2
    assert {each.event_id: each.status for each in one.parked} == {
        1: "dead",
        2: "retry",
        3: "retry",
        4: "dead",
        5: "dead",
    }
    one.crash()
    one.begin()
    one.destination.answer = lambda _: TAKEN
    one.run(20)
    assert sorted(one.ids) == [2, 3]
    assert one.order(forward_orders.retry, DeadFilter()) == 3
    one.run(3)
    assert sorted(one.ids) == [1, 2, 3, 4, 5]
    assert not one.parked


def test_dead_letters_that_are_refused_again_do_not_keep_others_back(sending, store, monkeypatch):
    monkeypatch.setattr("receiptd.forward.outbox.PAGE", 2)
    monkeypatch.setattr("receiptd.forward.lease.PAGE", 2)
    one = sending()
    one.destination.answer = lambda _: Outcome(Fault.ABORT, "abort")
    stored(store, *(f"m{number}" for number in range(6)))
    one.run(3)
    assert one.status.dead == 6
    one.destination.answer = lambda delivery: REFUSED if delivery.events[0].id < 3 else TAKEN
    assert one.order(forward_orders.retry, DeadFilter()) == 6
    assert sorted(one.ids) == [3, 4, 5, 6]
    one.destination.answer = lambda _: TAKEN
    one.run(60)
    assert sorted(one.ids) == [1, 2, 3, 4, 5, 6]
    assert not one.parked


def test_an_event_that_breaks_the_application_is_refused_while_others_pass(sending, store):
    """It answers 500 to one event: the destination is not to blame, and the others go on."""
    one = sending()
    one.destination.answer = lambda delivery: (
        AWAY if about(delivery.events[0]) == "poison" else TAKEN
    )
    stored(store, "poison")
    for number in range(40):
        stored(store, f"m{number}")
        one.run(1)
    one.run(5)
    assert sorted(one.ids) == list(range(2, 42))
    assert one.parked[0].event_id == 1
    assert one.status.state == "sending"


def test_probes_find_a_destination_well_though_the_oldest_event_breaks_it(sending, store):
    one = sending(concurrency=1)
    one.destination.answer = lambda _: AWAY
    stored(store, "poison", "a", "b", "c")
    one.run(30)
    one.destination.answer = lambda delivery: (
        AWAY if about(delivery.events[0]) == "poison" else TAKEN
    )
    one.run(600, step=0.5)
    assert sorted(one.ids) == [2, 3, 4]


def test_a_destination_that_asks_for_time_gets_it(sending, store):
    one = sending()
    busy = Outcome(Fault.BUSY, "answered 429 and Retry-After: 100 s", retry_after=100.0)
    one.destination.answer = lambda _: busy
    stored(store, "A", "B", "C")
    one.run(1)
    sent = len(one.destination.deliveries)
    one.run(95)
    assert len(one.destination.deliveries) == sent
    one.destination.answer = lambda _: TAKEN
    one.run(10)
    assert sorted(one.ids) == [1, 2, 3]


def test_a_destination_that_is_gone_is_paused(sending, store):
    one = sending()
    gone = Outcome(Fault.PAUSE, "answered 410: it wants no more events")
    one.destination.answer = lambda _: gone
    stored(store, "A", "B")
    one.run(5)
    assert one.status.state == "paused"
    assert one.status.reason == "the destination answered 410: it wants no more events"
    sent = len(one.destination.deliveries)
    one.run(100)
    assert len(one.destination.deliveries) == sent
    assert one.status.waiting == 2
    one.destination.answer = lambda _: TAKEN
    one.order(forward_orders.resume)
    assert sorted(one.ids) == [1, 2]


def test_pause_and_resume_lose_and_repeat_nothing(sending, store):
    one = sending()
    one.destination.answer = lambda _: None
    stored(store, "A", "B")
    one.run(1)
    with one.engine.begin() as connection:
        forward_orders.pause(connection, "app", "said so")
    one.run(3)
    one.destination.answer = lambda _: TAKEN
    one.destination.release()
    stored(store, "C")
    one.run(5)
    assert one.ids == [1, 2]
    assert (one.status.state, one.status.reason) == ("paused", "said so")
    one.order(forward_orders.resume)
    assert one.ids == [1, 2, 3]


def test_seek_goes_back_and_forth(sending, store):
    one = sending()
    stored(store, "A", "B")
    one.run(3)
    one.order(forward_orders.seek, datetime.now(UTC) - timedelta(days=1))
    assert one.ids == [1, 2, 1, 2]
    one.order(forward_orders.pause, "")
    stored(store, "C")
    one.order(forward_orders.seek, None)
    stored(store, "D")
    one.order(forward_orders.resume)
    assert one.ids == [1, 2, 1, 2, 4]


def test_a_seek_counts_also_where_nothing_was_written_yet(sending, store):
    one = sending()
    stored(store, "A")
    one.run(0.2)
    assert one.status.position == 0
    one.order(forward_orders.seek, datetime.now(UTC) - timedelta(days=1))
    assert one.ids == [1, 1]


def test_events_travel_in_batches_and_a_bad_one_harms_no_other(sending, store):
    one = sending(batch=10, concurrency=1)
    one.destination.answer = lambda delivery: (
        REFUSED if any(about(each) == "m7" for each in delivery.events) else TAKEN
    )
    store.put(*([receipt(f"m{number}")] for number in range(20)))
    one.run(4)
    assert sorted(one.ids) == [number for number in range(1, 21) if number != 8]
    assert [each.event_id for each in one.parked] == [8]
    assert len(one.destination.deliveries[0].events) == 10
    assert all(each.batched for each in one.destination.deliveries)


def test_one_that_a_broker_never_takes_keeps_no_other_back(sending, store, monkeypatch):
    """Of a batch to a broker each event has an outcome of its own."""
    monkeypatch.setattr("receiptd.forward.outbox.WINDOW", 30)
    monkeypatch.setattr("receiptd.forward.lease.PAGE", 10)
    one = sending(batch=10)
    one.destination.answer = lambda delivery: [
        AWAY if about(each) == "unheard" else TAKEN for each in delivery.events
    ]
    stored(store, "unheard")
    for first in range(0, 100, 20):
        store.put(*([receipt(f"m{number}")] for number in range(first, first + 20)))
        one.run(2)
    assert sorted(one.ids) == list(range(2, 102))
    assert [(each.event_id, each.status) for each in one.parked] == [(1, "retry")]
    assert one.status.state == "sending"


def test_a_batch_is_the_same_when_it_is_sent_again(sending, store):
    one = sending(batch=10, concurrency=1)
    one.destination.answer = lambda _: AWAY
    store.put(*([receipt(f"m{number}")] for number in range(8)))
    one.run(1)
    store.put(*([receipt(f"n{number}")] for number in range(8)))
    one.run(1)
    one.destination.answer = lambda _: TAKEN
    one.run(10)
    first = one.destination.deliveries[0]
    again = [each for each in one.destination.deliveries[1:] if each.name == first.name]
    assert [each.attempt for each in again] == list(range(2, len(again) + 2))
    assert sorted(one.ids) == list(range(1, 17))


def test_two_senders_share_a_destination_by_turns(engine, sending, store):
    one, other = sending(), sending()
    stored(store, "A")
    one.run(2)
    other.run(5)
    assert (one.ids, other.ids) == ([1], [])
    one.stop()
    stored(store, "B")
    other.run(3)
    assert (one.ids, other.ids) == ([1], [2])


def test_a_lease_that_is_lost_costs_repetitions_and_no_event(engine, sending, store):
    one = sending()
    stored(store, "A")
    one.run(0.3)
    one.destination.answer = lambda _: None
    stored(store, "B")
    one.run(0.3)
    with engine.begin() as connection:  # its lease runs out while it is stopped
        connection.exec_driver_sql("UPDATE forward_destinations SET lease_until = 1")
    other = sending()
    other.run(2)
    stored(store, "C")
    other.run(2)
    position = other.status.position
    one.destination.release()
    one.run(5)
    assert other.status.position == position == 3
    assert set(one.ids + other.ids) == {1, 2, 3}
    stored(store, "D")
    one.run(5)
    assert 4 not in one.ids


def test_a_sender_whose_time_is_over_sends_nothing(sending, store):
    """A process that was stopped for longer than its lease does not know yet that it is lost."""
    one = sending()
    one.database.failing = OperationalError("", {}, Exception("away"))
    one.run(20)
    stored(store, "A")
    one.run(5)
    assert one.ids == []
    one.database.failing = None
    one.run(20)
    assert one.ids == [1]


def test_a_database_that_is_away_for_a_while_costs_nothing(sending, store):
    one = sending()
    stored(store, "A", "B")
    one.run(0.3)
    one.database.failing = OperationalError("", {}, Exception("away"))
    one.run(8)
    one.database.failing = None
    stored(store, "C")
    one.run(8)
    assert one.ids == [1, 2, 3]
    one.run(3)
    assert one.status.position == 3


def test_a_replay_tells_again_what_fits_and_ends(sending, store):
    one = sending()
    stored(store, "A", "B", "C")
    one.run(3)
    number = one.order(forward_orders.begin_replay, {"message": "b"}, 0, 3, 0.0)
    assert one.ids == [1, 2, 3, 2]
    assert one.destination.deliveries[-1].replay == number
    assert one.destination.deliveries[-1].name.endswith("_2")
    one.run(3)
    with one.engine.connect() as connection:
        (row,) = forward_state.replays(connection, "app")
    assert (row["status"], row["sent"], row["failed"]) == ("done", 1, 0)


def test_a_replay_goes_on_after_a_crash_and_can_be_cancelled(sending, store):
    one = sending()
    stored(store, *(f"m{number}" for number in range(30)))
    one.run(3)
    del one.destination.taken[:]
    number = one.order(forward_orders.begin_replay, {}, 0, 30, 1000.0)
    one.run(2)
    assert one.ids == list(range(1, 31))
    del one.destination.taken[:]
    one.destination.answer = lambda _: None
    number = one.order(forward_orders.begin_replay, {}, 0, 30, 0.0)
    one.destination.release()
    one.run(1)
    one.crash()
    one.destination.held.clear()
    one.destination.answer = lambda _: TAKEN
    one.begin()
    one.run(5)
    assert set(one.ids) == set(range(1, 31))
    assert len(one.ids) < 45
    one.destination.answer = lambda _: None
    number = one.order(forward_orders.begin_replay, {}, 0, 30, 0.0)
    assert one.order(forward_orders.cancel_replay, number)
    one.destination.release()
    one.destination.answer = lambda _: TAKEN
    del one.destination.taken[:]
    one.run(5)
    assert one.ids == []


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_memory_is_bounded_whatever_waits(sending, store):
    one = sending()
    one.destination.answer = lambda _: None
    store.put(*([receipt(f"m{number}")] for number in range(4000)))
    one.run(20)
    assert one.sender._lease.outbox.lanes.items <= 1300
    assert one.status.waiting == 4000
