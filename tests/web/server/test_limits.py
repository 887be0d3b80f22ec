"""Limits: each with its default, and what is answered beyond it."""

from __future__ import annotations

import os
import re
import resource
import socket
import statistics
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from math import ceil
from pathlib import Path
from typing import IO, NamedTuple

import pytest

from kit.server import CSOFT, SOON, Server, wait_until
from kit.soap import envelope
from kit.wire import TIMEOUT, get, post, receive, send
from receiptd.config import Server as Settings
from receiptd.web.server.limits import Crowd, Rate, rate

QUICK = "[server]\nrequest_seconds = 1\nidle_seconds = 2\n" + CSOFT
HEAD = b"POST /soap HTTP/1.1\r\nHost: h\r\n"


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A server with short limits of time."""
    server = Server(tmp_path_factory.mktemp("quick"), QUICK, "tcp:0:interface=127.0.0.1", [])
    yield server
    server.kill()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)


def test_the_defaults():
    settings = Settings()
    assert settings.max_body == 65536
    assert settings.max_headers == 100
    assert settings.max_header_bytes == 16384
    assert settings.request_seconds == 30
    assert settings.idle_seconds == 60
    assert settings.connections == 10_000
    assert settings.connections_per_address == 0
    assert settings.requests_per_second == 0


# --- Time


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (b"POST /so", b"a"),
        (HEAD, b"X-Drop: 1\r\n"),
        (HEAD, b""),
        (HEAD + b"Content-Length: 5000\r\n\r\n", b"x"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
    ids=["first line", "header", "silence", "body", "chunked body"],
)
def test_a_request_that_comes_too_slowly_is_answered_408(quick, start, drop):
    """Though a byte comes often enough to keep an idle connection."""
    with closing(connect(quick.port)) as connection:
        started = time.monotonic()
        connection.sendall(start)
        stop = threading.Event()

        def drip() -> None:
            with suppress(OSError):
                while not stop.wait(0.2):
                    connection.sendall(drop)

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            answer = receive(connection)
        finally:
            stop.set()
            dripping.join()
        assert answer.status == 408
        assert answer.closed
        assert "server.request_seconds" in answer.text
        assert 0.9 < time.monotonic() - started < SOON


def test_requests_behind_one_another_have_each_their_own_time(quick):
    asked = 0
    with closing(connect(quick.port)) as connection:
        end = time.monotonic() + 2.2
        while time.monotonic() < end:
            connection.sendall(b"GET /soap HTTP/1.1\r\n")
            # Others are answered meanwhile, so that it was read in two pieces.
            assert get(quick.port, "/healthz").status == 200
            connection.sendall(b"Host: h\r\n\r\n")
            assert receive(connection).status == 200
            asked += 1
    assert asked > 2


def test_an_idle_connection_is_closed_without_a_word(quick):
    with closing(connect(quick.port)) as fresh, closing(connect(quick.port)) as used:
        started = time.monotonic()
        used.sendall(b"GET /soap HTTP/1.1\r\nHost: h\r\n\r\n")
        assert receive(used).status == 200
        assert fresh.recv(1) == b""
        assert used.recv(1) == b""
        assert 1.9 < time.monotonic() - started < SOON


# --- Sizes


def test_too_many_headers_are_answered_431(shared_server):
    def ask(count):
        lines = b"".join(b"X-%d: 1\r\n" % number for number in range(count - 1))
        return send(
            shared_server.port, b"GET /soap HTTP/1.1\r\nHost: h\r\n" + lines + b"\r\n"
        ).status

    assert ask(100) == 200
    assert ask(101) == 431


@pytest.mark.parametrize(
    "lines",
    [b"X: " + b"x" * 17_000 + b"\r\n", (b"X: " + b"x" * 1000 + b"\r\n") * 17],
    ids=["one", "several"],
)
def test_headers_too_large_are_answered_431(shared_server, lines):
    answer = send(shared_server.port, HEAD + lines + b"\r\n")
    assert answer.status == 431
    assert answer.closed
    assert "server.max_header_bytes" in answer.text


def test_a_first_line_too_long_is_answered_431(shared_server):
    assert send(shared_server.port, b"GET /" + b"x" * 17_000).status == 431


def test_the_sizes_are_configurable(serve):
    server = serve("[server]\nmax_headers = 10\nmax_header_bytes = 1024\n" + CSOFT)
    assert get(server.port, "/soap").status == 200
    many = get(server.port, "/soap", [f"X-{number}: 1" for number in range(9)])
    assert many.status == 431
    assert "more than 10 header lines (server.max_headers)" in many.text
    assert get(server.port, "/soap", ["X: " + "x" * 1000]).status == 431


# --- Requests per second


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    """A server whose endpoints take so many requests per second."""
    config = (
        "[server]\nrequests_per_second = 1\n"
        '[[endpoint]]\nprovider = "csoft"\npath = "/soap"\n'
        '[[endpoint]]\nprovider = "easysms"\npath = "/easysms"\nrequests_per_second = 2\n'
        'dlr_url = "http://h/easysms?id=%i&d=%d&status=%s&from=%p&to=%P"\n'
        '[[endpoint]]\nprovider = "seeme"\npath = "/seeme"\nrequests_per_second = 0\n'
    )
    server = Server(tmp_path_factory.mktemp("limited"), config, "tcp:0:interface=127.0.0.1", [])
    yield server
    server.kill()


def test_soap_posts_beyond_the_limit_get_a_fault_and_429(limited):
    answers = [post(limited.port, envelope("RATE")) for _ in range(4)]
    refused = [answer for answer in answers if answer.status == 429]
    assert answers[0].status == 200
    assert len(refused) >= 2
    for answer in refused:
        assert answer.headers["retry-after"] == "1"
        assert b"<faultcode>SOAP-ENV:Server</faultcode>" in answer.body
        assert b"more than 1 requests per second" in answer.body
    # The contract is no request of that kind.
    assert get(limited.port, "/soap?wsdl").status == 200
    wait_until(lambda: "429 at endpoint soap" in limited.log, "it is in the log")
    # Whoever comes back after that time is served.
    wait_until(lambda: post(limited.port, envelope("RATE")).status == 200, "it is taken", 5)


def test_an_endpoint_has_a_limit_of_its_own_or_none(limited):
    def statuses(path):
        return [get(limited.port, path).status for _ in range(6)]

    found = statuses("/easysms?id=1&status=1")
    assert 429 not in found[:2]
    assert found.count(429) >= 2
    assert 429 not in statuses("/seeme?code=6")


def test_posts_beyond_the_limit_are_counted_from_naught(serve):
    config = '[[endpoint]]\nprovider = "{}"\npath = "/{}"\nrequests_per_second = 2\n'
    server = serve(config.format("csoft", "soap") + config.format("seeme", "seeme"))

    def counted(endpoint):
        sample = f'receiptd_rejected_posts_total{{endpoint="{endpoint}",reason="limited"}} '
        (value,) = re.findall(
            f"^{re.escape(sample)}(.*)$", get(server.port, "/metrics", server.bearer).text, re.M
        )
        return float(value)

    assert counted("soap") == counted("seeme") == 0
    answers = [post(server.port, envelope("RATE")).status for _ in range(5)]
    assert counted("soap") == answers.count(429) > 0
    answers = [get(server.port, "/seeme?code=6").status for _ in range(5)]
    assert counted("seeme") == answers.count(429) > 0


def test_a_bucket_holds_one_second_and_fills_evenly(monkeypatch):
    now = 100.0
    monkeypatch.setattr("receiptd.web.server.limits.monotonic", lambda: now)
    bucket = Rate("soap", 10, {})
    assert [bucket.wait() for _ in range(11)] == [0] * 10 + [1]
    now += 0.25
    assert [bucket.wait() for _ in range(3)] == [0, 0, 1]
    now += 60
    assert [bucket.wait() for _ in range(11)].count(0) == 10


def test_no_limit_is_no_bucket():
    assert rate("soap", None, 0, {}) is None
    assert rate("soap", 0, 5, {}) is None
    assert rate("soap", 5, 0, {}) is not None


# --- Connections


def test_a_connection_beyond_the_limit_is_answered_503(serve):
    server = serve("[server]\nconnections = 5\n" + CSOFT)
    with ExitStack() as stack:
        for _ in range(5):
            busy = stack.enter_context(closing(connect(server.port)))
            busy.sendall(HEAD)
        wait_until(
            lambda: get(server.port, "/soap").status == 503, "the further one is turned away"
        )
        answer = get(server.port, "/soap")
        assert answer.status == 503
        assert answer.headers["retry-after"] == "5"
        assert answer.closed
        assert "server.connections" in answer.text
        wait_until(lambda: "too many connections: 5 are open" in server.log, "the log says so")
    wait_until(lambda: get(server.port, "/soap").status == 200, "there is room again")


def test_idle_connections_make_room_for_new_ones(serve):
    server = serve("[server]\nconnections = 5\n" + CSOFT)
    with ExitStack() as stack:
        idle = [stack.enter_context(closing(connect(server.port))) for _ in range(5)]
        idle[0].sendall(HEAD)  # not that one
        wait_until(lambda: get(server.port, "/soap").status == 200, "an idle connection made room")
        idle[0].sendall(b"Content-Length: 0\r\n\r\n")
        assert receive(idle[0]).status == 500
        ended = 0
        for each in idle[1:]:
            each.setblocking(False)
            with suppress(BlockingIOError):
                ended += each.recv(1) == b""
        assert ended >= 1


def test_connections_of_one_address_are_limited_where_configured(serve):
    server = serve("[server]\nconnections_per_address = 3\n" + CSOFT)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(closing(connect(server.port))).sendall(HEAD)
        answer = get(server.port, "/soap")
        assert answer.status == 503
        assert "3 connections from 127.0.0.1 are open (connections_per_address)" in answer.text
    wait_until(lambda: get(server.port, "/soap").status == 200, "they are counted out")


def test_a_trusted_proxy_may_have_more(serve):
    server = serve(
        "[server]\nconnections_per_address = 1\ntrusted_proxies = '127.0.0.1'\n" + CSOFT
    )
    with closing(connect(server.port)):
        assert get(server.port, "/soap").status == 200


@pytest.mark.parametrize(
    ("addresses", "peers"),
    [
        (["2001:db8::1", "2001:db8:0:0:ffff::2"], ["2001:db8::/64"]),
        (["2001:db8:0:1::1", "2001:db8:0:2::1"], ["2001:db8:0:1::/64", "2001:db8:0:2::/64"]),
        (["192.0.2.1", "192.0.2.2"], ["192.0.2.1", "192.0.2.2"]),
        # IPv4 on a socket of both kinds: all of it would else be one /64.
        (["::ffff:192.0.2.1", "::ffff:192.0.2.2"], ["192.0.2.1", "192.0.2.2"]),
        (["64:ff9b::c000:201", "64:ff9b::c000:202"], ["192.0.2.1", "192.0.2.2"]),
        # The neighbours on one link are several.
        (["fe80::1%eth0", "fe80::2%eth0"], ["fe80::1%eth0", "fe80::2%eth0"]),
    ],
)
def test_an_ipv6_peer_is_its_network(addresses, peers):
    crowd = Crowd(100, 2)
    for address in addresses:
        assert not crowd.enter(address, 0.0)
    room = len(addresses) if len(peers) > 1 else 0
    for address in addresses[:room]:
        assert not crowd.enter(address, 0.0)
    for address, who in zip(addresses, peers, strict=False):
        assert f"2 connections from {who} are open" in crowd.enter(address, 0.0)
        crowd.leave(address)
        assert not crowd.enter(address, 0.0)


def test_connections_from_ipv6_are_limited(serve):
    server = serve(
        "[server]\nconnections_per_address = 1\n" + CSOFT,
        options=("--listen", r"tcp:0:interface=\:\:1"),
    )
    found = wait_until(lambda: re.search(r"http://\[::1\]:(\d+)", server.log), "it listens")
    with closing(socket.create_connection(("::1", int(found[1])), TIMEOUT)) as first:
        first.sendall(HEAD)
        with closing(socket.create_connection(("::1", int(found[1])), TIMEOUT)) as second:
            answer = receive(second)
        assert answer.status == 503
        assert "1 connections from ::/64 are open (connections_per_address)" in answer.text


def test_who_makes_room():
    class Connection:
        def __init__(self, waits):
            self.says, self.closed = waits, False

        def waits(self, _now):
            return self.says

        def loseConnection(self):  # noqa: N802
            self.closed = True

    answering, fresh = Connection(None), Connection((False, 0.1))
    idle, idler = Connection((False, 2.0)), Connection((False, 9.0))
    slow, slower, young = (
        Connection((True, 6.0)),
        Connection((True, 20.0)),
        Connection((True, 2.0)),
    )
    everybody = [answering, fresh, slow, idle, young, slower, idler]
    crowd = Crowd(7, 0)
    for _ in everybody:
        assert not crowd.enter("192.0.2.1", 0.0)
    crowd.look(everybody, 0.0)
    for expected in (idler, idle, slower, slow):
        assert not crowd.enter("192.0.2.1", 0.0)
        assert expected.closed
        crowd.leave("192.0.2.1")
        expected.says = None
    assert "7 connections are open" in crowd.enter("192.0.2.1", 0.0)
    assert not any(each.closed for each in (answering, fresh, young))


class Poor(Server):
    """A server that may open few files."""

    def spawn(self, arguments: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start it from a shell that sees to it."""
        return super().spawn(["sh", "-c", 'ulimit -n 200; exec "$@"', "sh", *arguments], log)


