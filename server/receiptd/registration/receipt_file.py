"""Files of receipts, CSV, JSON or NDJSON, that `receiptd receipts export` has written."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from typing import IO, Any, Literal, NamedTuple

from receiptd.receipt import MOST_PARTS, Kind, Receipt, State
from receiptd.registration import rules
from receiptd.registration.spreadsheet import as_it_was

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
        except (csv.Error, KeyError, ValueError, TypeError, RecursionError) as error:
            if isinstance(error, BadLine):
                raise
            text = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            where = f"line {line}: " if line else ""
            raise BadLine(f"{where}not an exported receipt: {text[:200]}") from None


def _lines(file: IO[str]) -> Iterator[str]:
    """The lines of a file, none of them longer than there are receipts."""
    number = 0
    while text := file.readline(LONGEST_LINE):
        number += 1
        if len(text) == LONGEST_LINE and not text.endswith("\n"):
            raise BadLine(f"line {number}: longer than {LONGEST_LINE} characters")
        yield text


def _objects(file: IO[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """An object in each line. A JSON array is written so, too, with brackets and commas around."""
    for number, text in enumerate(_lines(file), 1):
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
    reader = csv.DictReader(_lines(file))
    for row in reader:
        fields: dict[str, Any] = {
            name: as_it_was(value) if value else None for name, value in row.items() if name
        }
        for name in ("extra", "unread"):
            if fields.get(name):
                fields[name] = json.loads(fields[name])
        yield reader.line_num, fields


def _entry(line: int, fields: Mapping[str, Any]) -> Entry:
    for name in _NEEDED:
        if fields[name] is None:
            raise KeyError(name)
    number: int = _optional(fields, "id", _number)
    received_at: datetime = _optional(fields, "received_at", _time)
    receipt = Receipt(
        endpoint=_optional(fields, "endpoint", _text),
        provider=_optional(fields, "provider", _text),
        kind=_optional(fields, "kind", Kind),
        message_id=_optional(fields, "message_id", _text),
        state=_optional(fields, "state", State),
        code=_optional(fields, "code", _text),
        recipient=_optional(fields, "recipient", _text),
        reported_at=_optional(fields, "reported_at", _time),
        raw=_optional(fields, "raw", str.encode) or b"",
        description=_optional(fields, "description", _text),
        sender=_optional(fields, "sender", _text),
        reference=_optional(fields, "reference", _text),
        part=_optional(fields, "part", _part),
        parts=_optional(fields, "parts", _part),
        price=_optional(fields, "price", _price),
        network=_optional(fields, "network", _text),
        text=_optional(fields, "text", _text),
        extra=_optional(fields, "extra", _extra) or {},
        unread=_optional(fields, "unread", _names) or (),
    )
    if receipt.message_id is None and receipt.reported_at is None:
        # Nothing in it tells it from others, and it must be the same at the next import.
        told = (str(fields["id"]), received_at.isoformat(), receipt.endpoint)
        receipt = receipt._replace(nonce=sha256("\n".join(told).encode()).hexdigest()[:16])
    return Entry(line, number, received_at, receipt)


def _optional(fields: Mapping[str, Any], name: str, read: Callable[[Any], Any]) -> Any:
    value = fields.get(name)
    if value is None:
        return None
    try:
        return read(value)
    except (ValueError, TypeError, OverflowError, RecursionError, InvalidOperation):
        # Escaped, since it may hold what no terminal shows.
        raise ValueError(f"{name}: {str(value)[:60]!a}") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return rules.text(value, LONGEST_LINE)


def _number(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if type(value) is not int or not 0 < value <= _LARGEST_ID:
        raise ValueError
    return value


_LARGEST_ID = 2**63 - 1
"""What a column of a database holds."""


def _time(value: object) -> datetime:
    at = datetime.fromisoformat(_text(value))
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)


def _part(value: object) -> int:
    number = int(str(value))
    if not 0 <= number <= MOST_PARTS:
        raise ValueError
    return number


def _price(value: object) -> Decimal:
    price = Decimal(str(value))
    if not price.is_finite() or len(price.as_tuple().digits) > 40 or abs(price.adjusted()) > 40:
        raise ValueError
    return price


def _extra(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError
    # As it is stored: what no database or no reader of JSON takes is found here.
    rules.text(json.dumps(value, ensure_ascii=False, allow_nan=False), LONGEST_LINE)
    return value


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(map(_text, value))
