"""Compressed bodies: decoded within the limit, or refused."""

from __future__ import annotations

import gzip
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.soap import envelope, new_id
from kit.wire import post
from receiptd.web.server.content_encoding import MOST_MEMBERS, Undecodable, decoded

BODY = b"status=DELIVRD&" * 40


def bare(body: bytes) -> bytes:
    """The deflate stream without zlib's header."""
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(body) + stream.flush()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"gzip", gzip.compress(BODY, mtime=0)),
        (b"X-GZIP", gzip.compress(BODY, mtime=0)),
        (b"gzip", gzip.compress(BODY[:99], mtime=0) + gzip.compress(BODY[99:], mtime=0)),
        (b"gzip", gzip.compress(BODY, mtime=0) + b"\0" * 9),
        (b"deflate", zlib.compress(BODY)),
        (b"deflate", bare(BODY)),
        (b"identity", BODY),
        (b"", BODY),
        (b"deflate, gzip", gzip.compress(zlib.compress(BODY), mtime=0)),
    ],
)
def test_what_is_decoded(coding, body):
    assert decoded(body, [coding], len(BODY)) == BODY
    if coding not in (b"", b"identity"):
        with pytest.raises(Undecodable) as refused:
            decoded(body, [coding], len(BODY) - 1)
        assert refused.value.status == 413


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        (b"br", BODY, 415),
        (b"gzip, gzip, gzip", BODY, 415),
        (b"gzip", BODY, 400),
        (b"gzip", gzip.compress(BODY, mtime=0)[:-1], 400),
        (b"gzip", gzip.compress(BODY, mtime=0)[:-8] + b"\0" * 8, 400),
        (b"gzip", b"\x1f", 400),
        (b"deflate", b"\xff\xff", 400),
        (b"deflate", zlib.compress(BODY) + b"x", 400),
        (b"gzip", gzip.compress(b"", mtime=0) * (MOST_MEMBERS + 1), 400),
        (b"gzip", gzip.compress(b"\0" * 100_000_000, mtime=0), 413),
    ],
)
def test_what_is_refused(coding, body, status):
    with pytest.raises(Undecodable) as refused:
        decoded(body, [coding], 65536)
    assert refused.value.status == status


@given(st.binary(max_size=200), st.sampled_from([b"gzip", b"deflate"]))
def test_no_body_is_a_traceback(body, coding):
    with suppress(Undecodable):
        assert len(decoded(body, [coding], 1000)) <= 1000


def test_every_endpoint_takes_compressed_bodies(shared_server):
    header = ["Content-Encoding: gzip"]
    body = gzip.compress(envelope(new_id()))
    assert b"<Report>" in post(shared_server.port, body, headers=header).body
    form = gzip.compress(b"reference=gz1&number=36301234567&code=6")
    answer = post(
        shared_server.port, form, "/open", "application/x-www-form-urlencoded", headers=header
    )
    assert answer.status in (200, 400)
    for damaged, coding, status in ((body[:-1], "gzip", 400), (body, "br", 415)):
        refused = post(shared_server.port, damaged, headers=[f"Content-Encoding: {coding}"])
        assert refused.status == status, refused.text
    assert refused.headers["accept-encoding"] == "gzip, deflate"
