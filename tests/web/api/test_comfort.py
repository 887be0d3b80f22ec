"""Some fields, gzip, receipts oldest first, CORS, limits of a token, a line in the log."""

from __future__ import annotations

import gzip
import re

import pytest

from kit.api import call
from kit.server import Server, wait_until
from kit.soap import envelope
from kit.wire import post
from receiptd.receipt import RECEIPT_KEYS
from receiptd.web.api.answering import AT_ONCE, takes_gzip

CONFIG = """
[[endpoint]]
provider = "csoft"
path = "/soap"

[api]
cors_origins = ["https://app.example.com", "http://[::1]:3000"]

[[api.token]]
name = "billing"
token = "billing-token-1"
scopes = ["read", "write"]

[[api.token]]
name = "slow"
token = "slow-token-1"
requests_per_second = 2
"""
TOKEN = {"Authorization": "Bearer billing-token-1"}
SLOW = {"Authorization": "Bearer slow-token-1"}
RECEIPTS = "/api/v1/receipts"
COUNT = 250


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    started = Server(tmp_path_factory.mktemp("server"), CONFIG, "tcp:0:interface=127.0.0.1", [])
    for number in range(COUNT):
        assert post(started.port, envelope(f"C{number:04}")).status == 200
    post(started.port, envelope("C9999", Report=None))
    yield started
    started.kill()


