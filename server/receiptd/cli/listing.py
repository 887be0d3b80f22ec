"""How lists are printed: as tables, with their columns, or as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from receiptd.cli.output import json_array, say, short_time, table

TABLE_LIMIT = 20
"""Rows of a table unless `--limit` says otherwise; JSON, which is for programs, has all."""

RECEIPT_COLUMNS = {
    "id": "id",
    "received": "received_at",
    "message": "message_id",
    "state": "state",
    "recipient": "recipient",
    "verdict": "verdict",
}
WIDE_RECEIPT_COLUMNS = {
    "id": "id",
    "received (UTC)": "received_at",
    "endpoint": "endpoint",
    "kind": "kind",
    "message": "message_id",
    "state": "state",
    "code": "code",
    "recipient": "recipient",
    "reported (UTC)": "reported_at",
    "verdict": "verdict",
}
REJECTION_COLUMNS = {
    "id": "id",
    "received": "received_at",
    "endpoint": "endpoint",
    "reason": "reason",
    "text": "text",
}
WIDE_REJECTION_COLUMNS = {
    "id": "id",
    "received (UTC)": "received_at",
    "endpoint": "endpoint",
    "reason": "reason",
    "field": "field",
    "from": "peer",
    "text": "text",
}
"""Headers of the tables, with the keys beneath them."""

SPARE = ("received", "registered", "verdict", "since")
"""Headers of the columns that a narrow terminal leaves out, in this order."""

RECIPIENT_COLUMNS = {
    "recipient": "recipient",
    "state": "state",
    "since": "state_at",
    "parts": "parts",
    "delivered": "delivered",
    "price": "price",
}
TIMELINE_COLUMNS = {
    "receipt": "id",
    "received": "received_at",
    "state": "state",
    "code": "code",
    "reported": "reported_at",
    "description": "description",
}
WIDE_TIMELINE_COLUMNS = {
    "receipt": "id",
    "received (UTC)": "received_at",
    "kind": "kind",
    "state": "state",
    "code": "code",
    "description": "description",
    "recipient": "recipient",
    "part": "part",
    "reported (UTC)": "reported_at",
    "verdict": "verdict",
}
MESSAGE_COLUMNS = {
    "registered": "registered_at",
    "provider": "provider",
    "message": "message_id",
    "recipient": "recipient",
    "state": "state",
    "since": "state_at",
}
WIDE_MESSAGE_COLUMNS = {
    "registered (UTC)": "registered_at",
    "provider": "provider",
    "message": "message_id",
    "recipient": "recipient",
    "state": "state",
    "since": "state_at",
    "parts": "parts",
    "delivered": "delivered",
    "reference": "reference",
}


def read_ahead(limit: int | None, as_json: bool) -> int | None:
    """How many rows to read. A table reads one more than it shows, to know if there are more."""
    if as_json:
        return limit
    return (limit or TABLE_LIMIT) + 1


def print_list(
    items: Iterator[Mapping[str, Any]],
    as_json: bool,
    limit: int | None,
    columns: Mapping[str, str],
    nothing: str,
) -> None:
    """Print items as a table or as JSON.

    :param columns: headers, with the keys beneath them.
    :param nothing: printed if there are no items.
    """
    first = next(items, None)
    if first is None:
        say(nothing, err=True)
    found = with_first(first, items)
    if as_json:
        json_array(found)
        return
    if first is None:
        return
    print_table(columns, islice(found, limit or TABLE_LIMIT))
    if next(items, None) is not None:
        say(f"the newest {limit or TABLE_LIMIT}; more with --limit N", err=True)


def with_first(
    first: Mapping[str, Any] | None, rest: Iterator[Mapping[str, Any]]
) -> Iterator[Mapping[str, Any]]:
    """`first`, if it is not None, and then the rest."""
    if first is not None:
        yield first
        yield from rest


def print_table(columns: Mapping[str, str], items: Iterable[Mapping[str, Any]]) -> None:
    """Print items in these columns: headers, with the keys beneath them."""
    cells = cell_of(columns)
    table(
        tuple(columns),
        ([cells(item[key]) for key in columns.values()] for item in items),
        text=None if is_wide(columns) else "text" if "text" in columns else "description",
        spare=[each for each in SPARE if each in columns],
    )


def is_wide(columns: Mapping[str, str]) -> bool:
    """Whether these are columns of `--wide`, whose headers name the time zone."""
    return any("UTC" in header for header in columns)


def cell_of(columns: Mapping[str, str]) -> Callable[[Any], Any]:
    """The function that formats the cells of a table with these columns. It shows times to the
    second, and shorter in a table that is not wide."""
    return _whole_time if is_wide(columns) else short_time


def _whole_time(value: Any) -> Any:
    if isinstance(value, str) and len(value) == 27 and value.endswith("Z") and value[19] == ".":
        return value[:19] + "Z"
    return value
