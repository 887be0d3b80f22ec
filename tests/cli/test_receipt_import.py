"""`receipts import` stores what `receipts export` has written, once."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from kit.command_line import run
from kit.store import Store, new_engine, receipt
from receiptd.message import Message
from receiptd.receipt import Kind, State
from receiptd.registration import receipt_file

FORMATS = ("ndjson", "json", "csv")


@pytest.fixture
def database(tmp_path):
    """Makes a database of receipts; gives its URL, and what fills it."""
    made = []

    def make(name):
        url = f"sqlite:///{tmp_path / name}"
        store = Store(new_engine(url))
        made.append(store)
        return url, store

    yield make
    for store in made:
        store.writer.stop()


def fill(store, first, last):
    at = datetime(2026, 1, 31, tzinfo=UTC)
    for number in range(first, last):
        store.outcomes(
            receipt(
                f"M{number}",
                recipient=f"4477009{number:05d}",
                reported_at=at + timedelta(seconds=number),
                price=Decimal("1.50"),
                text="=1+1",
                extra={"note": "+not a number", "list": ["a", "b"]},
                raw=f'post "{number}"\n<ő>'.encode(),
            ),
            receipt(None, reported_at=None, text="nothing tells it from others"),
            receipt(f"C{number}", kind=Kind.CALL, extra={"stage": "ringing"}),
            receipt(f"U{number}", reported_at=None, unread=("done",), extra={"done": "soon"}),
        )


def exported(url, file, *options):
    result = run("receipts", "export", "--database", url, "--output", str(file), *options)
    assert result.exit_code == 0, result.stderr
    return file


def told(store):
    """What is stored, but for numbers."""
    left_out = ("id", "variant")
    return sorted(
        (
            {name: value for name, value in row._mapping.items() if name not in left_out}
            for row in store.receipts()
        ),
        key=repr,
    )


def counts(result):
    assert result.exit_code == 0, result.stderr
    words = result.stdout.split()
    return int(words[0]), int(words[3])


@pytest.mark.parametrize("layout", FORMATS)
def test_the_gap_behind_a_restored_backup_is_closed_once(database, tmp_path, layout):
    old_url, old = database("old.db")
    fill(old, 0, 5)
    backup = tmp_path / "restored.db"
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection:
        connection.execute(f"VACUUM INTO '{backup}'")
    fill(old, 5, 12)
    expected = told(old)
    url, restored = database("restored.db")
    fill(restored, 20, 22)  # what came since, under numbers that the gap's had
    since = [row for row in told(restored) if row not in expected]
    file = exported(old_url, tmp_path / f"gap.{layout}", "--raw")
    assert counts(run("receipts", "import", str(file), "--database", url)) == (28, 20)
    assert told(restored) == sorted(expected + since, key=repr)
    assert counts(run("receipts", "import", str(file), "--database", url)) == (0, 48)
    assert told(restored) == sorted(expected + since, key=repr)


def test_imported_receipts_are_matched_with_messages(database, tmp_path):
    old_url, old = database("old.db")
    old.outcomes(receipt("A", state=State.DELIVERED))
    file = exported(old_url, tmp_path / "a.ndjson", "--raw")
    url, new = database("new.db")
    new.register(Message("csoft", "A", None))
    assert counts(run("receipts", "import", str(file), "--database", url)) == (1, 0)
    assert new.message().state == "DELIVERED"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense\n", "line 1: no JSON object"),
        ("[1]\n", "line 1: no JSON object"),
        ('{"id": 1}\n', "line 1: not an exported receipt: 'received_at' is missing"),
        ("[" * 100_000, "line 1: no JSON object"),
    ],
)
def test_a_line_that_is_none_is_named(database, tmp_path, text, says):
    url, _ = database("new.db")
    file = tmp_path / "bad.ndjson"
    file.write_text(text)
    result = run("receipts", "import", str(file), "--database", url)
    assert result.exit_code == 1
    assert says in result.stderr
    assert "0 receipts stored before it" in result.stderr


GOOD = {
    "id": 1,
    "received_at": "2026-01-31T18:00:00Z",
    "endpoint": "soap",
    "provider": "csoft",
    "kind": "delivery",
    "state": "DELIVERED",
    "message_id": "A",
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", 2**63),
        ("id", float("inf")),
        ("id", "\u0663"),
        ("received_at", "0001-01-01T00:00:00+14:00"),
        ("reported_at", "9999-12-31T23:59:59-14:00"),
        ("kind", None),
        ("kind", {}),
        ("provider", "a\ud800"),
        ("message_id", "a\0"),
        ("raw", "\udfff"),
        ("price", "NaN"),
        ("price", "1e999999999"),
        ("extra", {"a": float("nan")}),
        ("extra", {"\ud800": "a"}),
        ("unread", "abc"),
    ],
)
def test_a_value_that_no_database_takes_is_named(database, tmp_path, field, value):
    url, store = database("new.db")
    file = tmp_path / "bad.ndjson"
    file.write_text(json.dumps(GOOD | {field: value}) + "\n")
    result = run("receipts", "import", str(file), "--database", url)
    assert result.exit_code == 1, result.output
    assert f"line 1: not an exported receipt: {field}" in result.stderr.replace("'", "")
    assert store.receipts() == []


def test_a_cell_nested_too_deeply_is_named(database, tmp_path):
    url, _ = database("new.db")
    file = tmp_path / "bad.csv"
    row = GOOD | {"extra": "[" * 100_000}
    file.write_text(f"{','.join(row)}\n{','.join(map(str, row.values()))}\n")
    result = run("receipts", "import", str(file), "--database", url)
    assert result.exit_code == 1, result.output
    assert "not an exported receipt" in result.stderr


def test_a_byte_order_mark_and_a_very_small_price_are_read(database, tmp_path):
    url, store = database("new.db")
    file = tmp_path / "good.ndjson"
    file.write_text("\ufeff" + json.dumps(GOOD | {"price": "1E-7"}) + "\n")
    assert counts(run("receipts", "import", str(file), "--database", url)) == (1, 0)
    assert store.receipts()[0].price == Decimal("1E-7")


@pytest.mark.parametrize("layout", ["ndjson", "csv"])
def test_a_line_without_an_end_is_not_read_whole(database, tmp_path, monkeypatch, layout):
    monkeypatch.setattr(receipt_file, "LONGEST_LINE", 1000)
    url, _ = database("new.db")
    file = tmp_path / f"long.{layout}"
    file.write_text("id\n" * (layout == "csv") + "1" * 1001)
    result = run("receipts", "import", str(file), "--database", url)
    assert result.exit_code == 1
    assert f"line {1 + (layout == 'csv')}: longer than 1000 characters" in result.stderr
