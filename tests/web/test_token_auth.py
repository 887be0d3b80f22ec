"""Who may use the HTTP API: tokens and their scopes, and this machine itself without any."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from kit.api import call
from kit.wire import get, send
from receiptd.web.problem import Problem
from receiptd.web.token_auth import Guard

RECEIPTS = "/api/v1/receipts"
MESSAGES = "/api/v1/messages"
MESSAGE = {"provider": "csoft", "message_id": "A1"}

TOKENS = """
[[api.token]]
name = "reader"
token = "read-token"

[[api.token]]
name = "writer"
token = "write-token"
scopes = ["write"]

[[api.token]]
name = "both"
token = "both+token/=="
scopes = ["read", "write"]
"""


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server with tokens."""
    from kit.server import Server

    server = Server(tmp_path_factory.mktemp("server"), TOKENS, "tcp:0:interface=127.0.0.1", [])
    yield server
    server.kill()


@pytest.mark.parametrize(
    ("token", "reads", "writes"),
    [("read-token", 200, 403), ("write-token", 403, 200), ("both+token/==", 200, 200)],
)
def test_a_token_is_good_for_its_scopes(guarded, token, reads, writes):
    headers = bearer(token)
    for path in (RECEIPTS, MESSAGES, "/api/v1/rejected", "/api/v1/openapi.json"):
        assert call(guarded, path, headers=headers).status == reads
    reply = call(guarded, MESSAGES, "POST", MESSAGE, headers)
    assert reply.status == writes
    if writes == 403:
        assert "the token 'reader' has not the scope 'write'" in reply.problem["detail"]
        challenge = reply.headers["www-authenticate"]
        assert challenge.startswith("Bearer ")
        assert 'error="insufficient_scope"' in challenge
        assert 'scope="write"' in challenge


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer wrong",
        "Bearer read-toke",
        "Bearer read-token2",
        "Bearer READ-TOKEN",
        "Bearer read-token write-token",
        "Bearer both+token/",
        "Basic read-token",
        "read-token",
        "Bearer ü",
    ],
)
def test_without_a_valid_token_nothing_is_told(guarded, authorization):
    headers = {"Authorization": authorization} if authorization is not None else {}
    for path, method in (
        (RECEIPTS, "GET"),
        (f"{RECEIPTS}/1", "GET"),
        (f"{RECEIPTS}/stream", "GET"),
        (MESSAGES, "POST"),
        ("/api/v1/openapi.json", "GET"),
        ("/api/v1/nothing", "GET"),
        (RECEIPTS, "DELETE"),
    ):
        reply = call(guarded, path, method, headers=headers)
        assert reply.status == 401
        assert reply.headers["www-authenticate"].startswith('Bearer realm="receiptd"')
        invalid = 'error="invalid_token"' in reply.headers["www-authenticate"]
        assert invalid == bool(authorization)
        assert "Authorization: Bearer TOKEN" in reply.problem["detail"]


def test_the_scheme_compares_without_case(guarded):
    assert call(guarded, RECEIPTS, headers={"Authorization": "bearer read-token"}).status == 200


def test_with_a_token_host_and_proxy_do_not_matter(guarded):
    headers = {**bearer("read-token"), "Host": "dlr.example.com", "X-Forwarded-For": "192.0.2.1"}
    assert call(guarded, RECEIPTS, headers=headers).status == 200


def test_the_next_page_is_linked_as_it_was_asked_for(guarded):
    for message_id in ("N1", "N2"):
        call(
            guarded, MESSAGES, "POST", {**MESSAGE, "message_id": message_id}, bearer("write-token")
        )
    headers = {**bearer("read-token"), "Host": "dlr.example.com"}
    link = call(guarded, f"{MESSAGES}?limit=1", headers=headers).json["next"]
    assert link.startswith(f"http://dlr.example.com{MESSAGES}?limit=1&cursor=")


def test_no_token_is_in_the_log(guarded):
    call(guarded, RECEIPTS, headers=bearer("secret-guess"))
    call(guarded, MESSAGES, "POST", MESSAGE, bearer("read-token"))
    assert "401 to 127.0.0.1: the token is none of the configured ones" in guarded.log
    assert "the token 'reader' has not the scope 'write'" in guarded.log
    for secret in ("secret-guess", "read-token", "write-token"):
        assert secret not in guarded.log


# Without a token configured


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:8080", "127.1.2.3", "[::1]", "[::1]:80"],
)
def test_this_machine_is_answered(shared_default, host):
    assert get(shared_default.port, RECEIPTS, [f"Host: {host}"]).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "example.com",
        "localhost.example.com",
        "127.0.0.1.example.com",
        "127.0.0.1@example.com",
        "example.com:127.0.0.1",
        "192.0.2.1",
        "0.0.0.0",
        "[::]",
        "[2001:db8::1]",
        "::1",
        "localhost:80:80",
        "localhost/",
        "[localhost]",
        "2130706433",
    ],
)
def test_another_host_is_refused(shared_default, host):
    """What a browser sends that a web page made ask under a name of the page's own."""
    for answer in (
        get(shared_default.port, RECEIPTS, [f"Host: {host}"]),
        get(shared_default.port, f"{RECEIPTS}/stream", [f"Host: {host}"]),
        get(shared_default.port, MESSAGES, [f"Host: {host}"], "POST"),
    ):
        assert answer.status == 403
        assert answer.headers["content-type"] == "application/problem+json"
        assert "[[api.token]]" in answer.text


def test_a_missing_or_a_second_host_is_refused(shared_default):
    for lines in (b"", b"Host: localhost\r\nHost: example.com\r\n"):
        request = b"GET /api/v1/receipts HTTP/1.0\r\n" + lines + b"\r\n"
        assert send(shared_default.port, request).status in (400, 403)


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For: 127.0.0.1",
        "x-forwarded-host: localhost",
        "X-Forwarded-Proto: https",
        "Forwarded: for=127.0.0.1",
        "X-Real-IP: 127.0.0.1",
        "Via: 1.1 proxy",
        "X-Forwarded-For:",
    ],
)
def test_what_a_proxy_has_passed_on_is_refused(shared_default, header):
    answer = get(shared_default.port, RECEIPTS, [header])
    assert answer.status == 403
    assert "passed on by a proxy" in answer.text
    assert "[[api.token]]" in answer.text


def test_another_machine_is_refused(serve):
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address = probe.getsockname()[0]
    server = serve(listen="tcp:0")
    with closing(socket.create_connection((address, server.port), 10)) as connection:
        connection.sendall(b"GET /api/v1/receipts HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = connection.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 403 ")
    assert f"not from {address}" in answer


class Asked:
    """What the guard looks at."""

    def __init__(self, peer):
        self.peer = peer
        self.request_id = "r1"

    def headers(self, name):
        """A request's headers."""
        return [b"localhost"] if name == b"Host" else []


@pytest.mark.parametrize(
    ("peer", "passes"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False),
        ("::ffff:192.0.2.1", False),
        ("fe80::1%eth0", False),
        ("10.0.0.1", False),
        (None, False),
    ],
)
def test_only_a_loopback_address_is_this_machine(peer, passes):
    guard = Guard([])
    if passes:
        guard.check(Asked(peer), "read")
    else:
        with pytest.raises(Problem) as problem:
            guard.check(Asked(peer), "read")
        assert problem.value.status == 403
