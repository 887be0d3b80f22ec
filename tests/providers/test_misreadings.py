"""Small misreadings: notations that no vendor documents and that come all the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.wire import post
from receiptd.config import Endpoint
from receiptd.providers import Invalid, Post
from receiptd.providers.clocks import utc
from receiptd.providers.easysms import EasySms
from receiptd.providers.seeme import SeeMe
from receiptd.providers.times import epoch_time, formatted_time
from receiptd.providers.values import iso_time, part_and_count, phone, smpp_time, us_time

ROME = ZoneInfo("Europe/Rome")
AT = datetime(2026, 11, 25, 10, 0, 7, tzinfo=UTC)


def easysms() -> EasySms:
    return Endpoint(provider="easysms", path="/e").bind()


@pytest.mark.parametrize("read", [iso_time, us_time, smpp_time])
@pytest.mark.parametrize(
    "text",
    [
        "Wed, 25 Nov 2026 10:00:07 GMT",
        "Wed, 25 Nov 2026 11:00:07 +0100",
        "Wed, 25 Nov 2026 11:00:07  0100",  # a plus that has become a space
        "Wed, 25 Nov 2026 05:00:07 -0500",
        "wed, 25 nov 2026 10:00:07 utc",
        "25 Nov 2026 11:00:07",
        "Wednesday, 25-Nov-26 10:00:07 GMT",
        "Wed%2C%2025%20Nov%202026%2010%3A00%3A07%20GMT",
        "Wed Nov 25 11:00:07 2026",
    ],
)
def test_the_dates_of_mail_and_http_are_read(read, text):
    assert read("at", text, ROME) == AT


@pytest.mark.parametrize(
    "text",
    ["Wed, 25 Foo 2026 10:00:07 GMT", "Wed, 31 Feb 2026 10:00:07 GMT", "Wed, 25 Nov", "Nov"],
)
def test_what_only_looks_like_one_is_invalid(text):
    with pytest.raises(Invalid):
        iso_time("at", text, ROME)


@given(st.datetimes(datetime(2001, 1, 1), datetime(2099, 12, 31)))
def test_whatever_time_is_written_so_is_that_time(at):
    at = at.replace(microsecond=0)
    text = at.strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert iso_time("at", text, ROME) == at.replace(tzinfo=UTC)
    assert iso_time("at", at.strftime("%a %b %e %H:%M:%S %Y"), ROME) == utc(at, ROME)


@pytest.mark.parametrize(
    "text",
    [
        "1970-01-01 00:00:00",
        "1970-01-01 01:00:00",  # zero in Rome
        "1970-01-01T00:00:00Z",
        "1969-12-31 19:00:00",  # zero in New York
        "1/1/1970 12:00:00 AM",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "0001-01-01T00:00:00",
    ],
)
def test_the_first_second_of_unix_is_no_time_in_whatever_zone_it_is_written(text):
    assert iso_time("at", text, ROME) is None
    assert us_time("at", text, ROME) is None


def test_nor_is_it_one_in_other_forms():
    assert formatted_time("at", "01.01.1970 01:00", ROME, "%d.%m.%Y %H:%M") is None
    assert epoch_time("at", "0") is None
    assert epoch_time("at", "-3600") is None
    assert epoch_time("at", "3600000", 1000) is None
    assert epoch_time("at", "1000000000") == datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
    assert iso_time("at", "1970-01-02 12:00", UTC) == datetime(1970, 1, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("tel:+447700900123", "+447700900123"),
        ("TEL:447700900123", "447700900123"),
        ("tel:+44-7700-900123;ext=5", "+44-7700-900123"),
        ("tel:%2B447700900123", "+447700900123"),
    ],
)
def test_the_number_of_a_tel_uri_is_read(text, number):
    assert phone("to", text) == number


@pytest.mark.parametrize("text", ["tel:", "tel:;ext=5", "sip:a@b", "tell:5"])
def test_another_uri_is_no_number(text):
    with pytest.raises(Invalid):
        phone("to", text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2", (2, None)),
        ("2/3", (2, 3)),
        ("02 / 03", (2, 3)),
        ("1/1", (1, 1)),
        (None, (None, None)),
    ],
)
def test_a_part_may_come_with_how_many_there_are(text, expected):
    assert part_and_count("part", text) == expected


@pytest.mark.parametrize("text", ["2/", "/3", "2/3/4", "1/256", "a/b", "2/-1"])
def test_half_a_part_is_invalid(text):
    with pytest.raises(Invalid):
        part_and_count("part", text)


def test_easysms_stores_part_and_parts_and_writes_them_again():
    easy = easysms()
    query = b"id=7&d=1&status=DELIVRD&to=34600000000&part=2%2F3"
    (receipt,) = easy.read(Post("GET", query))
    assert (receipt.part, receipt.parts, receipt.unread) == (2, 3, ())
    (again,) = easy.read(easy.write(receipt))
    assert (again.part, again.parts) == (2, 3)
    (receipt,) = easy.read(Post("GET", b"id=7&d=1&part=2/x"))
    assert (receipt.part, receipt.parts, receipt.unread) == (None, None, ("part",))
    assert receipt.extra["part"] == "2/x"


def test_seeme_s_time_of_zero_is_none_and_not_unread():
    seeme: SeeMe = Endpoint(provider="seeme", path="/s").bind()
    (receipt,) = seeme.read(Post("GET", b"reference=a&code=6&timestamp=1970-01-01+01:00:00"))
    assert (receipt.reported_at, receipt.unread) == (None, ())


def test_easysms_may_come_as_a_form(shared_default):
    body = b"id=POSTED-FORM-1&d=1&status=DELIVRD&to=34600000000&done=2026-11-25+11:00&part=1/2"
    answer = post(
        shared_default.port, body, "/easysms", content_type="application/x-www-form-urlencoded"
    )
    assert answer.status == 200
    (receipt,) = [
        each for each in shared_default.receipts() if each["message_id"] == "POSTED-FORM-1"
    ]
    assert (receipt["state"], receipt["part"], receipt["parts"]) == ("DELIVERED", 1, 2)
    assert datetime.fromisoformat(receipt["reported_at"]) == AT - timedelta(seconds=7)