def get(server, path, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return call(server, path, headers={**TOKEN, **named})


# --- Fields


def test_some_fields_are_shown_and_no_others(server):
    for query in ("fields=id,state&fields=code", "fields=id&fields=state&fields=code"):
        for each in get(server, f"{RECEIPTS}?{query}&limit=3").json["items"]:
            assert set(each) == {"id", "state", "code"}
    assert set(get(server, f"{RECEIPTS}/1?fields=raw").json) == {"raw"}
    (message,) = call(
        server, "/api/v1/messages", "POST", [{"provider": "csoft", "message_id": "F1"}], TOKEN
    ).json["items"]
    assert message["result"] == "registered"
    assert get(server, "/api/v1/messages?fields=state").json["items"] == [{"state": "ENROUTE"}]
    assert get(server, "/api/v1/rejected?fields=reason").json["items"] == [{"reason": "invalid"}]


def test_the_post_is_left_out_where_nobody_wants_it(server):
    (one,) = get(server, f"{RECEIPTS}?raw=false&limit=1").json["items"]
    assert set(one) == set(RECEIPT_KEYS) - {"raw"}
    assert "raw" not in get(server, "/api/v1/rejected/1?raw=false").json
    call(server, "/api/v1/messages", "POST", [{"provider": "csoft", "message_id": "C0001"}], TOKEN)
    shown = get(server, "/api/v1/messages/csoft/C0001?raw=false").json
    assert [set(each) for each in shown["receipts"]] == [set(RECEIPT_KEYS) - {"raw"}]


def test_a_field_that_is_none_is_named(server):
    problem = get(server, f"{RECEIPTS}?fields=id,stat").problem
    assert problem["status"] == 422
    assert "no field is called 'stat': did you mean 'state'?" in problem["detail"]


# --- Oldest first


def test_receipts_behind_an_id_come_oldest_first_and_completely(server):
    found = items_after(server, f"{RECEIPTS}?after=0&limit=70&raw=false")
    assert [each["message_id"] for each in found] == [f"C{n:04}" for n in range(COUNT)]
    ids = [each["id"] for each in found]
    assert ids == sorted(ids)


def items_after(server, path):
    found = []
    while path is not None:
        page = get(server, path).json
        found += page["items"]
        path, last = page["next"], page["last"]
    # Whoever goes on there gets what comes next, and nothing twice.
    assert get(server, f"{RECEIPTS}?after={last}").json == {
        "items": [],
        "next": None,
        "last": last,
    }
    return found


def test_what_is_filtered_goes_on_behind_what_was_looked_at(server):
    page = get(server, f"{RECEIPTS}?after=0&message_id=C0003").json
    assert [each["message_id"] for each in page["items"]] == ["C0003"]
    assert (page["next"], page["last"]) == (None, COUNT)
    page = get(server, f"{RECEIPTS}?after=0&state=REJECTED").json
    assert page == {"items": [], "next": None, "last": COUNT}
    # A page that begins behind all there is stays where it is.
    assert get(server, f"{RECEIPTS}?after=10000000").json["last"] == 10_000_000


# --- gzip


def test_answers_are_compressed_for_who_takes_that(server):
    for limit in (3, 200):
        path = f"{RECEIPTS}?limit={limit}"
        plain = get(server, path)
        zipped = get(server, path, Accept_Encoding="br, gzip;q=0.5")
        assert zipped.headers["content-encoding"] == "gzip"
        assert "content-encoding" not in plain.headers
        assert gzip.decompress(zipped.body) == plain.body
        assert len(zipped.body) < len(plain.body) / 2
        for answer in (plain, zipped):
            assert "Accept-Encoding" in answer.headers["vary"]
    assert len(plain.body) > AT_ONCE


def test_what_is_small_or_an_error_is_not_compressed(server):
    for path in ("/api/v1/forward", f"{RECEIPTS}/99999", "/api/v1/nowhere"):
        assert "content-encoding" not in get(server, path, Accept_Encoding="gzip").headers


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [
        ("gzip", True),
        ("x-gzip", True),
        ("*", True),
        ("deflate, GZIP ; q=0.001", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("", False),
        ("br", False),
        ("notgzip, gzipped", False),
        ("," * 100_000 + "gzip", False),
    ],
)
def test_accept_encoding_is_read_as_it_is_meant(accepted, takes):
    assert takes_gzip(accepted) is takes


# --- CORS


def test_a_page_of_a_configured_origin_may_ask_and_no_other(server):
    for origin in ("https://app.example.com", "http://[::1]:3000"):
        answer = get(server, f"{RECEIPTS}?limit=1", Origin=origin)
        assert answer.headers["access-control-allow-origin"] == origin
        assert "access-control-allow-credentials" not in answer.headers
    for origin in ("https://app.example.com.evil.example", "null", "https://APP.example.com"):
        answer = get(server, f"{RECEIPTS}?limit=1", Origin=origin)
        assert "access-control-allow-origin" not in answer.headers
        assert "Origin" in answer.headers["vary"]
    # An error can be read, too: otherwise the page would not know why.
    answer = call(server, RECEIPTS, headers={"Origin": "https://app.example.com"})
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (
        401,
        "https://app.example.com",
    )


def test_a_browser_is_told_before_it_asks_what_it_may(server):
    asks = {
        "Origin": "https://app.example.com",
        "Access-Control-Request-Method": "DELETE",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = call(server, "/api/v1/rejected/1", "OPTIONS", headers=asks)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["access-control-allow-methods"] == "DELETE, GET, HEAD"
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    strange = {**asks, "Origin": "https://evil.example"}
    assert call(server, "/api/v1/rejected/1", "OPTIONS", headers=strange).status == 401


def test_without_a_configuration_nothing_is_said_of_origins(shared_default):
    answer = call(shared_default, RECEIPTS, headers={"Origin": "https://app.example.com"})
    assert answer.status == 200
    assert "access-control-allow-origin" not in answer.headers
    assert "Origin" not in answer.headers.get("vary", "")


# --- Limits


def test_a_token_that_asks_too_often_is_told_to_wait(server):
    answers = [call(server, f"{RECEIPTS}?limit=1", headers=SLOW) for _ in range(30)]
    refused = [each for each in answers if each.status == 429]
    assert len(refused) >= 20
    assert {each.headers["retry-after"] for each in refused} == {"1"}
    assert "the token 'slow' may make 2 requests per second" in refused[0].problem["detail"]
    # Nobody else waits, and it may go on later.
    assert get(server, f"{RECEIPTS}?limit=1").status == 200
    wait_until(lambda: call(server, "/metrics", headers=SLOW).status == 200, "it may ask again")


# --- The log


def test_each_use_is_a_line_with_the_name_of_the_token(server):
    get(server, f"{RECEIPTS}?limit=2")
    get(server, f"{RECEIPTS}/99999")
    wait_until(
        lambda: re.search(r"API: billing: list_receipts 200 in [0-9.]+ ms", server.log), "1"
    )
    wait_until(lambda: re.search(r"API: billing: show_receipt 404 in [0-9.]+ ms", server.log), "2")
    assert "billing-token-1" not in server.log
