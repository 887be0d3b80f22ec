"""Who is asking: forwarding headers, and whose word counts."""

from __future__ import annotations

import socket
from contextlib import closing
from ipaddress import ip_network
from typing import NamedTuple

import pytest

from kit.server import CSOFT, wait_until
from kit.wire import get, post, receive
from receiptd.web.server.proxies import UNKNOWN, Asker, Proxies

TRUSTED = Proxies([ip_network("10.0.0.0/8"), ip_network("127.0.0.1"), ip_network("fd00::/8")])


class Case(NamedTuple):
    label: str
    address: str | None
    scheme: str | None = None
    peer: str | None = "127.0.0.1"
    x: tuple[bytes, ...] = ()
    forwarded: tuple[bytes, ...] = ()
    proto: tuple[bytes, ...] = ()


def forwarded(label: str, value: bytes, address: str, scheme: str | None = None) -> Case:
    return Case(label, address, scheme, forwarded=(value,))


def x(label: str, value: bytes, address: str) -> Case:
    return Case(label, address, x=(value,))


CASES = [
    Case("no header", "127.0.0.1"),
    Case("not trusted", "192.0.2.9", None, "192.0.2.9", (b"1.2.3.4",), (b"for=1.2.3.4",),
         (b"https",)),
    Case("a proxy on IPv6", "1.2.3.4", None, "fd00::1", (b"1.2.3.4",)),
    Case("a proxy on a dual socket", "1.2.3.4", None, "::ffff:10.1.1.1", (b"1.2.3.4",)),
    Case("a link-local peer", "fe80::1%eth0", None, "fe80::1%eth0", (b"1.2.3.4",)),
    Case("a Unix socket, not trusted", None, None, None, (b"1.2.3.4",)),
    x("one", b"1.2.3.4", "1.2.3.4"),
    x("the rightmost that is not trusted", b"6.6.6.6, 1.2.3.4, 10.0.0.7", "1.2.3.4"),
    x("all trusted", b"10.0.0.1, 10.0.0.2", "10.0.0.1"),
    x("IPv6", b"2001:DB8::1", "2001:db8::1"),
    x("IPv6 in brackets, with port", b"[2001:db8::1]:443", "2001:db8::1"),
    x("with port", b"1.2.3.4:5678", "1.2.3.4"),
    x("IPv4 within IPv6", b"::ffff:1.2.3.4", "1.2.3.4"),
    x("junk further left", b"\xff<script>, 1.2.3.4", "1.2.3.4"),
    x("junk", b"unknown", "127.0.0.1"),
    x("junk behind a trusted hop", b"1.2.3.4, junk, 10.0.0.7", "10.0.0.7"),
    x("empty", b"", "127.0.0.1"),
    x("an empty end", b"1.2.3.4,", "127.0.0.1"),
    x("no real address", b"1.2.3.400", "127.0.0.1"),
    x("octal", b"01.2.3.4", "127.0.0.1"),
    x("a number", b"16909060", "127.0.0.1"),
    x("a zone", b"fe80::1%eth0", "127.0.0.1"),
    x("a port that is none", b"1.2.3.4:port", "127.0.0.1"),
    x("a network", b"1.2.3.0/24", "127.0.0.1"),
    x("a name", b"localhost", "127.0.0.1"),
    x("very long", b"1" * 5000, "127.0.0.1"),
    Case("two lines are one list", "5.6.7.8", x=(b"1.2.3.4", b"5.6.7.8, 10.0.0.1")),
    forwarded("RFC 7239: IPv4", b"for=192.0.2.60;proto=http;by=203.0.113.43",
              "192.0.2.60", "http"),
    forwarded("RFC 7239: case", b'For="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::17"),
    forwarded("RFC 7239: two", b"for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
    forwarded("RFC 7239: hidden", b"for=_hidden, for=_SEVKISEK", "127.0.0.1"),
    forwarded("RFC 7239: unknown", b"for=unknown", "127.0.0.1"),
    forwarded("quoted", b'for="192.0.2.43:47011";proto="HTTPS"', "192.0.2.43", "https"),
    forwarded("quoted pairs", rb'for="192.0.2\.43"', "192.0.2.43"),
    forwarded("a comma within quotes", b'for=1.2.3.4;by="a,b"', "1.2.3.4"),
    forwarded("a forged start", b'for=6.6.6.6;x=", for=1.2.3.4', UNKNOWN),
    forwarded("whose scheme", b"for=6.6.6.6;proto=http, for=1.2.3.4;proto=https, for=10.0.0.1",
              "1.2.3.4", "https"),
    forwarded("IPv6 without quotes", b"for=[2001:db8::1]", UNKNOWN),
    forwarded("space around the equals sign", b"for = 1.2.3.4", UNKNOWN),
    forwarded("for twice", b"for=1.2.3.4;for=6.6.6.6", UNKNOWN),
    forwarded("no for", b"proto=https", "127.0.0.1"),
    forwarded("a scheme that is none", b"for=1.2.3.4;proto=gopher", "1.2.3.4"),
    Case("both agree", "1.2.3.4", x=(b"1.2.3.4",), forwarded=(b"for=1.2.3.4",)),
    Case("a forged line", "1.2.3.4", "https",
         forwarded=(b'for=6.6.6.6;x="', b"for=1.2.3.4;proto=https")),
    Case("a trusted proxy's broken line", UNKNOWN, None, forwarded=(b"for==", b"for=10.0.0.1")),
    forwarded("empty elements", b"for=1.2.3.4,, ,for=10.0.0.2", "10.0.0.2"),
    forwarded("an empty header", b"", "127.0.0.1"),
    forwarded("a semicolon at the end", b"for=1.2.3.4;", "1.2.3.4"),
    forwarded("a semicolon at the start", b";for=1.2.3.4", UNKNOWN),
    Case("one is the client's own", UNKNOWN, x=(b"6.6.6.6",), forwarded=(b"for=1.2.3.4",)),
    Case("scheme", "127.0.0.1", "https", proto=(b"HTTPS",)),
    Case("scheme of the nearest", "127.0.0.1", "http", proto=(b"https, http",)),
    Case("scheme that is none", "127.0.0.1", None, proto=(b"https://",)),
    Case("schemes at odds", "1.2.3.4", None, x=(b"1.2.3.4",),
         forwarded=(b"for=1.2.3.4;proto=http",), proto=(b"https",)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_who_is_asking(case):
    found = TRUSTED.asker(case.peer, case.x, case.forwarded, case.proto)
    assert found == Asker(case.address, case.scheme)


def test_a_unix_socket_may_be_trusted():
    assert Proxies(["unix"]).asker(None, [b"1.2.3.4"], [], []).address == "1.2.3.4"


def test_a_long_list_is_read_from_the_right_and_not_for_ever():
    hops = b", ".join([b"6.6.6.6"] + [b"10.0.0.1"] * 100_000)
    assert TRUSTED.asker("127.0.0.1", [hops], [], []).address == "10.0.0.1"


NETWORKS = CSOFT + 'networks = ["198.51.100.0/24"]\n'
PROXIES = '[server]\ntrusted_proxies = ["127.0.0.1", "unix"]\n'


def test_networks_log_and_wsdl_go_by_what_a_trusted_proxy_says(serve, sample):
    server = serve(PROXIES + NETWORKS)
    body = sample("csoft-v5-qualified.xml")

    taken = post(server.port, body, headers=["X-Forwarded-For: 198.51.100.7"])
    assert b"<Report>0</Report>" in taken.body
    forged = post(server.port, body, headers=["X-Forwarded-For: 198.51.100.7, 203.0.113.9"])
    assert b"<Report>2</Report>" in forged.body
    assert b"<Report>2</Report>" in post(server.port, body).body
    for address in ("203.0.113.9", "127.0.0.1"):
        wait_until(
            lambda address=address: f"the address {address} is in none" in server.log,
            "the log has the client's address",
        )

    headers = ["Host: dlr.example.com", "X-Forwarded-Proto: https"]
    wsdl = get(server.port, "/soap?wsdl", headers).text
    assert 'location="https://dlr.example.com/soap"' in wsdl


def test_the_same_over_a_unix_socket(serve, tmp_path, sample):
    path = tmp_path / "socket"
    server = serve(
        f"[server]\nlisten = ['tcp:0:interface=127.0.0.1', 'unix:{path}']\n"
        f"trusted_proxies = 'unix'\n{NETWORKS}",
        options=("--listen", f"unix:{path}"),
    )
    body = sample("csoft-v5-qualified.xml")
    with closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(
            b"POST /soap HTTP/1.1\r\nHost: h\r\nForwarded: for=198.51.100.7;proto=https\r\n"
            b"Content-Type: text/xml\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        assert b"<Report>0</Report>" in receive(connection).body
    # TCP is not among those trusted.
    answer = post(server.port, body, headers=["X-Forwarded-For: 198.51.100.7"])
    assert b"<Report>2</Report>" in answer.body


@pytest.mark.parametrize(
    "own", ['Forwarded: for="', "Forwarded: for=8.8.8.8"], ids=["broken", "another's"]
)
def test_no_header_of_a_clients_own_makes_it_the_proxy(pooled, sample, own):
    """Though the proxy appends to it, or writes the other header beside it."""
    server = pooled(PROXIES + CSOFT + 'networks = ["127.0.0.1", "198.51.100.0/24"]\n')
    body = sample("csoft-v5-qualified.xml")
    assert b"<Report>0</Report>" in post(server.port, body).body
    for headers in ([own, "X-Forwarded-For: 203.0.113.9"], [f"{own}, for=203.0.113.9"]):
        assert b"<Report>2</Report>" in post(server.port, body, headers=headers).body
    wait_until(lambda: "the address unknown is in none" in server.log, "the log says so")


def test_without_trusted_proxies_the_headers_are_ignored(serve, sample):
    server = serve(NETWORKS)
    for header in ("X-Forwarded-For: 198.51.100.7", "Forwarded: for=198.51.100.7"):
        answer = post(server.port, sample("csoft-v5-qualified.xml"), headers=[header])
        assert b"<Report>2</Report>" in answer.body
    headers = ["Host: dlr.example.com", "X-Forwarded-Proto: https"]
    assert 'location="http://dlr.example.com/soap"' in get(server.port, "/soap?wsdl", headers).text


def test_what_a_trusted_proxy_passes_on_needs_the_token_like_everything_else(serve):
    server = serve(PROXIES + CSOFT)
    assert get(server.port, "/api/v1/receipts", server.bearer).status == 200
    for header in ("X-Forwarded-For: 127.0.0.1", "Forwarded: for=::1", "X-Forwarded-Proto: http"):
        assert get(server.port, "/api/v1/receipts", [header]).status == 401
        assert get(server.port, "/api/v1/receipts", [header, *server.bearer]).status == 200


def test_a_unix_socket_is_its_owners_and_its_groups_unless_told_otherwise(serve, tmp_path):
    """Whoever connects to one that is trusted may name any address as the client's."""
    sockets = {"plain": ("", 0o660), "open": (":mode=666", 0o666), "own": (":mode=600", 0o600)}
    listens = [f"unix:{tmp_path / name}{says}" for name, (says, _) in sockets.items()]
    serve(options=tuple(word for each in listens for word in ("--listen", each)))
    for name, (_, mode) in sockets.items():
        assert (tmp_path / name).stat().st_mode & 0o777 == mode, name
