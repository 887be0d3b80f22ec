"""Configured secrets are found by their value, however they are written, and blanked."""

from __future__ import annotations

import json
import re
from base64 import b64encode, encodebytes, urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from gzip import compress
from html import escape
from quopri import encodestring
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptd.blanking.by_value import MOST, KnownSecrets
from receiptd.receipt import Kind, Receipt, State

SECRET = "BLUE.mus/c+4711 &<é"
PLAIN = "BLUE.music"

Writing = Callable[[str], bytes]

WRITINGS: dict[str, Writing] = {
    "as it is": lambda text: text.encode(),
    "Latin-1": lambda text: text.encode("latin-1"),
    "percent-encoded": lambda text: quote(text, safe="").encode(),
    "percent-encoded in lower case": lambda text: re.sub(
        "%..", lambda found: found[0].lower(), quote(text, safe="")
    ).encode(),
    "percent-encoded as a form": lambda text: quote_plus(text).encode(),
    "percent-encoded as a form in Latin-1": lambda text: quote_plus(
        text, encoding="latin-1"
    ).encode(),
    "every byte percent-encoded": lambda text: b"".join(b"%%%02x" % b for b in text.encode()),
    "percent-encoded twice": lambda text: quote(quote(text, safe=""), safe="").encode(),
    "percent-encoded three times": lambda text: quote(quote(quote(text, safe=""))).encode(),
    "escaped as XML": lambda text: escape(text).encode(),
    "escaped as XML twice": lambda text: escape(escape(text)).encode(),
    "decimal references": lambda text: "".join(f"&#{ord(c)};" for c in text).encode(),
    "references with zeros": lambda text: "".join(f"&#000{ord(c)};" for c in text).encode(),
    "hexadecimal references": lambda text: "".join(f"&#x{ord(c):X};" for c in text).encode(),
    "references percent-encoded": lambda text: quote(
        "".join(f"&#{ord(c)};" for c in text), safe=""
    ).encode(),
    "one reference": lambda text: f"{escape(text[0])}&#{ord(text[1])};{escape(text[2:])}".encode(),
    "JSON": lambda text: json.dumps(text).encode(),
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)).encode(),
    "JSON, all escaped": lambda text: "".join(f"\\u{ord(c):04X}" for c in text).encode(),
    "JSON with escaped slashes": lambda text: json.dumps(text).replace("/", "\\/").encode(),
    "UTF-7": lambda text: text.encode("utf-7"),
    "UTF-7, all of it in base64": lambda text: (
        b"+" + b64encode(text.encode("utf-16-be")).rstrip(b"=") + b"-"
    ),
    "EBCDIC": lambda text: f"<?xml encoding='cp037'?><a>{text}</a>".encode("cp037"),
    "gzip": lambda text: compress(b"<a>" + text.encode() + b"</a>"),
    "gzip that is cut off": lambda text: compress(text.encode() + bytes(range(250)) * 2)[:-20],
    "zero-width spaces": lambda text: "\u200b".join(text).encode(),
    "zero-width spaces, percent-encoded": lambda text: quote("\u200b".join(text)).encode(),
    "zero-width spaces as references": lambda text: "&#8203;".join(text).encode(),
    "byte order marks": lambda text: "\ufeff".join(text).encode(),
    "soft hyphens in Latin-1": lambda text: "\xad".join(text).encode("latin-1"),
    "tags of plane 14": lambda text: "\U000e0041".join(text).encode(),
    "control characters": lambda text: "\x01".join(text).encode(),
    "control characters, percent-encoded": lambda text: quote("\x01".join(text)).encode(),
    "line feeds": lambda text: "\n".join(text).encode(),
    "a part of a mail in base64": lambda text: (
        b"Content-Transfer-Encoding: BASE64\r\n\r\n" + encodebytes(b"x" * 50 + text.encode() * 2)
    ),
    "a part of a mail, quoted": lambda text: (
        b"Content-Transfer-Encoding: QUOTED-PRINTABLE\r\n\r\n"
        + b"".join(b"=%02X" % byte for byte in text.encode())
    ),
    "UTF-16LE": lambda text: text.encode("utf-16-le"),
    "UTF-16BE": lambda text: text.encode("utf-16-be"),
    "escaped as XML in UTF-16": lambda text: escape(text).encode("utf-16"),
    "base64": lambda text: b64encode(text.encode()),
    "base64 for URLs": lambda text: urlsafe_b64encode(text.encode()),
    "base64 of a pair": lambda text: b64encode(b"dlr:" + text.encode()),
    "base64 of another pair": lambda text: b64encode(b"ann:" + text.encode() + b"x"),
    "base64 of a pair, percent-encoded": lambda text: quote(
        b64encode(b"a:" + text.encode()), safe=""
    ).encode(),
    "CDATA": lambda text: f"<![CDATA[{text}]]>".encode(),
    "split over CDATA sections": lambda text: (
        f"<![CDATA[{text[:4]}]]><![CDATA[{text[4:]}]]>".encode()
    ),
    "a comment in it": lambda text: f"{text[:3]}<!-- {'-' * 300}x-->{text[3:]}".encode(),
    "an instruction in it": lambda text: f"{text[:3]}<?a b?>{text[3:]}".encode(),
    "quoted-printable": lambda text: (
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + encodestring(text.encode())
    ),
    "base64 over several lines": lambda text: (
        b"Content-Transfer-Encoding: base64\r\n\r\n"
        + b"\r\n".join(b64encode(text.encode())[start : start + 5] for start in range(0, 40, 5))
    ),
}


