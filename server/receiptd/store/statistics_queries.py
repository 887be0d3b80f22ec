"""Reading the statistics: added up by what is asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Column, ColumnElement, Connection, Table, func, select

from receiptd.receipt import Kind, Outcome, State
from receiptd.store.delivery_times import read_times
from receiptd.store.networks import named
from receiptd.store.statistics_sums import NUMBERS, Sums
from receiptd.store.statistics_tables import (
    statistics_fill,
    statistics_messages,
    statistics_receipts,
    statistics_rejected,
)

__all__ = ["DIMENSIONS", "LABELS", "NUMBERS", "StatisticsFilter", "TooMuch", "fill", "statistics"]

LABELS = ("endpoint", "provider", "kind", "network", "state", "code", "verdict", "reason")
"""What statistics are kept by, beside the time; each is a filter, too."""

DIMENSIONS = ("day", "hour", *LABELS)
"""What statistics are added up by."""

MOST_ROWS = 50_000
"""Rows of an answer: more would be of no use to anybody, and large."""

_HOUR = timedelta(hours=1)


MOST_COUNTED = 2_000_000
"""Rows that are added up for an answer: some months of a busy server with many networks."""


class TooMuch(Exception):
    """More rows are asked for than an answer has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsFilter:
    """Which hours are wanted, and of whom: what fits every label that is set, and of a label with
    several values one."""

    since: datetime
    """From the hour of this time (aware) on."""
    until: datetime
    """Hours that begin before this time (aware)."""
    by: Sequence[str] = ()
    """Of `DIMENSIONS`; nothing: the sum of all."""
    only: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Of `LABELS` to the wanted values. A network is a provider's, or as `networks.derived` writes
    it; '' is that there is none."""

    @property
    def first(self) -> datetime:
        """The first hour."""
        return self.since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


class Fill(NamedTuple):
    """How far what an older receiptd stored is counted."""

    receipts: int
    """Receipts (by their ids) that are to be counted yet."""
    messages: int

    @property
    def complete(self) -> bool:
        """Whether everything is counted."""
        return not self.receipts and not self.messages


def statistics(connection: Connection, wanted: StatisticsFilter) -> dict[str, Any]:
    """What was counted: `{"since", "until", "by", "items", "total", "complete"}`.

    Each of `items` has the dimensions that were asked for and `NUMBERS`, in the order of the
    dimensions. A network also has `country` and `operator` where these are derived from
    numbers; its `network` is null then.

    :raises TooMuch: where that would be more than `MOST_ROWS` items, or takes too long.
    """
    groups: defaultdict[tuple[Any, ...], Sums] = defaultdict(Sums)
    total = Sums()
    shown = []
    for source in _SOURCES:
        if not source.can(wanted):
            continue
        shown.append(source.name)
        for key, row in _read(connection, source, wanted):
            if key not in groups and len(groups) >= MOST_ROWS:
                raise TooMuch(
                    f"this would be more than {MOST_ROWS} rows: ask for fewer hours, or by less"
                )
            source.add(groups[key], row, "state" in wanted.by)
            source.add(total, row, False)
    ordered = sorted(groups.items(), key=lambda item: _order(item[0]))
    return {
        "since": _text(wanted.first),
        "until": _text(wanted.until),
        "by": list(wanted.by),
        "items": [_names(wanted.by, key) | sums.json(shown) for key, sums in ordered],
        "total": total.json(shown),
        "complete": fill(connection).complete,
    }


def last_hours(connection: Connection, endpoints: Collection[str]) -> dict[str, datetime]:
    """The hour of the last receipt of each of these endpoints; those without any are left out."""
    columns = statistics_receipts.c
    found = {}
    for name in filter(_storable, endpoints):
        statement = (
            select(columns.hour)
            .where(columns.endpoint == name, columns["count"] > 0)
            .order_by(columns.hour.desc())
            .limit(1)
        )
        if (hour := connection.execute(statement).scalar()) is not None:
            found[name] = hour
    return found


def fill(connection: Connection) -> Fill:
    """How much is to be counted yet of what an older receiptd stored."""
    columns = statistics_fill.c
    statement = select(columns.name, (columns.boundary - columns.position).label("rows"))
    left = {row.name: row.rows for row in connection.execute(statement)}
    return Fill(max(0, left.get("receipts", 0)), max(0, left.get("messages", 0)))


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _order(key: tuple[Any, ...]) -> tuple[tuple[bool, str], ...]:
    return tuple((each is None, str(each)) for each in key)


def _names(by: Sequence[str], key: tuple[Any, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in zip(by, key, strict=True):
        if name == "network":
            network = named(value or "")
            found |= {"network": network.network, "country": network.country}
            found["operator"] = network.operator
        elif name == "hour" and value is not None:
            found[name] = _text(value)
        else:
            found[name] = value or None
    return found


# --- The tables


class _Source(NamedTuple):
    """A table, and what its rows add to sums."""

    name: str
    table: Table
    extra: Sequence[str]
    """Columns by which it is added up, whatever is asked for."""
    add: Callable[[Sums, Any, bool], None]

    def can(self, wanted: StatisticsFilter) -> bool:
        """Whether it is counted by what is asked for."""
        asked = {*wanted.by, *wanted.only} - {"day", "hour"}
        return asked <= set(self.table.c.keys())


def _read(
    connection: Connection, source: _Source, wanted: StatisticsFilter
) -> Iterable[tuple[tuple[Any, ...], Any]]:
    """The rows of a table, added up in the database: the group of each, and the row."""
    columns = source.table.c
    conditions: list[ColumnElement[bool]] = [
        columns.hour >= wanted.first,
        columns.hour < wanted.until,
        columns["count"] != 0,
    ]
    conditions += [
        columns[name].in_(list(filter(_storable, values))) for name, values in wanted.only.items()
    ]
    groups: list[Column[Any]] = [
        columns["hour" if name == "day" else name] for name in wanted.by if name in DIMENSIONS
    ]
    others = [columns[name] for name in source.extra if columns[name] not in set(groups)]
    grouped = list(dict.fromkeys([*groups, *others]))
    if source.table is statistics_messages:
        # The times cannot be added up there.
        numbers = [columns["count"].label("number"), columns.times]
        statement = select(*grouped, *numbers).where(*conditions)
    else:
        number = func.sum(columns["count"]).label("number")
        statement = select(*grouped, number).where(*conditions).group_by(*grouped)
    for count, row in enumerate(connection.execute(statement)):
        if count >= MOST_COUNTED:
            raise TooMuch("this is too much to add up: ask for fewer hours")
        found = row._mapping
        if found["number"] is None:
            continue  # the sum of nothing
        key = tuple(
            found["hour"].date().isoformat() if name == "day" else found[name]
            for name in wanted.by
        )
        yield key, found


def _storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= each <= "\udfff" for each in text)


def _add_receipts(sums: Sums, row: Any, _by_state: bool) -> None:
    number = int(row["number"])
    sums.receipts += number
    if row["verdict"] != Outcome.ACCEPTED:
        sums.mismatched += number
    if row["kind"] not in (Kind.SENT, Kind.DELIVERY):
        return
    state = State(row["state"])
    if state is State.DELIVERED:
        sums.delivered += number
    elif state.final:
        sums.failed += number
    else:
        sums.pending += number


def _add_messages(sums: Sums, row: Any, by_state: bool) -> None:
    number = row["number"]
    sums.messages += number
    state = State(row["state"])
    if state is State.DELIVERED:
        sums.messages_delivered += number
    elif not state.final:
        sums.messages_given_up += number
    if by_state or state is State.DELIVERED:
        sums.times.update(read_times(row["times"]))


def _add_rejected(sums: Sums, row: Any, _by_state: bool) -> None:
    sums.rejected += int(row["number"])


_SOURCES = (
    _Source("receipts", statistics_receipts, ("kind", "state", "verdict"), _add_receipts),
    _Source("messages", statistics_messages, ("state",), _add_messages),
    _Source("rejected", statistics_rejected, (), _add_rejected),
)
