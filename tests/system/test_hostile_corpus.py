"""Ten thousand hostile requests: each is answered, none is a traceback, no secret is kept."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import quote

import pytest

from blanking.test_by_value import holds
from kit.hostile import Hostile, inputs
from kit.server import locked, resident
from kit.soap import envelope, new_id, response_of
from kit.wire import get, post

NUMBER = 10_000
CONNECTIONS = 8
SECRETS = ("BLUE.music", "other-PIN.7", "t0ken-in-the-URL", "basic password!", "api-token-abcdef0")
CONFIG = """
[[endpoint]]
provider = "csoft"
path = "/soap"
username = "ANOther.61234"
pin = ["BLUE.music", "other-PIN.7"]
[[endpoint]]
provider = "csoft"
path = "/open"
[[endpoint]]
provider = "cdyne"
path = "/cdyne"
[[endpoint]]
provider = "cdyne-phone"
path = "/cdyne/phone"
[[endpoint]]
provider = "seeme"
path = "/seeme"
[[endpoint]]
provider = "seeme"
path = "/seeme-token"
token = "t0ken-in-the-URL"
[[endpoint]]
provider = "easysms"
path = "/easysms"
[[endpoint]]
provider = "easysms"
path = "/easysms-basic"
basic = { username = "dlr", password = "basic password!" }
[[api.token]]
name = "reader"
token = "api-token-abcdef0"
"""
PATHS = (
    *("/soap", "/soap", "/open", "/open", "/cdyne", "/cdyne/phone", "/seeme", "/seeme-token"),
    *("/easysms", "/easysms-basic", "/api/v1/receipts", "/metrics"),
)
ANSWERS = frozenset({200, 400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 417, 422, 431, 500})
"""What a hostile request may be answered. 500 is SOAP's fault; 503 would be our own trouble."""
MOST_MEMORY = 120 * 1024 * 1024
"""Bytes by which the process may have grown; leaks of a body each would be more."""


class _Bytes:
    """What HTTPResponse reads from."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def makefile(self, mode: str) -> object:
        """The connection's bytes."""
        return self._connection.makefile(mode)


def served(port: int, requests: Iterable[Hostile]) -> Counter[tuple[str, int]]:
    """Send `requests` on one connection, each behind the answer to the one before, and on a new
    one where that was closed; how many of each kind were answered how."""
    answers: Counter[tuple[str, int]] = Counter()
    connection = None
    for request in requests:
        if connection is None:
            connection = socket.create_connection(("127.0.0.1", port), timeout=20)
        connection.sendall(request.data)
        response = HTTPResponse(_Bytes(connection), method="HEAD" if request.head else "POST")  # type: ignore[arg-type]
        try:
            response.begin()
            response.read()
        except Exception as error:
            raise AssertionError(f"{request.kind}: {error!r}: {request.data!r}") from error
        assert response.status in ANSWERS, (response.status, request)
        answers[request.kind, response.status] += 1
        if response.will_close:
            connection.close()
            connection = None
    if connection is not None:
        connection.close()
    return answers


@pytest.mark.parametrize("seed", [1])
def test_ten_thousand_hostile_requests(serve, seed):
    server = serve(CONFIG)
    requests = list(inputs(seed, NUMBER, PATHS, SECRETS))
    warm = [requests[start : NUMBER // 10 : CONNECTIONS] for start in range(CONNECTIONS)]
    rest = [requests[NUMBER // 10 + start :: CONNECTIONS] for start in range(CONNECTIONS)]
    answers: Counter[tuple[str, int]] = Counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for part in pool.map(lambda each: served(server.port, each), warm):
            answers += part
        (process,) = server.processes()
        before = resident(process)
        for part in pool.map(lambda each: served(server.port, each), rest):
            answers += part
    grown = resident(process) - before

    assert answers.total() == NUMBER
    statuses = {status for _, status in answers}
    assert {200, 400, 403, 404, 405, 500} <= statuses, "the corpus reaches every kind of answer"
    assert grown < MOST_MEMORY
    _still_serves(server)
    server.stop()
    assert "Traceback" not in server.log
    kept = server.everything_kept()
    for secret in SECRETS:
        assert not holds(kept, secret), secret


def test_no_secret_is_in_the_spool(serve, tmp_path):
    """While the database stores nothing, all that is kept is in the spool."""
    url = f"sqlite:///{tmp_path / 'server-0' / 'receipts.db'}?timeout=0.2"
    server = serve(CONFIG, options=("--database", url))
    _still_serves(server)
    with locked(server):
        served(server.port, inputs(2, NUMBER // 20, PATHS, SECRETS))
        spool = [each for each in Path(f"{server.database}-spool").rglob("*") if each.is_file()]
        kept = b"".join(each.read_bytes() for each in spool)
        assert len(kept) > 10_000, "the spool is in use"
        for secret in SECRETS:
            assert not holds(kept, secret), secret


def _still_serves(server):
    """A genuine post is taken at each endpoint."""
    number = new_id()
    for path in ("/soap", "/open"):
        answer = post(server.port, envelope(f"{number}-{path[1:]}"), path)
        assert response_of(answer)[1]["Report"] == "0"
    for path, form in {
        "/cdyne": f"SMSSent=1&MessageID={number}&ToPhoneNumber=17572373369",
        "/cdyne/phone": f"QueueID={number}&ResponseCode=1",
    }.items():
        kind = "application/x-www-form-urlencoded"
        assert post(server.port, form.encode(), path, kind).status == 200, path
    query = f"reference={number}&number=36301234567&code=6"
    assert get(server.port, f"/seeme?{query}").status == 200
    assert get(server.port, f"/seeme-token?token={SECRETS[2]}&{query}").status == 200
    query = f"id={number}&d=1&status=DELIVRD&to=393401234567"
    assert get(server.port, f"/easysms?{query}").status == 200
    with closing(socket.socket()):
        basic = "Authorization: Basic ZGxyOmJhc2ljIHBhc3N3b3JkIQ=="
        assert get(server.port, f"/easysms-basic?{query}", [basic]).status == 200
    assert len([each for each in server.receipts() if str(each["message_id"]).startswith(number)])
    assert get(server.port, f"/seeme-token/{quote(SECRETS[2])}?code=x").status == 400
