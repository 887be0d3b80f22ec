"""Receipts as rows and rows as receipts: what goes into the tables and what people read of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from receiptd.receipt import RECEIPT_KEYS, Kind, Receipt, Rejection
from receiptd.store.candidates import Match, Report
from receiptd.store.schema import iso, receipts

REJECTION_COLUMNS = Rejection._fields

RECEIPT_COLUMNS = tuple(
    column.name for column in receipts.columns if column.name not in ("id", "repeats")
)
"""The columns that `receipt_row` fills, in its order, which is the table's."""


def receipt_row(
    receipt: Receipt,
    report: Report,
    match: Match,
    received_at: object,
    text_types: bool,
    post_id: int | None = None,
) -> tuple[object, ...]:
    """`receipt` as a row of `RECEIPT_COLUMNS`.

    :param report: what `report_of` made of it.
    :param received_at: as the database takes it.
    :param text_types: whether the database keeps times and prices as text (SQLite).
    :param post_id: the row of `posts` that has its post, where that is not in its own.
    """
    reported_at: object = receipt.reported_at
    price: object = receipt.price
    if text_types:
        if receipt.reported_at is not None:
            reported_at = iso(receipt.reported_at)
        if receipt.price is not None:
            price = str(receipt.price)
    return (
        received_at,
        receipt.endpoint,
        receipt.provider,
        receipt.kind.value,
        receipt.message_id,
        report.message_key,
        report.linked_key,
        receipt.state.value,
        receipt.code,
        receipt.description,
        receipt.recipient,
        report.recipient_key,
        receipt.sender,
        receipt.reference,
        reported_at,
        receipt.part,
        receipt.parts,
        price,
        receipt.network,
        receipt.text,
        json.dumps(receipt.extra, ensure_ascii=False) if receipt.extra else "{}",
        receipt.raw if post_id is None else b"",
        match.outcome.value,
        _variant(receipt, received_at),
        match.message_ref,
        json.dumps(receipt.unread, ensure_ascii=False) if receipt.unread else None,
        receipt.last_try,
        post_id,
    )


def _variant(receipt: Receipt, received_at: object) -> str:
    """What tells a receipt from others beside the fields that are always compared.

    Of a call's posts that is all else that they say; of others the values that could not be read.
    Where a post has neither an identifier nor a time, it is the receipt's own nonce; a record
    that an earlier version spooled has none, and is told by its time of receiving.
    """
    if receipt.kind is Kind.CALL:
        others: object = (
            receipt.state,
            receipt.description,
            receipt.sender,
            receipt.reference,
            receipt.parts,
            str(receipt.price),
            receipt.network,
            receipt.text,
            sorted(receipt.extra.items()),
        )
    elif receipt.nonce:
        return receipt.nonce
    elif receipt.message_id is None and receipt.reported_at is None and not receipt.linked_id:
        return str(received_at)
    elif receipt.unread:
        others = [(name, receipt.extra.get(name)) for name in receipt.unread]
    else:
        return ""
    return sha256(json.dumps(others).encode()).hexdigest()


def time(at: datetime | None) -> str | None:
    """`at` (aware, UTC) as people and programs read it: ISO 8601."""
    return at.isoformat().replace("+00:00", "Z") if at is not None else None


def readable(raw: bytes) -> str:
    """A stored body as text: as UTF-8, as UTF-16 where its mark says so, else byte by byte."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", "replace")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("iso8859-1")


def _as_it_is(value: Any) -> Any:
    return value


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)


def _list(text: str | None) -> list[str]:
    found: list[str] = json.loads(text) if text else []
    return found


_READ: dict[str, Callable[[Any], Any]] = {
    "received_at": time,
    "reported_at": time,
    "price": _text_or_none,
    "extra": json.loads,
    "unread": _list,
    "raw": readable,
}
_READERS = [(key, _READ.get(key, _as_it_is)) for key in RECEIPT_KEYS]


def receipt_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `receipts` by the keys that are used everywhere."""
    return {key: read(row[key]) for key, read in _READERS}


def rejection_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `rejected_posts` as people and programs read it."""
    return {
        "id": row["id"],
        "received_at": time(row["received_at"]),
        "endpoint": row["endpoint"],
        "provider": row["provider"],
        "reason": row["reason"],
        "field": row["field"],
        "text": row["text"],
        "peer": row["peer"],
        "content_type": row["content_type"],
        "raw": readable(row["raw"]),
    }
