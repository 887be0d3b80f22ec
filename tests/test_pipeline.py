"""The pipeline between requests and the writer: batches, bounds, and a turn for each endpoint."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from kit.store import receipt
from receiptd.pipeline import AT_THE_WRITER, MOST_BYTES, Busy, Pipeline
from receiptd.receipt import ACCEPTED
from receiptd.store.writer import Submission


class Reactor(Clock):
    """Twisted's clock, whose other threads call at once."""

    def callFromThread(self, function: Any, *args: Any) -> None:  # noqa: N802
        function(*args)


class Writer:
    """Takes batches and answers them when the test says so."""

    def __init__(self, limit: int = 10_000) -> None:
        self.reactor = Reactor()
        self.batches: list[list[Submission]] = []
        self.pipeline = Pipeline(self.reactor, self.batches.append, limit)

    def commit(self) -> None:
        """Deliver the oldest batch."""
        self.pipeline.deliver([(each, [ACCEPTED]) for each in self.batches.pop(0)])


def failures(deferreds: list[Any]) -> int:
    """How many of them failed as busy."""
    found: list[Any] = []
    for each in deferreds:
        each.addErrback(lambda failure: found.append(failure.trap(Busy)))
    return len(found)


def test_what_one_iteration_brings_is_one_batch():
    writer = Writer()
    for number in range(5):
        writer.pipeline.accept([receipt(str(number))])
    assert writer.batches == []
    writer.reactor.advance(0)
    (batch,) = writer.batches
    assert [each.receipts[0].message_id for each in batch] == ["0", "1", "2", "3", "4"]


def test_the_verdict_comes_with_the_commit():
    writer = Writer()
    got: list[Any] = []
    writer.pipeline.accept([receipt()]).addCallback(got.append)
    idle: list[Any] = []
    writer.pipeline.idle().addCallback(idle.append)
    writer.reactor.advance(0)
    assert (got, idle) == ([], [])
    writer.commit()
    assert (got, idle) == ([[ACCEPTED]], [None])


def test_what_cannot_be_stored_is_busy():
    writer = Writer()
    done = writer.pipeline.accept([receipt()])
    writer.reactor.advance(0)
    writer.pipeline.deliver([(each, OSError("disk")) for each in writer.batches.pop()])
    assert failures([done]) == 1
    assert writer.pipeline.waiting == 0


def test_what_waits_is_bounded_and_room_comes_back():
    writer = Writer(limit=10)
    done = [
        writer.pipeline.accept([receipt(str(number), endpoint=f"e{number % 3}")])
        for number in range(15)
    ]
    assert failures(done) == 5
    writer.reactor.advance(0)
    writer.commit()
    assert failures([writer.pipeline.accept([receipt()])]) == 0


def test_one_endpoint_fills_no_more_than_half():
    writer = Writer(limit=10)
    flood = [writer.pipeline.accept([receipt(str(number))]) for number in range(20)]
    others = [
        writer.pipeline.accept([receipt(str(number), endpoint="cdyne")]) for number in range(5)
    ]
    assert failures(flood) == 15
    assert failures(others) == 0


def test_bytes_are_bounded_too():
    writer = Writer()
    raw = b"x" * (MOST_BYTES // 4)
    done = [writer.pipeline.accept([receipt(str(number), raw=raw)]) for number in range(6)]
    assert failures(done) == 2


def test_a_flood_at_one_endpoint_does_not_stand_before_another():
    writer = Writer()
    for number in range(4 * AT_THE_WRITER):
        writer.pipeline.accept([receipt(f"f{number}")])
        if number == AT_THE_WRITER - 1:
            writer.reactor.advance(0)
    for number in range(3):
        writer.pipeline.accept([receipt(f"o{number}", endpoint="cdyne")])
    writer.commit()
    batch = writer.batches[0]
    assert [each.endpoint for each in batch[:6]] == ["soap", "cdyne"] * 3


@pytest.mark.parametrize("total", [1, 499, 500, 501, 1700])
def test_all_are_handed_over_in_the_end_in_their_order(total):
    writer = Writer()
    done = [writer.pipeline.accept([receipt(str(number))]) for number in range(total)]
    writer.reactor.advance(0)
    order = []
    while writer.batches:
        order += [each.receipts[0].message_id for each in writer.batches[0]]
        writer.commit()
    assert order == [str(number) for number in range(total)]
    assert all(each.called for each in done)
    assert writer.pipeline.waiting == 0
