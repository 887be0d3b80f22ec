"""Requests taken apart: what is served, what is not, and that nothing depends on how it comes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from receiptd.config import Server
from receiptd.web.server.connection import Connection
from receiptd.web.server.request import Request
from receiptd.web.server.site import Site

LIMITS = Server(max_headers=10, max_header_bytes=1024, max_body=1024)


class Echo:
    """Answers with what came."""

    def handle(self, request: Request, rest: bytes) -> None:
        """Say it all."""
        fields = sorted((name, list(values)) for name, values in request.fields.items())
        seen = [request.method, request.path, request.query, rest, request.body(), fields]
        request.answer(200, repr(seen).encode())


class Transport(StringTransport):
    """A connection that keeps what it is sent."""

    def loseWriteConnection(self) -> None:  # noqa: N802 Twisted's name
        """Nothing more is sent."""


def connected() -> tuple[Connection, Transport, Clock]:
    """A connection to a server, the server's end of it, and the server's clock."""
    clock = Clock()
    site = Site({}, trees={b"/": Echo()}, settings=LIMITS, reactor=clock)
    connection = site.buildProtocol(None)
    transport = Transport()
    connection.makeConnection(transport)
    return connection, transport, clock


def answers(*pieces: bytes) -> bytes:
    """What is answered to `pieces`, one after the other, without what differs each time."""
    connection, transport, clock = connected()
    for piece in pieces:
        connection.dataReceived(piece)
        clock.advance(0)  # all turns of the reactor that are due
    sent = transport.value().replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    return re.sub(rb"(?m)^(Date|X-Request-Id): [^\r]*", rb"\1", sent)


def one_by_one(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


def statuses(data: bytes) -> list[int]:
    """The statuses of the answers to `data`, which must not depend on how it comes."""
    found, apart = (
        [int(each) for each in re.findall(rb"HTTP/1\.[01] (\d{3}) [A-Z]", sent)]
        for sent in (answers(data), answers(*one_by_one(data)))
    )
    assert found == apart
    return found


POST = b"POST /soap?a=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody"
GET = b"GET /seeme?code=6 HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = POST.replace(b"Content-Length: 4", b"Transfer-Encoding: chunked")[:-4]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(POST, [200], id="whole"),
        pytest.param(POST[:-1], [], id="cut off"),
        pytest.param(POST + GET, [200, 200], id="pipelined"),
        pytest.param(b"\r\n\r\n" + GET, [200], id="empty lines before it"),
        pytest.param(POST.replace(b"\r\n", b"\n"), [200], id="bare line feeds"),
        pytest.param(POST.replace(b"localhost\r\n", b"localhost\n"), [200], id="one of them"),
        pytest.param(POST.replace(b"\r\n", b"\r"), [400], id="carriage returns alone"),
        pytest.param(POST.replace(b": localhost", b": local\r\n host"), [200], id="folded"),
        pytest.param(POST.replace(b"localhost", b"local\x1ahost"), [200], id="a control"),
        pytest.param(POST.replace(b"localhost", b"local\0host"), [400], id="a NUL"),
        pytest.param(POST.replace(b"Host", b"Ho\xe9st"), [400], id="a name that is no token"),
        pytest.param(POST.replace(b"Host:", b"Host :"), [400], id="space before the colon"),
        pytest.param(POST.replace(b": 4", b": +4"), [400], id="a signed length"),
        pytest.param(POST.replace(b": 4", b": 4, 4"), [400], id="a list of lengths"),
        pytest.param(POST.replace(b": 4", b": 0x4"), [400], id="a hexadecimal length"),
        pytest.param(POST.replace(b": 4", b": 4\x0b"), [400], id="a length and a control"),
        pytest.param(POST.replace(b": 4", b":"), [400], id="an empty length"),
        pytest.param(POST.replace(b": 4", b": " + b"0" * 700 + b"4"), [200], id="many zeros"),
        pytest.param(POST.replace(b": 4", b": " + b"9" * 700), [400], id="an endless length"),
        pytest.param(POST.replace(b": 4\r", b": 4\r\nContent-Length: 4\r"), [400], id="twice"),
        pytest.param(
            POST.replace(b": 4\r", b": 4\r\nTransfer-Encoding: chunked\r"), [400], id="both"
        ),
        pytest.param(
            POST.replace(b"Content-Length: 4", b"Transfer-Encoding:\x0bchunked"),
            [400],
            id="a coding behind a control",
        ),
        pytest.param(POST.replace(b": 4", b": 1025"), [413], id="too large"),
        pytest.param(CHUNKED + b"2\r\nbo\r\n2;x=y\r\ndy\r\n0\r\nT: 1\r\n\r\n", [200], id="chunks"),
        pytest.param(CHUNKED + b"2\r\n\n\n\r\n0\r\n\r\n" + GET, [200, 200], id="and behind them"),
        pytest.param(CHUNKED + b"-1\r\n", [400], id="a signed chunk"),
        pytest.param(CHUNKED + b"f" * 17 + b"\r\n", [400], id="an endless chunk"),
        pytest.param(CHUNKED + b"1;" + b"x" * 9000, [400], id="an endless extension"),
        pytest.param(CHUNKED + b"0\r\nT: " + b"x" * 9000, [400], id="an endless trailer"),
        pytest.param(
            CHUNKED.replace(b"chunked", b"gzip, chunked") + b"0\r\n\r\n", [400], id="a coding"
        ),
        pytest.param(
            POST.replace(b"Host", b"Connection: Upgrade\r\nUpgrade: h2c\r\nHost") + GET,
            [200, 200],
            id="an offer of HTTP/2, as Java's client makes it",
        ),
        pytest.param(
            CHUNKED.replace(b"Host", b"Connection: Upgrade\r\nUpgrade: h2c\r\nHost")
            + b"4\r\nbody\r\n0\r\n\r\n",
            [200],
            id="and a body in chunks",
        ),
        pytest.param(GET.replace(b"1.1", b"1.0") + GET, [200], id="HTTP/1.0"),
        pytest.param(
            GET.replace(b"1.1\r", b"1.0\r\nConnection: keep-alive\r") + GET,
            [200, 200],
            id="HTTP/1.0 with keep-alive",
        ),
        pytest.param(GET.replace(b"1.1", b"1.7"), [200], id="a later HTTP/1"),
        pytest.param(GET.replace(b"1.1", b"2.0"), [400], id="HTTP/2"),
        pytest.param(b"GET /seeme?code=6\r\n", [400], id="HTTP/0.9"),
        pytest.param(GET.replace(b" /", b"  /"), [200], id="two spaces"),
        pytest.param(GET.replace(b"=6", b"=6\0"), [400], id="a NUL in the target"),
        pytest.param(GET.replace(b"=6", b"=6\r"), [400], id="a return in the target"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", [400], id="TLS"),
        pytest.param(GET[:-2] + b"A: b\r\n" * 10 + b"\r\n", [431], id="many lines"),
        pytest.param(GET.replace(b"localhost", b"l" * 1024), [431], id="a long line"),
        pytest.param(GET[:-2] + b"Connection: close\r\n\r\n" + GET, [200], id="the last"),
    ],
)
def test_what_is_served_and_what_is_not(data, expected):
    assert statuses(data) == expected


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/a?done=2024-05-17 10:20", b"/a", b"done=2024-05-17 10:20"),
        (b"/a?text=K\xe9zbes\xedtve HTTP/1.0 x", b"/a", b"text=K\xe9zbes\xedtve HTTP/1.0 x"),
        (b"/a?b?c#d", b"/a", b"b?c#d"),
        (b"http://h:1/a?b", b"/a", b"b"),
        (b"HTTPS://h", b"/", b""),
        (b"a", b"/a", b""),
    ],
)
def test_all_between_the_first_and_the_last_space_is_the_target(target, path, query):
    answer = answers(b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n")
    assert repr([b"GET", path, query])[:-1].encode() in answer


NAMES = st.sampled_from(
    b"Host host Content-Length content-length Content-Type Connection Transfer-Encoding Expect "
    b"X-Request-Id SOAPAction x-2fa Te B/d Upgrade".split()
)
VALUES = st.one_of(
    st.sampled_from(b"4 0 04 -1 chunked close keep-alive Keep-Alive 100-continue upgrade".split()),
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


def first_lines(sent: bytes) -> list[bytes]:
    """What was answered, but for what is said of a request that is refused: of one that comes
    byte by byte the first mistake is seen, of a whole one the worst."""
    return [each for each in re.split(rb"(?=HTTP/1\.[01] \d)", sent) if b" 200 " in each]


@settings(max_examples=200, deadline=None)
@given(st.lists(REQUESTS, min_size=1, max_size=3))
def test_how_it_comes_makes_no_difference(requests):
    # Each on the connection that the one before has left.
    whole, apart = answers(b"".join(requests)), answers(*one_by_one(b"".join(requests)))
    assert first_lines(whole) == first_lines(apart)
    assert whole.count(b"Connection: close") == apart.count(b"Connection: close")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=5))
def test_no_bytes_are_a_traceback(pieces):
    answers(*pieces)


def test_what_comes_after_the_last_answer_is_dropped():
    connection, transport, _ = connected()
    connection.leave()
    for piece in (GET, *one_by_one(GET)):
        connection.dataReceived(piece)
    assert transport.value() == b""


def test_requests_sent_behind_one_another_are_answered_one_in_a_turn():
    connection, transport, clock = connected()
    connection.dataReceived(GET * 3)
    for number in range(1, 3):
        assert transport.value().count(b"HTTP/1.1 200 OK") == number
        (turn,) = clock.calls
        clock.calls.clear()
        turn.func()
    assert transport.value().count(b"HTTP/1.1 200 OK") == 3
    assert not clock.calls


def test_a_body_in_pieces_takes_no_more_than_its_bytes():
    connection, _, _ = connected()
    connection.dataReceived(POST.replace(b": 4", b": 1000")[:-4])
    for _ in range(999):
        connection.dataReceived(b"x")
    assert connection.site.bodies == 999
    connection.dataReceived(b"x")
    assert connection.site.bodies == 0


def test_a_body_that_is_given_up_is_counted_out():
    connection, _, _ = connected()
    connection.dataReceived(POST.replace(b": 4", b": 1000"))
    assert connection.site.bodies == 4
    connection.connectionLost()
    assert connection.site.bodies == 0
