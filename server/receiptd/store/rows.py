"""Receipts as rows and rows as receipts: what goes into the tables and what people read of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any, NamedTuple

from receiptd.receipt import Kind, Receipt
from receiptd.store.matching import Match, Report
from receiptd.store.schema import iso


class Rejection(NamedTuple):
    """A post that was not taken as a receipt, kept so that an integration can be debugged."""

    received_at: datetime
    endpoint: str
    provider: str
    reason: str
    """`invalid`, `unauthorized` or `unreadable`."""
    field: str | None
    text: str
    peer: str | None
    content_type: str | None
    raw: bytes
    """The post as it came, credentials and tokens blanked."""


REJECTION_COLUMNS = Rejection._fields

RECEIPT_COLUMNS = (
    "received_at",
    "endpoint",
    "provider",
    "kind",
    "message_id",
    "message_key",
    "linked_key",
    "state",
    "code",
    "description",
    "recipient",
    "recipient_key",
    "sender",
    "reference",
    "reported_at",
    "part",
    "parts",
    "price",
    "network",
    "text",
    "extra",
    "raw",
    "verdict",
    "variant",
    "message_ref",
)
"""The columns that `receipt_row` fills, in its order."""


def receipt_row(
    receipt: Receipt, report: Report, match: Match, received_at: object, text_types: bool
) -> tuple[object, ...]:
    """`receipt` as a row of `RECEIPT_COLUMNS`.

    :param report: what `report_of` made of it.
    :param received_at: as the database takes it.
    :param text_types: whether the database keeps times and prices as text (SQLite).
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
        receipt.raw,
        match.outcome.value,
        _variant(receipt) if receipt.kind is Kind.CALL else "",
        match.message_ref,
    )


def _variant(receipt: Receipt) -> str:
    """What a call's posts differ in beside the fields that are compared anyway."""
    others = (
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


def receipt_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `receipts` by the keys that are used everywhere."""
    price: Decimal | None = row["price"]
    return {
        "id": row["id"],
        "received_at": time(row["received_at"]),
        "endpoint": row["endpoint"],
        "provider": row["provider"],
        "kind": row["kind"],
        "message_id": row["message_id"],
        "state": row["state"],
        "code": row["code"],
        "description": row["description"],
        "recipient": row["recipient"],
        "sender": row["sender"],
        "reference": row["reference"],
        "reported_at": time(row["reported_at"]),
        "part": row["part"],
        "parts": row["parts"],
        "price": str(price) if price is not None else None,
        "network": row["network"],
        "text": row["text"],
        "extra": json.loads(row["extra"]),
        "raw": readable(row["raw"]),
        "verdict": row["verdict"],
        "repeats": row["repeats"],
    }


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
