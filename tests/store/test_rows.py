"""One receipt has the same fields wherever it is: in the post, the table, the spool, the API."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from kit.store import AT, receipt
from receiptd.cli.exporting import COLUMNS
from receiptd.receipt import RECEIPT_KEYS, Kind, Outcome, Receipt, State, distinct
from receiptd.store.candidates import Match, Policy, report_of
from receiptd.store.phone import e164
from receiptd.store.recorder import Submission
from receiptd.store.rows import RECEIPT_COLUMNS, receipt_json, receipt_row
from receiptd.store.schema import receipts
from receiptd.store.spool.records import decode, encode, payload_of
from receiptd.web.api.shapes import Receipt as Shape

FULL = Receipt(
    endpoint="soap",
    provider="csoft",
    kind=Kind.DELIVERY,
    message_id="A",
    state=State.DELIVERED,
    code="0",
    recipient="1",
    reported_at=AT,
    raw=b"\x00raw",
    description="d",
    sender="s",
    reference="r",
    part=0,
    parts=2,
    price=Decimal("0.00"),
    network="23415",
    text="t",
    extra={"a": "1", "t": "soon"},
    linked_id="B",
    unread=("t",),
    backup=True,
    last_try=3,
    nonce="n",
)
HINTS = {"linked_id", "backup", "last_try", "nonce"}
"""What matching and the duplicate key need, and no reader."""


def test_every_field_is_set_here():
    assert all(value is not None for value in FULL)


def test_the_keys_are_the_fields_and_what_storing_adds():
    assert set(RECEIPT_KEYS) == set(Receipt._fields) - HINTS | {
        *("id", "received_at", "verdict", "repeats")
    }
    assert tuple(Shape.model_fields) == RECEIPT_KEYS == COLUMNS


@pytest.mark.parametrize("sent", [FULL, receipt()])
def test_a_receipt_is_the_same_behind_the_spool(sent):
    entry = decode(payload_of(encode(Submission(None, [sent]), AT)) or b"")
    assert entry.submission.receipts == (sent,)


def test_a_row_has_a_value_for_each_column_and_is_read_back():
    report = report_of(FULL, {"soap": Policy()}, AT)
    row = receipt_row(FULL, report, Match(Outcome.ACCEPTED, None), AT, False)
    values = dict(zip(RECEIPT_COLUMNS, row, strict=True))
    assert {*values} == {column.name for column in receipts.columns} - {"id", "repeats"}
    shown = receipt_json(values | {"id": 1, "repeats": 0})
    for name in set(RECEIPT_KEYS) & set(Receipt._fields) - {"raw", "reported_at"}:
        kept = getattr(FULL, name)
        assert shown[name] == (
            list(kept) if name == "unread" else str(kept) if name == "price" else kept
        )


def test_a_nonce_is_made_once():
    first = distinct(receipt(None, reported_at=None))
    assert len(first.nonce) == 16
    assert distinct(first) == first
    assert first != distinct(receipt(None, reported_at=None))
    assert distinct(receipt(reported_at=AT + timedelta(1))).nonce == ""


@pytest.mark.parametrize(
    ("number", "region", "key"),
    [
        ("+44 (0)7700 900123", None, "447700900123"),
        ("+4407700900123", None, "447700900123"),
        ("4407700900123", None, "447700900123"),
        ("0044(0)7700.900.123", None, "447700900123"),
        ("+44.7700.900123", None, "447700900123"),
        ("+0044 7700 900123", None, "447700900123"),
        ("07700 900123", "GB", "447700900123"),
        ("447700900123", "GB", "447700900123"),
        ("07700 900123", None, "07700900123"),
        ("+39 06 6982", None, "39066982"),
        ("+3906 698 12345", None, "390669812345"),
        ("+225 07 01 02 03 04", None, "2250701020304"),
        ("36301234567", None, "36301234567"),
        ("+36 (06) 30 123 4567", None, "36301234567"),
        ("+49 (0) 171 1234567", None, "491711234567"),
        ("+353 (0)85 012 3456", None, "353850123456"),
        ("7572373369", "US", "17572373369"),
        ("0", None, "0"),
        ("+", None, ""),
    ],
)
def test_phone_numbers_compare_in_any_form(number, region, key):
    assert e164(number, region) == key
