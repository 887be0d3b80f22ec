"""Counting: in one process, and in several that share a folder."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.logger import globalLogPublisher

from receiptd import __version__
from receiptd.metrics.counters import MOST_CODES, OTHER, Gauge, Metrics
from receiptd.metrics.workers import FOLDER_VARIABLE, FRESH, Shared, Total


def test_a_value_falls_into_the_bucket_that_it_is_at_most_as_large_as():
    metrics = Metrics()
    for value in (1.0, 1.5, 2.0, 500.0, 501.0):
        metrics.batches.observe(value)
    *buckets, total = metrics.batches.tallies[""]
    # at most 1, 2, 5, 10, 20, 50, 100, 200, 500, more
    assert buckets == [1, 2, 0, 0, 0, 0, 0, 0, 1, 1]
    assert total == 1005.5


def counted(*, receipts: int, depth: float = 0) -> Metrics:
    """What a worker has counted."""
    metrics = Metrics()
    metrics.receipts["soap", "csoft", "delivery", "DELIVERED", "accepted", "0"] = receipts
    metrics.stored(receipts, 0.002)
    metrics.gauges = [
        Gauge("depth", "", lambda: depth),
        Gauge("most", "", lambda: depth, max),
        Gauge("least", "", lambda: depth, min),
    ]
    return metrics


def receipts_of(total: Total) -> int:
    return sum(total.counts["receiptd_receipts_total"].values())


def as_read(snapshot: dict[str, Any]) -> dict[str, Any]:
    """As it comes out of a file."""
    read: dict[str, Any] = json.loads(json.dumps(snapshot))
    return read


def test_what_several_have_counted_is_added_up():
    one, other = counted(receipts=3, depth=2), counted(receipts=4, depth=5)
    total = Total([one.snapshot(), as_read(other.snapshot())])
    assert receipts_of(total) == 7
    assert total.counts["receiptd_receipts_total"] == {
        ("soap", "csoft", "delivery", "DELIVERED", "accepted", "0"): 7
    }
    *buckets, size = total.tallies["receiptd_batch_size"][""]
    assert (sum(buckets), size) == (2, 7)
    joined = {each.name: each.join(total.gauges[each.name]) for each in one.gauges}
    assert joined == {"depth": 7, "most": 5, "least": 2}


def test_of_one_that_does_not_live_the_counts_count_and_nothing_else():
    silent = counted(receipts=4, depth=5).snapshot()
    silent["at"] -= FRESH + 1
    total = Total([counted(receipts=3, depth=2).snapshot(), silent])
    assert receipts_of(total) == 7
    assert total.gauges["depth"] == [2]
    assert list(total.processes) == [0]


def test_each_worker_has_a_number_and_a_successor_goes_on_from_its_counts(tmp_path):
    folder = tmp_path / "counts"
    first, second = Shared(folder), Shared(folder)
    assert (first.worker, second.worker) == (0, 1)
    first.write(counted(receipts=3, depth=2).snapshot())
    second.write(counted(receipts=4, depth=5).snapshot())
    assert receipts_of(Total(second.others())) == 3

    # It has ended, however that was: the system gives its lock back.
    first._lock.close()
    assert receipts_of(Total(second.others())) == 3
    successor = Shared(folder)
    assert successor.worker == 0
    metrics = counted(receipts=1)
    earlier = successor.earlier()
    assert earlier is not None
    metrics.go_on_from(earlier)
    assert receipts_of(Total([metrics.snapshot(), *successor.others()])) == 8
    assert metrics.batches.tallies[""][-1] == 4

    # In good order, it leaves its counts as well, but nothing that is so no longer.
    second.close(counted(receipts=5, depth=5).snapshot())
    total = Total([metrics.snapshot(), *successor.others()])
    assert receipts_of(total) == 9
    assert total.gauges["depth"] == [0]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"version": "0.0.1", "counts": {}}', "null", '{"counts": {}}', "\xff"],
)
def test_a_file_that_is_none_of_this_versions_is_not_there(tmp_path, content):
    shared = Shared(tmp_path)
    (tmp_path / "worker-7.json").write_text(content, "latin-1")
    assert shared.others() == []
    (tmp_path / "worker-8.json").write_text(json.dumps(Metrics().snapshot()))
    (found,) = shared.others()
    assert (found["worker"], found["version"]) == (8, __version__)


def test_a_folder_that_cannot_be_used_is_told_of_and_keeps_nobody_from_serving(tmp_path):
    said: list[Any] = []
    observer = said.append
    globalLogPublisher.addObserver(observer)
    try:
        assert Shared.from_environment({}) is None
        assert Shared.from_environment({FOLDER_VARIABLE: ""}) is None
        assert not said
        assert Shared.from_environment({FOLDER_VARIABLE: str(tmp_path / "a" / "b")}) is None
        assert len(said) == 1

        shared = Shared(tmp_path / "counts")
        for file in (tmp_path / "counts").iterdir():
            file.unlink()
        (tmp_path / "counts").rmdir()
        for _ in range(3):
            shared.write(Metrics().snapshot())
        assert len(said) == 2, "once, not each second"
    finally:
        globalLogPublisher.removeObserver(observer)


def test_codes_from_outside_make_a_bounded_number_of_series():
    metrics = Metrics()
    labels = {metrics.code("soap", f"c{number}") for number in range(1000)}
    assert len(labels) == MOST_CODES + 1
    assert OTHER in labels
    assert metrics.code("soap", "c0") == "c0"
    assert metrics.code("soap", None) == ""
    assert metrics.code("seeme", "c999") == "c999"
    assert metrics.code("cdyne", "x" * 41) == OTHER
    assert metrics.code("cdyne", "a\nb") == OTHER


def test_a_successor_knows_the_codes_of_its_predecessor():
    first = Metrics()
    for number in range(MOST_CODES):
        label = first.code("soap", str(number))
        first.receipts["soap", "csoft", "delivery", "DELIVERED", "accepted", label] += 1
    second = Metrics()
    second.go_on_from(as_read(first.snapshot()))
    assert second.code("soap", "0") == "0"
    assert second.code("soap", "new") == OTHER
