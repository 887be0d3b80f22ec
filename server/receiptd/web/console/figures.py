"""Numbers over time out of the statistics: for the overview and for the failures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from receiptd.receipt import Kind, State
from receiptd.store.statistics_queries import StatisticsFilter, statistics
from receiptd.store.statistics_tables import statistics_receipts
from receiptd.web.console.remembered import Remembered

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)

SILENT = timedelta(days=7)
"""How far back an endpoint's last receipt is looked for."""

FAILED = tuple(state.value for state in State if state.final and state is not State.DELIVERED)
"""The states by which a message has failed."""

WINDOWS = {
    "1h": ("the last hour", HOUR),
    "24h": ("the last 24 hours", DAY),
    "7d": ("the last 7 days", timedelta(days=7)),
    "30d": ("the last 30 days", timedelta(days=30)),
}
"""The times that failures are added up over."""

WIDTH, HEIGHT = 250, 100
"""The drawing of bars, in its own units."""


class Bar(NamedTuple):
    """A bar of a drawing."""

    x: float
    y: float
    width: float
    height: float
    words: str


class Chart(NamedTuple):
    """A chart: for the script, and as bars for a page without."""

    title: str
    data: str
    """JSON: names of the series, and for each its values, behind the times in seconds."""
    bars: Sequence[Bar]


class Traffic(NamedTuple):
    """What came within the last 24 hours, by the hour."""

    total: Mapping[str, Any]
    before: Mapping[str, Any]
    """The same of the day before."""
    whole: Sequence[int]
    """Receipts within the 24 whole hours: of today, of yesterday, of a week before."""
    hours: Sequence[Mapping[str, Any]]
    charts: Sequence[Chart]
    complete: bool
    """Whether all that is stored is counted yet."""


class Code(NamedTuple):
    """How often a code of a provider has come."""

    provider: str
    code: str | None
    state: str
    number: int
    before: int
    """Within as much time before."""
    share: float
    """Of the provider's failures, 0 to 1."""

    @property
    def moves(self) -> str:
        """How it has changed, in words."""
        if not self.before:
            return "new"
        change = round(100 * (self.number - self.before) / self.before)
        if change == 0:
            return "as before"
        return f"{abs(change):,} % {'more' if change > 0 else 'less'}"

    @property
    def rises(self) -> bool:
        """Whether it has become so much more frequent that somebody should look."""
        return self.number >= 10 and self.number >= 1.5 * self.before


def traffic(connection: Connection, now: datetime, remembered: Remembered) -> Traffic:
    """The traffic of the last 24 hours beside that of other days. In a thread."""
    today = remembered.get(
        "today",
        5,
        lambda: statistics(connection, StatisticsFilter(since=now - DAY, until=now, by=("hour",))),
    )
    earlier = [
        remembered.get(
            ("earlier", shift, _floor(now)), 600, partial(_earlier, connection, now - shift)
        )
        for shift in (DAY, 7 * DAY)
    ]
    first = (now - DAY).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    times = [first + place * HOUR for place in range(25)]
    by_hour = {item["hour"]: item for item in today["items"]}
    hours: list[Mapping[str, Any]] = [
        by_hour.get(_text(at), {"hour": _text(at), "receipts": 0}) for at in times
    ]
    shifted = [
        _receipts(each["items"], [at - shift for at in times])
        for each, shift in zip(earlier, (DAY, 7 * DAY), strict=True)
    ]
    counts = [hour["receipts"] or 0 for hour in hours]
    seconds = [int(at.timestamp()) for at in times]
    rates = [_percent(hour.get("delivery_rate")) for hour in hours]
    charts = [
        _chart(
            "Receipts by the hour; the last is not over",
            ("today", "yesterday", "a week ago"),
            [seconds, counts, *shifted],
            times,
        ),
        _chart("Delivery rate by the hour, in per cent", ("rate",), [seconds, rates], times, 100),
    ]
    if any(hour.get("p50_seconds") is not None for hour in hours):
        charts.append(
            _chart(
                "Delivery time by the hour, in seconds",
                ("half within", "95 % within"),
                [
                    seconds,
                    [hour.get("p50_seconds") for hour in hours],
                    [hour.get("p95_seconds") for hour in hours],
                ],
                times,
            )
        )
    return Traffic(
        today["total"],
        earlier[0]["total"],
        [sum(each[:-1]) for each in (counts, *shifted)],
        hours,
        charts,
        today["complete"],
    )


def _earlier(connection: Connection, now: datetime) -> dict[str, Any]:
    """The receipts of the 24 hours before another time."""
    # What is asked for by its kind is counted of receipts alone: messages need not be read.
    kinds = {"kind": [kind.value for kind in Kind]}
    wanted = StatisticsFilter(since=now - DAY, until=now, by=("hour",), only=kinds)
    return statistics(connection, wanted)


def by_endpoint(connection: Connection, now: datetime) -> dict[str, Mapping[str, Any]]:
    """What each endpoint has taken within the last 24 hours. In a thread."""
    found = statistics(connection, StatisticsFilter(since=now - DAY, until=now, by=("endpoint",)))
    return {item["endpoint"]: item for item in found["items"]}


def last_hours(connection: Connection, now: datetime) -> dict[str, datetime]:
    """The hour of each endpoint's last receipt, within `SILENT`. In a thread."""
    columns = statistics_receipts.c
    rows = connection.execute(
        select(columns.endpoint, func.max(columns.hour))
        .where(columns.hour >= now - SILENT)
        .group_by(columns.endpoint)
    )
    return {row[0]: row[1] for row in rows}


def codes(connection: Connection, now: datetime, window: timedelta) -> list[Code]:
    """The codes of failures within a time, the most frequent first. In a thread."""
    # Hours are counted as a whole: the time before ends where the first hour of this one begins.
    first = _floor(now - window)
    current, before = (
        {
            (item["provider"], item["code"], item["state"]): item["receipts"] or 0
            for item in statistics(
                connection,
                StatisticsFilter(
                    since=since,
                    until=until,
                    by=("provider", "code", "state"),
                    only={"state": FAILED},
                ),
            )["items"]
        }
        for since, until in ((first, now), (first - (now - first), first))
    )
    sums: dict[str, int] = {}
    for (provider, _code, _state), count in current.items():
        sums[provider] = sums.get(provider, 0) + count
    found_codes = [
        Code(*key, count, before.get(key, 0), count / sums[key[0]])
        for key, count in current.items()
        if count
    ]
    return sorted(found_codes, key=lambda each: (-each.number, each.provider, each.code or ""))


def _floor(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _percent(rate: float | None) -> float | None:
    return None if rate is None else round(100 * rate, 2)


def _receipts(items: Sequence[Mapping[str, Any]], times: Sequence[datetime]) -> list[int]:
    counts = {item["hour"]: item["receipts"] or 0 for item in items}
    return [counts.get(_text(at), 0) for at in times]


def _chart(
    title: str,
    names: Sequence[str],
    data: Sequence[Sequence[Any]],
    times: Sequence[datetime],
    top: float | None = None,
) -> Chart:
    values = data[1]
    highest = top or max((value for value in values if value is not None), default=0) or 1
    step = WIDTH / len(values)
    bars = [
        Bar(
            round(place * step, 2),
            round(HEIGHT - HEIGHT * value / highest, 2),
            round(step * 0.8, 2),
            round(HEIGHT * value / highest, 2),
            f"{at:%H:%M} UTC: {value:,}",
        )
        for place, (value, at) in enumerate(zip(values, times, strict=True))
        if value is not None
    ]
    text = json.dumps({"names": names, "data": data, "percent": top == 100})
    return Chart(title, text, bars)
