"""SeeMe's callbacks, a row each: the request as SeeMe sends it, the reply, the receipt."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from kit.exchange import (
    Case,
    Nonsense,
    Unread,
    bound,
    form,
    get,
    multipart,
    read,
    sample,
)
from receiptd.providers import Reply
from receiptd.providers.seeme import SeeMe
from receiptd.receipt import Kind, State

DELIVERED = {
    "kind": Kind.DELIVERY,
    "message_id": "sms43",
    "reference": "sms43",
    "state": State.DELIVERED,
    "code": "6",
    "description": "Delivered",
}

CASES = [
    Case(
        "the vendor's example, its text in ISO-8859-2",
        sample("seeme-delivered.http"),
        DELIVERED
        | {
            "recipient": "36301234567",
            "description": "Kézbesítve",
            "price": Decimal("13.90"),
            "reported_at": datetime(2013, 9, 1, 7, 12, 29, tzinfo=UTC),
            "parts": 2,
        },
    ),
    Case(
        "every parameter of the table",
        get(
            "reference=sms43&number=36301234567&sender=Teszt&code=6&message=Delivered&price=13.9"
            "&timestamp=2013-01-01+09:12:29&mccmnc=21630&split=1"
        ),
        DELIVERED
        | {
            "recipient": "36301234567",
            "sender": "Teszt",
            "price": Decimal("13.9"),
            "reported_at": datetime(2013, 1, 1, 8, 12, 29, tzinfo=UTC),
            "network": "21630",
            "parts": 1,
        },
    ),
    Case("a message and a status, nothing else", get("reference=sms43&code=6"), DELIVERED),
    Case(
        "everything else empty",
        get("reference=sms43&number=&sender=&code=6&message=&price=&timestamp=&mccmnc=&split="),
        DELIVERED,
    ),
    Case(
        "text in UTF-8",
        get("reference=sms43&code=6&message=K%C3%A9zbes%C3%ADtve"),
        DELIVERED | {"description": "Kézbesítve"},
    ),
    Case(
        "a letter that only ISO-8859-2 has",
        get("reference=sms43&code=6&message=el%F5fizet%F5"),
        DELIVERED | {"description": "előfizető"},
    ),
    Case(
        "bytes that are not percent-encoded",
        get("reference=sms43&code=6&message=Kézbesítve".encode("iso8859-2")),
        DELIVERED | {"description": "Kézbesítve"},
    ),
    Case("a form post", form("reference=sms43&code=6"), DELIVERED),
    Case("a multipart form", multipart(reference="sms43", code="6"), DELIVERED),
    Case("a form post and a query", form("code=6", "reference=sms43"), DELIVERED),
    Case("names in another case", get("REFERENCE=sms43&Code=6"), DELIVERED),
    Case(
        "a parameter that the vendor does not document",
        get("reference=sms43&code=6&campaign=spring&campaign=sale&empty="),
        DELIVERED | {"extra": {"campaign": ["spring", "sale"], "empty": ""}},
    ),
    Case(
        "a repeated parameter: the first counts, the other is kept",
        get("reference=sms43&code=6&code=7"),
        DELIVERED | {"extra": {"code": "7"}},
    ),
    Case("the endpoint's token", get("reference=sms43&code=6&token=secret"), DELIVERED),
    Case(
        "a status of no table",
        get("reference=sms43&code=11&message=Valami"),
        DELIVERED | {"state": State.UNKNOWN, "code": "11", "description": "Valami"},
    ),
    Case(
        "a recipient with country code and punctuation",
        get("reference=sms43&code=6&number=%2B36+(30)+123-4567"),
        DELIVERED | {"recipient": "+36 (30) 123-4567"},
    ),
    Case(
        "an hour that the clock change skips: read with the offset before it",
        get("reference=sms43&code=6&timestamp=2024-03-31+02:30:00"),
        DELIVERED | {"reported_at": datetime(2024, 3, 31, 1, 30, tzinfo=UTC)},
    ),
    Case(
        "an hour that occurs twice: the first of them",
        get("reference=sms43&code=6&timestamp=2024-10-27+02:30:00"),
        DELIVERED | {"reported_at": datetime(2024, 10, 27, 0, 30, tzinfo=UTC)},
    ),
]


NONSENSE = [
    Nonsense("no reference", get("code=6"), "reference", "missing"),
    Nonsense("an empty reference", get("reference=+&code=6"), "reference", "missing"),
    Nonsense("a long reference", get(f"reference={'x' * 256}&code=6"), "reference", "256"),
    Nonsense("no status", get("reference=sms43"), "code", "missing"),
]


STATES = {
    "1": "UNDELIVERABLE",
    "2": "ENROUTE",
    "3": "ENROUTE",
    "4": "ACCEPTED",
    "5": "REJECTED",
    "6": "DELIVERED",
    "7": "UNDELIVERABLE",
    "8": "ENROUTE",
    "9": "EXPIRED",
    "10": "UNKNOWN",
}


def test_the_price_keeps_its_zeros() -> None:
    receipt = read(bound(SeeMe), get("reference=sms43&code=6&price=13.90"))
    assert str(receipt.price) == "13.90"


def test_times_are_read_in_the_configured_zone() -> None:
    provider = bound(SeeMe, timezone="UTC")
    receipt = read(provider, get("reference=sms43&code=6&timestamp=2013-09-01+09:12:29"))
    assert receipt.reported_at == datetime(2013, 9, 1, 9, 12, 29, tzinfo=UTC)


def test_the_reply_is_an_empty_200() -> None:
    assert bound(SeeMe).answer([], []) == Reply(200, b"", "text/plain; charset=utf-8")


UNREAD = [
    Unread("a word as number", get("reference=s&code=6&number=Anna"), "number", "Anna"),
    Unread("a word as price", get("reference=s&code=6&price=free"), "price", "free"),
    Unread("a price in binary", get("reference=s&code=6&price=1e3"), "price", "1e3"),
    Unread(
        "a price that is too long", get(f"reference=s&code=6&price={'9' * 41}"), "price", "9" * 41
    ),
    Unread(
        "a price and its currency", get("reference=s&code=6&price=13.90+HUF"), "price", "13.90 HUF"
    ),
    Unread(
        "no day",
        get("reference=s&code=6&timestamp=2013-02-30+09:12:29"),
        "timestamp",
        "2013-02-30 09:12:29",
    ),
    Unread("no time", get("reference=s&code=6&timestamp=yesterday"), "timestamp", "yesterday"),
    Unread("a name as it was sent", get("reference=s&code=6&TimeStamp=soon"), "TimeStamp", "soon"),
    Unread("parts that are none", get("reference=s&code=6&split=two"), "split", "two"),
    Unread(
        "more parts than there can be",
        get("reference=s&code=6&split=999999999"),
        "split",
        "999999999",
    ),
    Unread("fewer than none", get("reference=s&code=6&split=-1"), "split", "-1"),
    Unread("a network by name", get("reference=s&code=6&mccmnc=Telekom"), "mccmnc", "Telekom"),
    Unread("a status that is too long", get(f"reference=s&code={'x' * 65}"), "code", "x" * 65),
]


@pytest.mark.parametrize("code", ["six", "\u0666", "6.0"])
def test_a_status_that_is_no_number_is_kept_as_the_code(code: str) -> None:
    receipt = read(bound(SeeMe), get(f"reference=s&code={code}"))
    assert (receipt.state, receipt.code, receipt.unread) == (State.UNKNOWN, code, ())


@pytest.mark.parametrize(
    "time",
    ["0000-00-00+00:00:00", "0001-01-01+00:30", "NULL", "null", "0", "0001-01-01T00:00:00Z"],
)
def test_what_says_that_there_is_no_time_is_none(time: str) -> None:
    receipt = read(bound(SeeMe), get(f"reference=s&code=6&timestamp={time}"))
    assert (receipt.reported_at, receipt.unread) == (None, ())


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("2024-05-17T10:20:31%2B01:00", datetime(2024, 5, 17, 9, 20, 31, tzinfo=UTC)),
        ("2024-05-17T10:20:31%252B01:00", datetime(2024, 5, 17, 9, 20, 31, tzinfo=UTC)),
        ("2024-05-17T10:20:31+01:00", datetime(2024, 5, 17, 9, 20, 31, tzinfo=UTC)),
        ("2024-05-17 10:20:31,5 %2B0100", datetime(2024, 5, 17, 9, 20, 31, 500000, UTC)),
        ("2024/05/17 10:20", datetime(2024, 5, 17, 8, 20, tzinfo=UTC)),
        ("2024-05-17T24:00:00Z", datetime(2024, 5, 18, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        ("1715941231", datetime(2024, 5, 17, 10, 20, 31, tzinfo=UTC)),
        ("1715941231500", datetime(2024, 5, 17, 10, 20, 31, 500000, UTC)),
        ("20240517102031", datetime(2024, 5, 17, 8, 20, 31, tzinfo=UTC)),
        ("20240517T102031Z", datetime(2024, 5, 17, 10, 20, 31, tzinfo=UTC)),
        ("240517102031012-", datetime(2024, 5, 17, 13, 20, 31, tzinfo=UTC)),
    ],
)
def test_a_time_in_another_common_notation_is_read(written: str, time: datetime) -> None:
    receipt = read(bound(SeeMe), get(f"reference=s&code=6&timestamp={written}"))
    assert (receipt.reported_at, receipt.unread) == (time, ())


@pytest.mark.parametrize(
    ("price", "amount"), [("13,90", "13.90"), ("1.234,50", "1234.50"), ("1,234.50", "1234.50")]
)
def test_a_price_may_have_a_comma(price: str, amount: str) -> None:
    receipt = read(bound(SeeMe), get(f"reference=s&code=6&price={price}"))
    assert str(receipt.price) == amount


def test_the_example_as_the_vendors_page_shows_it() -> None:
    receipt = read(bound(SeeMe), sample("cases/15-seeme-example-as-the-page-shows-it.http"))
    assert (str(receipt.price), receipt.parts, receipt.unread) == ("13.90", 2, ())
    assert receipt.reported_at == datetime(2024, 5, 17, 8, 20, 31, tzinfo=UTC)
