"""Lanes keep their order, whatever is refused and repeated, and wherever it crashes."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from receiptd.forward.breaker import FIRST_PROBE, IN_A_ROW, LAST_PROBE, Breaker
from receiptd.forward.lanes import Item, Lanes, Window
from receiptd.forward.schedule import SCHEDULE, delay

EVENTS = st.lists(st.sets(st.sampled_from("ABCDE"), max_size=2), max_size=30)


@given(EVENTS, st.randoms(use_true_random=False), st.floats(0, 0.9))
def test_every_event_is_taken_once_and_each_lane_in_order(events, chance, failing):
    lanes = Lanes()
    window = Window(0)
    items = [Item(number, tuple(sorted(each))) for number, each in enumerate(events, 1)]
    unread = list(items)
    taken: list[Item] = []
    flying: list[Item] = []
    now = 0.0
    while len(taken) < len(items):
        if unread and chance.random() < 0.5:
            some, unread = unread[:3], unread[3:]
            window.add(some, some[-1].event_id)
            for item in some:
                lanes.add(item)
        item = lanes.take(now)
        if item is not None:
            others = {lane for each in flying for lane in each.lanes}
            assert not others & set(item.lanes)
            flying.append(item)
        if flying and chance.random() < 0.6:
            done = flying.pop(chance.randrange(len(flying)))
            if chance.random() < failing:
                lanes.again(done, now + chance.random() * 10)
            else:
                taken.append(done)
                lanes.finish(done)
                window.settle(done)
        now += 1.0
        # The position never passes one that is not settled.
        open_ones = [each.event_id for each in items if each not in taken]
        assert window.position < min([*open_ones, len(items) + 1])
    for lane in "ABCDE":
        order = [each.event_id for each in taken if lane in each.lanes]
        assert order == sorted(order)
    assert lanes.items == 0
    assert window.position == window.read_to == len(items)


@given(EVENTS, st.randoms(use_true_random=False))
def test_what_is_parked_keeps_back_its_own_lanes_alone(events, chance):
    lanes = Lanes()
    items = [Item(number, tuple(sorted(each))) for number, each in enumerate(events, 1)]
    for item in items:
        lanes.add(item)
    bad = {"A"}
    taken, parked = [], []
    while (item := lanes.take(0.0)) is not None:
        if bad & set(item.lanes):
            item.parked = True
            parked.append(item)
        else:
            taken.append(item)
            lanes.finish(item)
    kept_back: set[str] = set()
    for item in items:
        if bad & set(item.lanes) or kept_back & set(item.lanes):
            kept_back |= set(item.lanes)
            assert item not in taken
            assert lanes.stuck(item) or any(
                lanes.stuck(each) for each in items if each not in taken
            )
        else:
            assert item in taken


@given(st.integers(1, 20), st.floats(0, 1))
def test_the_schedule_grows_to_an_hour(failures, chance):
    expected = SCHEDULE[min(failures, len(SCHEDULE)) - 1]
    assert 0.8 * expected <= delay(failures, lambda: chance) <= 1.2 * expected


def test_the_breaker_opens_probes_and_closes_slowly():
    breaker = Breaker(8, lambda: 0.5)
    for _ in range(IN_A_ROW - 1):
        assert not breaker.failed(0.0)
        assert breaker.allows(7, 0.0)
    assert breaker.failed(0.0)
    assert not breaker.allows(0, FIRST_PROBE - 0.1)
    now, waits = 0.0, []
    for _ in range(6):
        waits.append(breaker.next_probe - now)
        now = breaker.next_probe
        assert breaker.allows(0, now)
        assert not breaker.allows(1, now)
        assert not breaker.failed(now)
    assert waits == [5, 10, 20, 40, LAST_PROBE, LAST_PROBE]
    assert breaker.succeeded()
    allowed = []
    for _ in range(5):
        allowed.append(max(n for n in range(1, 20) if breaker.allows(n - 1, now)))
        assert not breaker.succeeded()
    assert allowed == [1, 2, 4, 8, 8]


def test_a_success_between_failures_keeps_it_closed():
    breaker = Breaker(2, random.random)
    for _ in range(20):
        for _ in range(IN_A_ROW - 1):
            assert not breaker.failed(0.0)
        assert not breaker.succeeded()
    assert not breaker.open
