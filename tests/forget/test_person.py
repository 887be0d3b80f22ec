"""A person's number is found however it is written, and nobody else's is."""

from __future__ import annotations

import base64
import json
from html import escape
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptd.forget.person import NotANumber, Person

NUMBER = "447700900123"
PERSON = Person("+44 7700 900123", (None, "GB"))


@pytest.mark.parametrize(
    "text",
    [
        NUMBER,
        "+447700900123",
        "00447700900123",
        "+44 (0)7700 900-123",
        "+0044 7700 900123",
        "07700 900 123",
        "7700.900.123",
        "tel:+44-7700-900123;phone-context=x",
        "44\u00a07700\u2011900123",
        "To=%2B447700900123&x=1",
        "To=%20447700900123%0A",
        "To=%2B44%207700%20900123",
        "To=%34%347700900123",
        "To=%2534%2534%2537700900123",
        "<To>&#52;&#x34;7700900123</To>",
        "<To>44<!-- -->7700900123</To>",
        r'{"to": "\u002b\u0034\u0034\u0037700900123"}',
        f"x{NUMBER}y",
        f"_1,{NUMBER},2",
    ],
)
def test_a_number_is_found_and_blanked_however_it_is_written(text):
    assert PERSON.within(text)
    assert PERSON.within(text.encode())
    clean = PERSON.blanked_text(text)
    assert not PERSON.within(clean)
    assert "900123" not in clean
    assert "***" in clean
    assert not PERSON.within(PERSON.blanked(text.encode()))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_number_is_found_in_utf_16(encoding):
    raw = f"<To>{NUMBER}</To><Id>7</Id>".encode(encoding)
    clean = PERSON.blanked(raw)
    assert PERSON.within(raw)
    assert not PERSON.within(clean)


def test_a_number_is_found_in_base64():
    body = base64.encodebytes(f'<?xml version="1.0"?><To>{NUMBER}</To>'.encode())
    raw = b"Content-Transfer-Encoding: base64\r\n\r\n" + body
    assert PERSON.within(raw)
    assert not PERSON.within(PERSON.blanked(raw))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4477009001234",
        "1447700900123",
        "44770090012",
        "447700900124",
        "9900447700900123",
        "To=%2B4477009001230",
        "To=%34447700900123",
        "4477009001&23",
        "2009-06-09 10:52:47.700900123",
    ],
)
def test_a_part_of_a_longer_number_is_somebody_else(text):
    assert not PERSON.within(text)
    assert PERSON.blanked_text(text) is text


def test_what_does_not_hold_the_number_stays_the_same_object():
    raw = b"To=%2B447700900124&Text=caf%C3%A9 \xff"
    assert PERSON.blanked(raw) is raw


def test_around_the_number_nothing_changes():
    raw = b"\xff\x00To=%2B447700900123&Other=%2B447700900124&Id=\xe9"
    assert PERSON.blanked(raw) == b"\xff\x00To=%2B***&Other=%2B447700900124&Id=\xe9"


def test_a_national_form_is_looked_for_where_a_region_has_it():
    assert not Person(NUMBER).within("07700900123")
    assert Person("07700900123", ("GB",)).within("+447700900123")


@pytest.mark.parametrize("number", ["", "12", "ACME", "4477a00900123", "1" * 21])
def test_what_is_no_number_is_refused(number):
    with pytest.raises(NotANumber):
        Person(number)


def test_a_short_number_is_compared_with_columns_alone():
    person = Person("12345")
    assert person.named("12345")
    assert person.named("+123-45")
    assert not person.searched
    assert not person.within("code 12345")


_ENCODINGS = [
    lambda text: text,
    quote,
    quote_plus,
    escape,
    json.dumps,
    lambda text: quote(json.dumps(text)),
    lambda text: "".join(f"&#{ord(each)};" for each in text),
    lambda text: "".join(f"%{ord(each):02X}" for each in text),
]


@given(
    separators=st.lists(st.sampled_from(["", " ", "-", ".", "/", " (", ") "]), min_size=11),
    prefix=st.sampled_from(["", "+", "00", "+ ", "tel:"]),
    before=st.sampled_from(["", "to=", "a ", '"', "<To>"]),
    after=st.sampled_from(["", "&x=1", " 5", '"', "</To>"]),
    encoded=st.sampled_from(_ENCODINGS),
)
def test_every_notation_in_every_encoding_is_found_and_blanked(
    separators, prefix, before, after, encoded
):
    written = "".join(map("".join, zip(NUMBER, [*separators[:11], ""], strict=True)))
    text = before + encoded(prefix + written) + after
    assert PERSON.within(text)
    clean = PERSON.blanked_text(text)
    assert not PERSON.within(clean)


@given(st.binary(max_size=300))
def test_blanking_takes_any_bytes(raw):
    clean = PERSON.blanked(raw)
    assert clean is raw or not PERSON.within(clean)


@given(st.text(max_size=100).filter(lambda text: "7700900123" not in text))
def test_blanking_takes_any_text(text):
    assert not PERSON.within(PERSON.blanked_text(text))
