"""Who may use the HTTP API: whoever has a token of the right scope, and nobody else."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher

from kit.api import call
from kit.wire import get
from receiptd.web.problem import Problem
from receiptd.web.token_auth import LINES_SECONDS, MOST_LINES, Guard

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
    assert "401 to 127.0.0.1, who asked for /api/v1/receipts: the token is not one" in guarded.log
    refused = "403 to 127.0.0.1, who asked for /api/v1/messages: the token 'reader' has not"
    assert f"{refused} the scope 'write'" in guarded.log
    for secret in ("secret-guess", "read-token", "write-token"):
        assert secret not in guarded.log


# Without a token configured


@pytest.mark.parametrize(
    "headers",
    [
        [],
        ["Host: localhost"],
        ["Host: 127.0.0.1"],
        ["Host: [::1]"],
        ["Host: dlr.example.com", "X-Forwarded-For: 192.0.2.1"],
        ["Forwarded: for=127.0.0.1;host=localhost"],
        ["X-Real-IP: 127.0.0.1"],
        ["Authorization: Bearer "],
        ["Authorization: Bearer None"],
        ["Authorization: Basic YTpi"],
    ],
)
@pytest.mark.parametrize(
    ("path", "method"),
    [
        (RECEIPTS, "GET"),
        (f"{RECEIPTS}/stream", "GET"),
        (MESSAGES, "POST"),
        ("/api/v1/openapi.json", "GET"),
        ("/metrics", "GET"),
        ("/metrics", "HEAD"),
    ],
)
def test_however_local_a_request_looks_it_needs_a_token(shared_default, headers, path, method):
    answer = get(shared_default.port, path, headers, "GET" if method == "HEAD" else method)
    assert answer.status == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert "receiptd api-token" in answer.text


def test_who_has_no_token_is_told_where_one_comes_from(pooled):
    server = pooled('[[api.token]]\nname = "one"\ntoken = "one-long-token"\n')
    answer = get(server.port, RECEIPTS)
    assert answer.status == 401
    assert "configuration has as [[api.token]]" in answer.text
    assert "receiptd api-token" not in answer.text


def test_the_token_of_the_file_opens_everything(shared_default):
    for path in (RECEIPTS, MESSAGES, "/api/v1/openapi.json", "/metrics"):
        assert get(shared_default.port, path, shared_default.bearer).status == 200
    assert get(shared_default.port, MESSAGES, shared_default.bearer, "POST").status == 415
    for path in ("/healthz", "/readyz"):
        assert get(shared_default.port, path).status == 200


def test_a_socket_of_this_machine_opens_nothing_either(serve, tmp_path):
    path = tmp_path / "receiptd.socket"
    server = serve(options=("--listen", f"unix:{path}"))
    for header, status in ((b"", b"401"), (server.bearer[0].encode() + b"\r\n", b"200")):
        with closing(socket.socket(socket.AF_UNIX)) as connection:
            connection.settimeout(20)
            connection.connect(str(path))
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n" + header + b"\r\n")
            assert connection.recv(12) == b"HTTP/1.1 " + status


class Asked:
    """What the guard looks at."""

    peer = "127.0.0.1"
    request_id = "r1"

    def __init__(self, authorization=""):
        self._authorization = authorization

    def header(self, name):
        """The one header."""
        assert name == b"Authorization"
        return self._authorization


def test_a_guard_without_tokens_lets_nobody_pass():
    for authorization in ("", "Bearer ", "Bearer x"):
        with pytest.raises(Problem) as problem:
            Guard([]).check(Asked(authorization), "read", "/metrics")
        assert problem.value.status == 401


def test_whoever_guesses_tokens_does_not_fill_the_log():
    said = []

    def observe(event):
        if event.get("log_namespace") == "receiptd.web":
            said.append(formatEvent(event))

    clock = Clock()
    guard = Guard([], clock.seconds)
    globalLogPublisher.addObserver(observe)
    try:
        for _ in range(MOST_LINES + 7):
            with pytest.raises(Problem):
                guard.check(Asked("Bearer x"), "read", "/metrics")
        assert len(said) == MOST_LINES
        clock.advance(LINES_SECONDS)
        with pytest.raises(Problem):
            guard.check(Asked("Bearer x"), "read", "/metrics")
    finally:
        globalLogPublisher.removeObserver(observe)
    assert said[-1].endswith("(7 more were refused and are not named here)")