def test_no_more_connections_are_let_in_than_there_are_descriptors_for(tmp_path):
    server = Poor(tmp_path, CSOFT, "tcp:0:interface=127.0.0.1", [])
    try:
        said = "server.connections is 10000, but the system allows this process 200 open files"
        assert f"{said}, so it is 100: raise that limit (LimitNOFILE=" in server.log
        with ExitStack() as stack:
            for _ in range(150):
                stack.enter_context(closing(connect(server.port)))

            def answered() -> bool:
                try:
                    return get(server.port, "/soap").status == 200
                except (OSError, AssertionError):  # turned away
                    return False

            wait_until(answered, "those that are idle make room")
            wait_until(lambda: "too many connections: 100 are open" in server.log, "it is said")
        assert "Traceback" not in server.log
    finally:
        server.kill()


# --- A thousand slow connections

SLOW = 1000
POSTS = 1200
CLIENTS = 4


class Figures(NamedTuple):
    """What posts cost: the clients, and the server."""

    rate: float
    """Posts per second, as fast as these clients are."""
    median: float
    p99: float
    """Milliseconds to the answer."""
    cpu: float
    """Milliseconds of the server's processor time for a post, and what goes on beside it."""

    def __str__(self) -> str:
        return (
            f"{self.rate:.0f} posts/s, median {self.median:.1f} ms, 99% {self.p99:.1f} ms, "
            f"{self.cpu:.2f} ms of the server's time a post"
        )


