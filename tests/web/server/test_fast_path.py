"""A request that comes whole is taken as the same one is that comes byte by byte."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from receiptd.config import Server
from receiptd.web.server.fast_path import whole
from receiptd.web.server.http import Channel, Request, Site

LIMITS = Server(max_headers=10, max_header_bytes=1024, max_body=1024)


class Echo:
    """Answers with what came."""

    def handle(self, request: Request, rest: bytes) -> None:
        """Say it all."""
        seen = [request.method, request.uri, request.query, rest, request.body()]
        seen += sorted(request.requestHeaders.getAllRawHeaders())
        request.answer(200, repr(seen).encode())


class Transport(StringTransport):
    """A connection that keeps what it is sent."""

    def loseWriteConnection(self) -> None:  # noqa: N802 Twisted's name
        """Nothing more is sent."""


def connected() -> tuple[Channel, Transport]:
    """A connection to a server, and the server's end of it."""
    site = Site({}, trees={b"/": Echo()}, max_body=1024, settings=LIMITS, reactor=Clock())
    channel: Channel = site.buildProtocol(None)
    transport = Transport()
    channel.makeConnection(transport)
    return channel, transport


def answers(*pieces: bytes) -> bytes:
    """What is answered to `pieces`, one after the other, without what differs each time."""
    channel, transport = connected()
    for piece in pieces:
        channel.dataReceived(piece)
    return re.sub(rb"(?m)^(Date|X-Request-Id): [^\r]*", rb"\1", transport.value())


def one_by_one(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


POST = b"POST /soap?a=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody"
GET = b"GET /seeme?code=6 HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("data", [POST, GET, GET.replace(b"\r\n\r\n", b"\r\nX-A:\t b \r\n\r\n")])
def test_what_every_provider_sends_goes_the_short_way(data):
    assert whole(data, 10, 1024) is not None


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(POST[:-1], id="cut off"),
        pytest.param(POST + b"G", id="more behind it"),
        pytest.param(GET + GET, id="pipelined"),
        pytest.param(POST.replace(b": 4", b": +4"), id="a signed length"),
        pytest.param(POST.replace(b": 4\r\n", b": 4\r\nContent-Length: 4\r\n"), id="two lengths"),
        pytest.param(POST.replace(b": 4", b": 4, 4"), id="a list of lengths"),
        pytest.param(POST.replace(b"Content-Length", b"Content-Length "), id="space before colon"),
        pytest.param(POST.replace(b": localhost", b": local\r\n host"), id="a folded line"),
        pytest.param(POST.replace(b"localhost\r\n", b"localhost\n"), id="a bare line feed"),
        pytest.param(POST.replace(b"localhost", b"local\0host"), id="a NUL"),
        pytest.param(POST.replace(b"Host", b"Ho\xe9st"), id="a name that is no token"),
        pytest.param(POST.replace(b"HTTP/1.1", b"HTTP/1.0"), id="HTTP/1.0"),
        pytest.param(POST.replace(b" /soap", b"  /soap"), id="two spaces"),
        pytest.param(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), id="the last"),
        pytest.param(
            POST.replace(b"Content-Length: 4", b"Transfer-Encoding: chunked"), id="chunked"
        ),
        pytest.param(
            POST.replace(b": 4\r\n", b": 4\r\nTransfer-Encoding: chunked\r\n"), id="both"
        ),
        pytest.param(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"), id="expects"),
        pytest.param(GET.replace(b"\r\n\r\n", b"\r\nA: b" * 10 + b"\r\n\r\n"), id="many lines"),
        pytest.param(GET.replace(b"localhost", b"l" * 1024), id="a long line"),
    ],
)
def test_what_is_out_of_the_ordinary_goes_twisteds_way(data):
    assert whole(data, 10, 1024) is None
    assert answers(data) == answers(*one_by_one(data))


NAMES = st.sampled_from(
    b"Host host Content-Length content-length Content-Type Connection Transfer-Encoding Expect "
    b"X-Request-Id SOAPAction x-2fa Te B/d".split()
)
VALUES = st.one_of(
    st.sampled_from(b"4 0 04 -1 chunked close keep-alive Keep-Alive 100-continue".split()),
    st.sampled_from([b"identity", b" 4 ", b"\t", b"\xe9", b"a\x0bb", b"\x7f"]),
    st.binary(max_size=12),
)
FIRST = st.sampled_from(
    [
        *(b"POST /soap HTTP/1.1", b"GET /a?b=c#d HTTP/1.1", b"GET / HTTP/1.0", b"get / HTTP/1.1"),
        *(b"HEAD / HTTP/1.1", b"GET  HTTP/1.1", b"GET /\xe9 HTTP/1.1", b"GET /~ HTTP/2", b"\r\n"),
    ]
)
LINES = st.tuples(NAMES, st.sampled_from([b": ", b":", b" : ", b":\t"]), VALUES).map(b"".join)
REQUESTS = st.builds(
    lambda first, lines, end, body: b"\r\n".join([first, *lines]) + end + body,
    FIRST,
    st.lists(LINES, max_size=12),
    st.sampled_from([b"\r\n\r\n", b"\n\n", b"\r\n"]),
    st.sampled_from([b"", b"body", b"0\r\n\r\n", b"4\r\nbody\r\n0\r\n\r\n", b"x" * 2000]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(REQUESTS, min_size=1, max_size=2))
def test_how_it_comes_makes_no_difference(requests):
    # Each on the connection that the one before has left.
    assert answers(*requests) == answers(*one_by_one(b"".join(requests)))


def test_what_comes_after_the_last_answer_is_dropped():
    channel, transport = connected()
    channel.leave()
    for piece in (GET, *one_by_one(GET)):
        channel.dataReceived(piece)
    assert transport.value() == b""
