"""Files of receipts, CSV, JSON or NDJSON, that `receiptd receipts export` has written."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from typing import IO, Any, Literal, NamedTuple

from receiptd.receipt import Kind, Receipt, State

Format = Literal["csv", "json", "ndjson"]

LONGEST_LINE = 64 * 1024 * 1024
"""Characters; a line with the longest post there can be is shorter."""

_NEEDED = ("id", "received_at", "endpoint", "provider", "kind", "state")


class Entry(NamedTuple):
    """What one line of the file says."""

    line: int
    """Its number, from 1."""
    id: int
    """The number that the receipt had in the database that it was exported from."""
    received_at: datetime
    receipt: Receipt


class BadLine(ValueError):
    """A line that is no exported receipt; the text has its number."""


def read(file: IO[str], layout: Format) -> Iterator[Entry]:
    """The receipts of a file, line by line, in constant memory.

    :raises BadLine: at a line that is none.
    """
    rows = _csv(file) if layout == "csv" else _objects(file)
    while True:
        line = 0
        try:
            line, fields = next(rows)
            yield _entry(line, fields)
        except StopIteration:
            return
        except (csv.Error, KeyError, ValueError, TypeError, InvalidOperation) as error:
            if isinstance(error, BadLine):
                raise
            text = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            where = f"line {line}: " if line else ""
            raise BadLine(f"{where}not an exported receipt: {text[:200]}") from None


def _objects(file: IO[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """An object in each line. A JSON array is written so, too, with brackets and commas around."""
    number = 0
    while text := file.readline(LONGEST_LINE):
        number += 1
        text = text.strip().removesuffix(",")
        if text in ("", "[", "]", "[]"):
            continue
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadLine(f"line {number}: no JSON object: {error}") from None
        if not isinstance(found, dict):
            raise BadLine(f"line {number}: no JSON object")
        yield number, found


def _csv(file: IO[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    csv.field_size_limit(LONGEST_LINE)
    reader = csv.DictReader(file)
    for row in reader:
        fields: dict[str, Any] = {name: _cell(value) for name, value in row.items() if name}
        for name in ("extra", "unread"):
            if fields.get(name):
                fields[name] = json.loads(fields[name])
        yield reader.line_num, fields


def _cell(value: str | None) -> str | None:
    """A cell without the apostrophe that the export has put before what looks like a formula."""
    if value and value[0] == "'" and value[1:].lstrip(" ")[:1] in _FORMULAS:
        return value[1:]
    return value or None


_FORMULAS = ("=", "@", "\t", "\r", "\n", "+", "-", "\uff1d", "\uff20", "\uff0b", "\uff0d")


def _entry(line: int, fields: Mapping[str, Any]) -> Entry:
    found = {name: fields[name] for name in _NEEDED}
    received_at = _time(found["received_at"])
    receipt = Receipt(
        endpoint=_text(found["endpoint"]),
        provider=_text(found["provider"]),
        kind=Kind(found["kind"]),
        message_id=_optional(fields, "message_id", _text),
        state=State(found["state"]),
        code=_optional(fields, "code", _text),
        recipient=_optional(fields, "recipient", _text),
        reported_at=_optional(fields, "reported_at", _time),
        raw=(_optional(fields, "raw", _text) or "").encode(),
        description=_optional(fields, "description", _text),
        sender=_optional(fields, "sender", _text),
        reference=_optional(fields, "reference", _text),
        part=_optional(fields, "part", _part),
        parts=_optional(fields, "parts", _part),
        price=_optional(fields, "price", Decimal),
        network=_optional(fields, "network", _text),
        text=_optional(fields, "text", _text),
        extra=_optional(fields, "extra", dict) or {},
        unread=tuple(map(_text, fields.get("unread") or ())),
    )
    if receipt.message_id is None and receipt.reported_at is None:
        # Nothing in it tells it from others, and it must be the same at the next import.
        told = (str(found["id"]), received_at.isoformat(), receipt.endpoint)
        receipt = receipt._replace(nonce=sha256("\n".join(told).encode()).hexdigest()[:16])
    return Entry(line, int(found["id"]), received_at, receipt)


def _optional(fields: Mapping[str, Any], name: str, read: Callable[[Any], Any]) -> Any:
    value = fields.get(name)
    if value is None:
        return None
    try:
        return read(value)
    except (ValueError, TypeError, InvalidOperation):
        raise ValueError(f"{name}: {str(value)[:60]!r}") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, not {str(value)[:60]!r}")
    return value


def _time(value: object) -> datetime:
    at = datetime.fromisoformat(_text(value))
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)


def _part(value: object) -> int:
    number = int(str(value))
    if not 0 <= number <= 255:
        raise ValueError(f"expected 0 to 255, not {number}")
    return number
