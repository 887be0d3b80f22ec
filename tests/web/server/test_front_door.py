"""What providers and portals send that is a little different, and what is sent to do harm."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from kit.server import Server, wait_until
from kit.soap import envelope, new_id
from kit.wire import TIMEOUT, chunked, get, post, receive, send
from receiptd.web.server.poll import readable

CONFIG = """
[server]
max_body = 300000
max_bodies = 1048576
[[endpoint]]
provider = "csoft"
path = "/soap"
[[endpoint]]
provider = "cdyne"
path = "/cdyne"
[[endpoint]]
provider = "seeme"
path = "/seeme"
[[endpoint]]
provider = "seeme"
path = "/seeme-token"
token = "demo-token"
[[endpoint]]
provider = "easysms"
path = "/easysms"
dlr_url = "http://h/easysms?id=%i&d=%d&status=%s&to=%p&done=%y"
"""
FORM = "application/x-www-form-urlencoded"
CDYNE = b"SMSSent=1&MessageID=%b&ToPhoneNumber=17575550123"


@pytest.fixture(scope="module")
def door(tmp_path_factory) -> Iterator[Server]:
    """A server with an endpoint of each kind. At the end its log has no traceback."""
    server = Server(tmp_path_factory.mktemp("door"), CONFIG, "tcp:0:interface=127.0.0.1", [])
    yield server
    server.kill()
    assert "Traceback" not in server.log


def head(port: int, path: str) -> bytes:
    """All that is answered to HEAD."""
    with closing(socket.create_connection(("127.0.0.1", port), TIMEOUT)) as connection:
        connection.sendall(
            f"HEAD {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode()
        )
        return b"".join(iter(lambda: connection.recv(4096), b""))


def stored(server: Server, message_id: str) -> list[dict]:
    return [each for each in server.receipts() if each["message_id"] == message_id]


# --- What portals ask


@pytest.mark.parametrize(
    "path",
    [
        *("/cdyne", "/seeme", "/easysms", "/seeme-token/demo-token", "/seeme/", "/seeme?"),
        "/seeme-token?token=demo-token",
    ],
)
def test_a_look_at_the_url_of_an_endpoint_is_told_what_it_is(door, path):
    before = len(door.rejected())
    answer = get(door.port, path)
    assert (answer.status, answer.text.count("\n")) == (200, 1)
    assert "takes SMS delivery receipts" in answer.text
    same = head(door.port, path)
    assert same.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Length: %d\r\n" % len(answer.body) in same
    assert same.endswith(b"\r\n\r\n")
    assert len(door.rejected()) == before


def test_head_is_taken_as_get_is_where_get_brings_receipts(door):
    """What is answered 200 is stored, whatever the method."""
    message = new_id()
    assert head(door.port, f"/seeme?reference={message}&number=36301234567&code=6").startswith(
        b"HTTP/1.1 200 "
    )
    assert len(stored(door, message)) == 1


def test_a_get_with_parameters_is_no_look_where_only_posts_bring_receipts(door):
    answer = get(door.port, "/cdyne?SMSSent=1")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert get(door.port, "/seeme", method="PUT").headers["allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize(
    "path",
    [
        *("//seeme", "/seeme/", "///seeme//", "/seeme-token/demo-token/", "//healthz"),
        "/seeme-token//demo-token",
    ],
)
def test_empty_segments_of_a_path_do_not_count(door, path):
    message = new_id()
    if "healthz" in path:
        assert get(door.port, path).status == 200
        return
    answer = get(door.port, f"{path}?reference={message}&number=36301234567&code=6")
    assert answer.status == 200
    assert len(stored(door, message)) == 1


def test_other_segments_count(door):
    for path in ("/seeme/x", "/x/seeme", "/seeme-token/demo-token/x", "/", "//"):
        assert get(door.port, f"{path}?reference=1&number=36301234567&code=6").status == 404


# --- Requests as they should not be written


def test_raw_spaces_and_bytes_in_a_query_are_read_as_in_a_body(door):
    query = b"reference=%b&number=36301234567&code=6&message=K\xe9zbes\xedtve a c\xedmzett"
    ids = [new_id().encode(), new_id().encode()]
    by_query = b"GET /seeme?" + query % ids[0] + b" HTTP/1.1\r\nHost: h\r\n\r\n"
    assert send(door.port, by_query).status == 200
    assert post(door.port, query % ids[1], "/seeme", FORM).status == 200
    first, second = (stored(door, each.decode())[0] for each in ids)
    assert first["extra"] == second["extra"]
    assert first["description"] == second["description"]
    message = new_id()
    done = f"GET /easysms?id={message}&d=1&status=DELIVRD&to=393401234567&done=2024-05-17 10:20"
    assert send(door.port, f"{done} HTTP/1.1\r\nHost: h\r\n\r\n".encode()).status == 200
    assert stored(door, message)[0]["state"] == "DELIVERED"


def test_bare_line_feeds_are_served(door):
    message = new_id()
    body = CDYNE % message.encode()
    lines = f"POST /cdyne HTTP/1.1\nHost: h\nContent-Type: {FORM}\nContent-Length: {len(body)}\n\n"
    assert send(door.port, lines.encode() + body).status == 200
    assert len(stored(door, message)) == 1


@pytest.mark.parametrize(
    "request_line", [b"POST /cdyne HTTP/2.0", b"POST /cdyne", b"P(ST /cdyne HTTP/1.1"]
)
def test_a_post_whose_request_line_cannot_be_read_is_kept(door, request_line):
    message = new_id().encode()
    request = request_line + b"\r\nContent-Type: " + FORM.encode() + b"\r\n\r\n" + CDYNE % message
    answer = send(door.port, request)
    assert (answer.status, answer.closed) == (400, True)
    assert "the request line" in answer.text
    kept = wait_until(
        lambda: [each for each in door.rejected() if message.decode() in str(each["raw"])],
        "it is among the rejected",
    )
    assert (kept[0]["endpoint"], kept[0]["reason"]) == ("cdyne", "unreadable")
    assert f"400 to 127.0.0.1 for /cdyne: {answer.text.strip()}" in door.log


def test_a_secret_in_what_cannot_be_read_is_not_kept(door):
    request = b"GET /seeme-token/demo-token?token=demo-token&reference=%b HTTP/9.9\r\n\r\n"
    message = new_id().encode()
    assert send(door.port, request % message).status == 400
    wait_until(lambda: message.decode() in str(door.rejected()), "it is among the rejected")
    assert b"demo-token" not in door.everything_kept()


ENDLESS = b"9" * 4301
NONSENSE = {
    "a length of 4301 digits": b"Content-Length: " + ENDLESS,
    "one of zeros": b"Content-Length: " + b"0" * 4301 + b"x",
    "a negative length": b"Content-Length: -1",
    "a length in words": b"Content-Length: ten",
    "a length in Arabic digits": "Content-Length: \u0665".encode(),
    "two lengths": b"Content-Length: 5\r\nContent-Length: 5",
    "two that differ": b"Content-Length: 5\r\nContent-Length: 6",
    "a length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    "chunks and a length": b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    "a chunk of 4301 digits": b"Transfer-Encoding: chunked\r\n\r\n" + ENDLESS,
    "a chunk beyond 64 bits": b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 17,
    "a negative chunk": b"Transfer-Encoding: chunked\r\n\r\n-1",
    "an unknown coding": b"Transfer-Encoding: br",
    "two codings": b"Transfer-Encoding: gzip, chunked",
}


@pytest.mark.parametrize("label", NONSENSE)
@pytest.mark.parametrize("path", [b"/soap", b"/cdyne", b"/api/v1/messages", b"/nowhere"])
def test_nonsense_about_the_length_of_a_body_is_a_400(door, label, path):
    answer = send(
        door.port, b"POST " + path + b" HTTP/1.1\r\nHost: h\r\n" + NONSENSE[label] + b"\r\n\r\n"
    )
    assert (answer.status, answer.closed) == (400, True)
    assert f"400 to 127.0.0.1 for {path.decode()[:4]}" in door.log


def test_tls_spoken_to_a_plain_port_is_answered_at_once(door):
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    answer = send(door.port, outgoing.read())
    assert (answer.status, answer.closed) == (400, True)
    assert "TLS was spoken to a port that takes plain HTTP" in answer.text
    assert f"400 to 127.0.0.1: {answer.text.strip()}" in door.log


# --- Bodies


def test_bodies_open_no_file(door):
    descriptors = Path(f"/proc/{door.process.pid}/fd")
    request = b"POST /cdyne HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    with ExitStack() as stack:
        connections = [
            stack.enter_context(closing(socket.create_connection(("127.0.0.1", door.port))))
            for _ in range(30)
        ]
        for each in connections:
            each.sendall(request + b"4\r\nSMSS\r\n")
        wait_until(lambda: get(door.port, "/healthz").status == 200, "all of that has been read")
        kinds = []
        for each in descriptors.iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                kinds.append(str(each.readlink()))
        assert len([each for each in kinds if each.startswith("socket:")]) >= 30
        assert len([each for each in kinds if not each.startswith("socket:")]) < 30


def test_a_body_in_chunks_is_taken_without_a_folder_for_temporary_files(door):
    message = new_id()
    body = chunked(CDYNE % message.encode(), 3)
    request = (
        f"POST /cdyne HTTP/1.1\r\nHost: h\r\nContent-Type: {FORM}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    ).encode()
    assert send(door.port, request + body).status == 200
    assert len(stored(door, message)) == 1


@pytest.mark.parametrize("coding", [b"Content-Length: 300000", b"Transfer-Encoding: chunked"])
def test_bodies_beyond_the_bound_on_all_of_them_are_answered_503(door, coding):
    request = b"POST /soap HTTP/1.1\r\nHost: h\r\n" + coding + b"\r\n\r\n"
    piece = b"x" * 290_000
    if b"chunked" in coding:
        request += b"493df\r\n"  # 299,999 bytes
    with ExitStack() as stack:
        senders = {}
        for _ in range(5):
            each = stack.enter_context(
                closing(socket.create_connection(("127.0.0.1", door.port), TIMEOUT))
            )
            each.sendall(request + piece)
            senders[each.fileno()] = each
        found = wait_until(lambda: readable(senders.values()), "one of them is answered")
        answer = receive(senders[found.pop()])
        assert answer.status == 503
        assert answer.headers["retry-after"] == "5"
        assert "server.max_bodies" in answer.text
        # Whoever sends a post in one go is served meanwhile.
        assert post(door.port, envelope(new_id())).status == 200
    wait_until(
        lambda: post(door.port, envelope(new_id()) + b" " * 250_000).status == 200,
        "there is room again",
    )


# --- Many requests at once


def test_whoever_sends_many_requests_at_once_keeps_nobody_waiting(door):
    number, each_sends = 60, 400
    with ExitStack() as stack:
        connections = [
            stack.enter_context(closing(socket.create_connection(("127.0.0.1", door.port))))
            for _ in range(number)
        ]
        os.kill(door.process.pid, signal.SIGSTOP)
        try:
            for connection in connections:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n" * each_sends)
            last = stack.enter_context(
                closing(socket.create_connection(("127.0.0.1", door.port), TIMEOUT))
            )
            body = envelope(new_id())
            last.sendall(
                b"POST /soap HTTP/1.1\r\nHost: h\r\nContent-Type: text/xml\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            os.kill(door.process.pid, signal.SIGCONT)
            assert receive(last).status == 200
            os.kill(door.process.pid, signal.SIGSTOP)
            answered = 0
            for connection in connections:
                connection.setblocking(False)
                try:
                    while data := connection.recv(1_000_000):
                        answered += data.count(b"HTTP/1.1 200 OK")
                except BlockingIOError:
                    pass
        finally:
            os.kill(door.process.pid, signal.SIGCONT)
        assert answered < number * each_sends / 4