def holds(kept: bytes, secret: str) -> bool:
    """Whether `secret` can be read in `kept`, by a look at it that is not the code's own."""
    return any(
        len(piece) > 3 and piece in kept
        for writing in WRITINGS.values()
        for piece in (writing(secret), writing(secret).rstrip(b"="))
    )


@pytest.mark.parametrize("secret", [SECRET, PLAIN])
@pytest.mark.parametrize("writing", WRITINGS.values(), ids=WRITINGS)
def test_a_secret_is_blanked_in_every_writing(writing: Writing, secret: str) -> None:
    known = KnownSecrets([secret])
    for before, behind in ((b"a=1&x=", b"&b=2"), (b"<x y='", b"'/>"), (b'{"x": "', b'"}')):
        body = before + writing(secret) + behind
        kept = known.blanked(body)
        assert kept != body
        assert not holds(kept, secret)
        assert b"***" in kept


@pytest.mark.parametrize("writing", WRITINGS.values(), ids=WRITINGS)
def test_no_post_with_a_secret_passes_for_one_without(writing: Writing) -> None:
    known = KnownSecrets([SECRET])
    assert not known.absent(b"id=" + writing(SECRET) + b"&d=1")


@pytest.mark.parametrize(
    ("writing", "kept"),
    [
        (b"a=1&x=BLUE.music&b=2", b"a=1&x=***&b=2"),
        (b"a=1&x=%42LUE%2emusic&b=2", b"a=1&x=***&b=2"),
        (b"<x>BLU&#69;.music</x>", b"<x>***</x>"),
        (b'{"x": "BLU\\u0045.music"}', b'{"x": "***"}'),
        (b"Basic " + b64encode(b"dlr:BLUE.music") + b" x", b"Basic *** x"),
        (b"1BLUE.music2BLUE.music", b"1***2***"),
    ],
)
def test_what_stands_beside_a_secret_stays(writing: bytes, kept: bytes) -> None:
    assert KnownSecrets([PLAIN]).blanked(writing) == kept


def test_a_post_without_a_secret_is_the_same_object() -> None:
    body = b"a=%41&b=&#65;&c=\\u0041&d=BLUE.musi"
    assert KnownSecrets([PLAIN]).blanked(body) is body
    assert KnownSecrets().blanked(body) is body


