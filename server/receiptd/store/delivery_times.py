"""How long messages take, in buckets: what percentiles are read from, long after the messages.

The buckets' bounds grow by 15 %, so that the middle of a bucket is within 7.5 % of everything in
it. The numbers of the buckets are stored: so the bounds never change.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping
from datetime import datetime, timedelta

_FIRST = 10
"""Milliseconds below which nothing is told apart: most providers tell times to the second."""

_LONGEST = 20 * 366 * 24 * 3600 * 1000
"""Milliseconds behind which nothing is told apart."""

_MILLISECOND = timedelta(milliseconds=1)


def _bounds() -> list[int]:
    """In whole numbers, so that they are the same on every machine."""
    bounds = [_FIRST]
    while bounds[-1] < _LONGEST:
        bounds.append(bounds[-1] * 115 // 100)
    return bounds


_BOUNDS = _bounds()
"""Milliseconds: bucket `n` holds what took from `_BOUNDS[n - 1]` to less than `_BOUNDS[n]`."""


def bucket(begun: datetime, ended: datetime) -> int:
    """The bucket of a time. Clocks differ: what ended before it began took no time."""
    return bisect_right(_BOUNDS, (ended - begun) // _MILLISECOND)


def middle(number: int) -> float:
    """What a time in this bucket is taken for, in seconds."""
    if number <= 0:
        return 0.0
    if number >= len(_BOUNDS):
        return _BOUNDS[-1] / 1000
    return (_BOUNDS[number - 1] + _BOUNDS[number]) / 2000


def percentile(times: Mapping[int, int], percent: float) -> float | None:
    """The time in seconds within which `percent` per cent of these were over; None of none.

    :param times: how many there are, by the bucket.
    """
    total = sum(times.values())
    if total <= 0:
        return None
    wanted = total * percent / 100
    reached = 0
    number = 0
    for number in sorted(times):
        reached += times[number]
        if reached >= wanted:
            break
    return middle(number)


def read_times(text: str) -> dict[int, int]:
    """What `write_times` wrote."""
    return {int(number): count for number, count in json.loads(text).items()}


def write_times(times: Mapping[int, int]) -> str:
    """`times` as JSON: the bucket's number to how many are in it."""
    return json.dumps({str(number): times[number] for number in sorted(times) if times[number]})