def processor_time(server: Server) -> float:
    """Milliseconds that the server has used so far, in all its threads (proc(5))."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def measure(server: Server, label: str) -> Figures:
    """Post receipts from several clients."""

    def client(number: int) -> list[float]:
        times = []
        with closing(connect(server.port)) as connection:
            for count in range(POSTS // CLIENTS):
                body = envelope(f"{label}-{number}-{count}")
                request = b"%bContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n%b" % (
                    HEAD,
                    len(body),
                    body,
                )
                started = time.monotonic()
                connection.sendall(request)
                answer = receive(connection)
                times.append((time.monotonic() - started) * 1000)
                assert answer.status == 200
                assert b"<Report>0</Report>" in answer.body
        return times

    used = processor_time(server)
    started = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        times = sorted(each for part in pool.map(client, range(CLIENTS)) for each in part)
    seconds = time.monotonic() - started
    return Figures(
        rate=len(times) / seconds,
        median=statistics.median(times),
        p99=times[ceil(len(times) * 0.99) - 1],
        cpu=(processor_time(server) - used) / len(times),
    )


BEGINNINGS = (
    (HEAD, b"X"),  # a header that has no end
    (HEAD + b"Content-Length: 60000\r\n\r\n", b"x"),  # a body that comes in drops
    (HEAD + b"Content-Length: 9\r\n\r\n", b""),  # one that never comes
    (b"", b""),  # nothing at all
)
"""How slow connections begin, and what they send every two seconds."""


def as_good(beside: Figures, alone: list[Figures], share: float = 1) -> bool:
    """Whether what was measured beside others is not out of proportion to what was alone.

    :param share: of the bounds that may be used up.
    """
    return (
        beside.cpu < share * 2 * max(each.cpu for each in alone)
        and beside.rate * share > min(each.rate for each in alone) / 3
        and beside.median < share * 3 * max(each.median for each in alone)
        and beside.p99 < share * max(250, *(5 * each.p99 for each in alone))
    )


def test_a_thousand_slow_connections_do_not_hurt_real_traffic(serve):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < SLOW + 500:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(SLOW + 500, hard), hard))
    # However long it takes to measure, none of them is too slow.
    server = serve("[server]\nrequest_seconds = 600\nidle_seconds = 600\n")
    measure(server, "warm-up")
    alone = [measure(server, "before")]
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        slow = [stack.enter_context(closing(connect(server.port))) for _ in range(SLOW)]
        for number, each in enumerate(slow):
            each.sendall(BEGINNINGS[number % 4][0])
        stop = threading.Event()

        def drip() -> None:
            """A byte now and then: each connection sends one every two seconds."""
            while not stop.is_set():
                for place, each in enumerate(slow):
                    each.send(BEGINNINGS[place % 4][1])
                    if place % 50 == 49 and stop.wait(0.1):
                        return

        dripping = threading.Thread(target=drip)
        dripping.start()
        besides = []
        try:
            # Once more where something else on the machine may have spoiled the figures.
            for attempt in range(2):
                besides.append(measure(server, f"beside-{attempt}"))
                if as_good(besides[-1], alone, 0.7):
                    break
        finally:
            stop.set()
            dripping.join()
        # All of them were there all the time, and are as good as any: they become requests.
        open_now = re.search(
            r"(?m)^receiptd_connections (\S+)", get(server.port, "/metrics", server.bearer).text
        )
        assert float(open_now[1]) >= SLOW
        slow[0].sendall(b": 1\r\nContent-Length: 0\r\n\r\n")
        slow[2].sendall(b"not XML !")
        slow[3].sendall(HEAD + b"Content-Length: 0\r\n\r\n")
        assert [receive(slow[each]).status for each in (0, 2, 3)] == [500] * 3
    # Other programs come and go: what they cost is in one of the two.
    alone.append(measure(server, "after"))
    print(f"alone: {alone[0]}\nbeside {SLOW} slow ones: {besides}\nalone: {alone[1]}")
    assert len({each["message_id"] for each in server.receipts()}) == (3 + len(besides)) * POSTS
    assert any(as_good(each, alone) for each in besides), besides