def test_a_pin_of_digits_is_no_part_of_another_number() -> None:
    known = KnownSecrets(["4711"])
    assert known.blanked(b"SentTo=447700471100&Report=0") == b"SentTo=447700471100&Report=0"
    assert known.blanked(b"x=4711&y=%3D4711") == b"x=***&y=%3D***"


def test_a_secret_that_is_too_short_blanks_nothing() -> None:
    assert KnownSecrets(["0", "abc", " abc "]).blanked(b"Report=0&x=abc") == b"Report=0&x=abc"


def test_a_secret_of_a_few_digits_leaves_columns_and_lines_alone() -> None:
    receipt = _receipt(message_id="4711", extra={"x": "4711", "4711": ["4711", {"y": 4711}]})
    known = KnownSecrets(["4711"])
    clean = known.receipt(receipt, receipt.raw)
    assert clean.message_id == "4711"
    assert clean.extra == {"x": "***", "***": ["***", {"y": "***"}]}
    assert known.blanked_line("to 4711") == "to 4711"


def test_a_secret_in_a_column_is_blanked() -> None:
    known = KnownSecrets([PLAIN])
    receipt = _receipt(message_id="BLUE.music-1", text="x BLUE.music", extra={"a": "B%4cUE.music"})
    clean = known.receipt(receipt, b"raw")
    assert (clean.message_id, clean.text, clean.extra) == ("***-1", "x ***", {"a": "***"})
    assert clean.raw == b"raw"


def test_a_receipt_without_a_secret_is_the_same_object() -> None:
    receipt = _receipt(message_id="1", extra={"a": "b", "c": [1, None, True]})
    assert KnownSecrets([PLAIN]).receipt(receipt, receipt.raw) is receipt


def test_secrets_of_an_earlier_configuration_stay_known() -> None:
    known = KnownSecrets(["first secret"])
    known.learn(["second secret"])
    assert known.blanked(b"first secret, second secret") == b"***, ***"


def test_so_many_secrets_are_known_and_no_more() -> None:
    known = KnownSecrets(f"secret-{number:06}" for number in range(MOST + 1))
    assert known.blanked(b"secret-000000") == b"secret-000000"
    assert known.blanked(b"secret-001000") == b"***"


def test_a_longer_secret_goes_before_one_within_it() -> None:
    assert KnownSecrets(["secret", "secret-1"]).blanked(b"a secret-1 b") == b"a *** b"


ENCODERS: list[Callable[[bytes], bytes]] = [
    lambda data: quote(data, safe="").encode(),
    lambda data: b"".join(b"%%%02X" % byte for byte in data),
    lambda data: data.replace(b"&", b"&amp;").replace(b"<", b"&lt;"),
    lambda data: b"".join(b"&#%d;" % byte for byte in data),
    lambda data: b"".join(b"&#x%x;" % byte for byte in data),
    lambda data: b"".join(b"\\u%04x" % byte for byte in data),
    lambda data: b"\0".join(data[index : index + 1] for index in range(len(data))),
]


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=24).filter(
        lambda text: not text.isdecimal()
    ),
    st.lists(st.sampled_from(ENCODERS), max_size=3),
    st.binary(max_size=40),
    st.binary(max_size=40),
)
def test_no_secret_survives_up_to_three_encodings(
    secret: str, encoders: list[Callable[[bytes], bytes]], before: bytes, behind: bytes
) -> None:
    written = secret.encode()
    for encode in encoders:
        written = encode(written)
    kept = KnownSecrets([secret]).blanked(before + b" " + written + b" " + behind)
    assert written not in kept
    assert secret.encode() not in kept


def _receipt(**values: object) -> Receipt:
    receipt = Receipt(
        endpoint="soap",
        provider="csoft",
        kind=Kind.DELIVERY,
        message_id="1",
        state=State.DELIVERED,
        code="0",
        recipient="447700912345",
        reported_at=datetime(2009, 6, 9, tzinfo=UTC),
        raw=b"x",
    )
    return receipt._replace(**values)
