"""The HTTP API on a real server: registering messages and reading back what is stored."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from kit.api import call, deliver, items, register
from kit.server import wait_until
from kit.wire import chunked, send

MESSAGES = "/api/v1/messages"
RECEIPTS = "/api/v1/receipts"


def message(message_id, recipient="447700912345", **fields):
    """A message as the application registers it."""
    return {"provider": "csoft", "message_id": message_id, "recipient": recipient, **fields}


# Registering


def test_one_message_is_registered_and_read_back(pooled):
    server = pooled(registers=True)
    reply = call(
        server, MESSAGES, "POST", message("A1", sender="ACME", reference="order 1", parts=2)
    )
    assert reply.status == 200
    assert reply.json == {
        "items": [
            {
                "provider": "csoft",
                "message_id": "A1",
                "recipient": "447700912345",
                "result": "registered",
            }
        ]
    }
    shown = call(server, f"{MESSAGES}/csoft/a1").json
    assert datetime.fromisoformat(shown.pop("registered_at")) <= datetime.now(UTC)
    assert shown == {
        "provider": "csoft",
        "message_id": "A1",
        "recipient": "447700912345",
        "sender": "ACME",
        "reference": "order 1",
        "parts": 2,
        "delivered": 0,
        "state": "ENROUTE",
        "final": False,
        "state_at": None,
        "price": None,
        "sent_at": None,
        "gave_up_at": None,
        "receipts": [],
        "receipts_complete": True,
    }


def test_registering_again_changes_nothing_and_says_so(pooled):
    server = pooled(registers=True)
    both = [message("A1"), message("A2", reference="x")]
    assert register(server, *both) == ["registered", "registered"]
    assert register(server, *both) == ["unchanged", "unchanged"]
    assert register(server, message("a1 ", "+44 7700 912345"), message("A2", reference="y")) == [
        "unchanged",
        "updated",
    ]
    assert [item["reference"] for item in items(server, MESSAGES)] == ["y", None]


def test_what_was_answered_survives_a_kill(serve, long):
    server = serve()
    kills = 5 if long else 2
    for number in range(kills):
        assert register(server, message(f"K{number}")) == ["registered"]
        server.kill()
        server.start()
    assert [item["message_id"] for item in items(server, MESSAGES)] == [
        f"K{number}" for number in reversed(range(kills))
    ]


def test_a_thousand_messages_in_one_request_and_no_more(pooled):
    server = pooled(registers=True)
    many = [message(f"m{number}", reference="r" * 255) for number in range(1000)]
    assert len(json.dumps(many)) > 300_000, "more than server.max_body"
    assert register(server, *many) == ["registered"] * 1000
    assert register(server) == []
    reply = call(server, MESSAGES, "POST", [*many, message("m1000")])
    assert reply.status == 422
    assert "at most 1000 messages" in reply.problem["detail"]


def test_a_large_body_is_taken_in_chunks_too(pooled):
    server = pooled(registers=True)
    body = json.dumps([message(f"m{number}", reference="r" * 255) for number in range(900)])
    head = (
        f"POST {MESSAGES} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nConnection: close\r\n"
        f"{server.bearer[0]}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    answer = send(server.port, head.encode(), chunked(body.encode(), 50_000))
    assert answer.status == 200
    assert len(json.loads(answer.body)["items"]) == 900


@pytest.mark.parametrize("path", [MESSAGES, "/soap"])
def test_each_path_has_its_own_body_limit(pooled, path):
    server = pooled()
    limit = 1024 * 1024 if path == MESSAGES else 65536
    for framing, body in (
        (f"Content-Length: {limit + 1}", b""),
        ("Transfer-Encoding: chunked", chunked(b"x" * (limit + 1), 65536)),
    ):
        head = f"POST {path} HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n".encode()
        answer = send(server.port, head, body)
        assert answer.status == 413
        assert f"larger than {limit} bytes" in answer.text
        assert ("server.max_body" in answer.text) == (path == "/soap")
        if path == MESSAGES:
            assert answer.headers["content-type"] == "application/problem+json"
            assert json.loads(answer.body)["status"] == 413


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ({"provider": "csoft"}, "#/message_id", "is missing"),
        (message("A1", provider="csfot"), "#/provider", "did you mean 'csoft'?"),
        (message(" "), "#/message_id", "is empty: it must name the message"),
        (message("x" * 256), "#/message_id", "has 256 characters: at most 255"),
        (message("a\0"), "#/message_id", "contains NUL"),
        (message(7.5), "#/message_id", "expected a valid string, not '7.5'"),
        (message("A1", "not a phone"), "#/recipient", "a phone number in digits was expected"),
        (message("A1", ""), "#/recipient", "a phone number in digits was expected"),
        (message("A1", sender="x" * 256), "#/sender", "has 256 characters: at most 255"),
        (message("A1", parts=0), "#/parts", "is 0: expected 1 to 255"),
        (message("A1", parts=256), "#/parts", "is 256: expected 1 to 255"),
        (message("A1", parts="2"), "#/parts", "expected a valid integer, not '2'"),
        (message("A1", parts=True), "#/parts", "expected a valid integer"),
        (message("A1", refrence="x"), "#/refrence", "is unknown: did you mean 'reference'?"),
        (message("A1", **{"a/b~ä": 1}), "#/a~1b~0%C3%A4", "is unknown: expected one of provider"),
        ([message("A1"), message("A2", parts=0)], "#/1/parts", "is 0: expected 1 to 255"),
        ([message("A1"), "A2"], "#/1", "expected a JSON object"),
        ("A1", "#", "expected a JSON object"),
        (None, "#", "expected a JSON object"),
    ],
)
def test_a_message_that_is_no_good_is_named_and_nothing_is_registered(api, body, pointer, detail):
    reply = call(
        api, MESSAGES, "POST", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    assert reply.status == 422
    (error,) = reply.problem["errors"]
    assert error["pointer"] == pointer
    assert detail in error["detail"]
    assert detail in reply.problem["detail"]
    assert items(api, MESSAGES) == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1,", b"\xff", b'{"a": NaN}', b"[" * 100_000, b'"\\ud800"', b"nonsense"]
)
def test_what_is_no_json_is_400(api, body):
    reply = call(api, MESSAGES, "POST", body, {"Content-Type": "application/json; charset=utf-8"})
    assert reply.status in (400, 422)
    assert reply.problem["detail"]


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_only_json_is_taken(api, content_type):
    """A web page can send the others from a browser without being allowed to."""
    headers = {"Content-Type": content_type} if content_type else {}
    reply = call(api, MESSAGES, "POST", b"{}", headers)
    assert reply.status == 415
    assert reply.headers["accept"] == "application/json"
    assert (content_type or "missing") in reply.problem["detail"]


# Messages


def test_a_receipt_that_came_first_is_adopted_and_shown(serve):
    server = serve('[[endpoint]]\nprovider = "csoft"\npath = "/soap"\nmatch = "always"\n')
    assert "Report=-1" in deliver(server, "A1")
    (before,) = items(server, RECEIPTS)
    assert before["verdict"] == "unknown-message"
    assert call(server, f"{MESSAGES}/csoft/A1").status == 404

    register(server, message("A1"))

    shown = call(server, f"{MESSAGES}/csoft/A1").json
    assert (shown["state"], shown["final"], shown["delivered"]) == ("DELIVERED", True, 1)
    assert shown["receipts"] == [{**before, "verdict": "accepted"}]


def test_an_identifier_with_several_recipients_is_summed_up(pooled):
    server = pooled(registers=True)
    register(server, message("A1", "447700900001"), message("A1", "447700900002"))
    deliver(server, "A1", phone="447700900001")
    deliver(server, "A1", phone="447700900003")
    shown = call(server, f"{MESSAGES}/csoft/A1").json
    assert (shown["recipient"], shown["state"], shown["final"]) == (None, "ENROUTE", False)
    assert (shown["parts"], shown["delivered"]) == (2, 1)
    assert [(each["recipient"], each["state"]) for each in shown["recipients"]] == [
        ("447700900001", "DELIVERED"),
        ("447700900002", "ENROUTE"),
    ]
    assert [each["verdict"] for each in shown["receipts"]] == ["accepted", "wrong-recipient"]


def test_an_identifier_may_hold_any_character(pooled):
    server = pooled(registers=True)
    for message_id, path in (
        ("a/b", "a%2Fb"),
        ("a/b", "a/b"),
        ("a b+c", "a%20b+c"),
        ("ü€?#%", "%C3%BC%E2%82%AC%3F%23%25"),
        ("stream", "stream"),
        ("..", "%2E%2E"),
    ):
        register(server, message(message_id))
        assert call(server, f"{MESSAGES}/csoft/{path}").json["message_id"] == message_id


def test_pending_messages_are_one_query(pooled):
    server = pooled(registers=True)
    register(server, message("A1"), message("A2"), message("A3"))
    deliver(server, "A2")

    def pending(until):
        query = f"{MESSAGES}?final=false&until={until}"
        return [item["message_id"] for item in items(server, query)]

    assert pending("4h") == []
    assert pending("0s") == ["A3", "A1"]
    later = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    assert pending(later.replace("+", "%2B")) == ["A3", "A1"]
    assert pending(later) == ["A3", "A1"], "also where a client does not escape the plus"
    assert [item["message_id"] for item in items(server, f"{MESSAGES}?final=true")] == ["A2"]


# Lists


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A server with a receipt of each sort and rejected posts."""
    from kit.server import Server

    config = (
        '[[endpoint]]\nprovider = "csoft"\npath = "/soap"\nmatch = "always"\n'
        '[[endpoint]]\nprovider = "csoft"\npath = "/two"\n'
        '[[endpoint]]\nprovider = "cdyne"\npath = "/cdyne"\n'
    )
    server = Server(tmp_path_factory.mktemp("server"), config, "tcp:0:interface=127.0.0.1", [])
    register(server, message("A1"), message("A2", "447700900002", reference="order 2"))
    deliver(server, "A1")
    deliver(server, "A1", phone="447700900009")
    deliver(server, "B1", report=27, phone="%2B44 7700 900001")
    deliver(server, "A2", report=1, phone="447700900002")
    deliver(server, "")
    deliver(server, "A1", report="")
    yield server
    server.kill()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [4, 3, 2, 1]),
        ("provider=csoft", [4, 3, 2, 1]),
        ("provider=cdyne", []),
        ("provider=cdyne&provider=csoft&endpoint=soap", [4, 3, 2, 1]),
        ("endpoint=two", []),
        ("kind=delivery", [4, 3, 2, 1]),
        ("kind=reply&kind=call", []),
        ("state=DELIVERED", [2, 1]),
        ("state=ENROUTE&state=DELIVERED", [4, 2, 1]),
        ("verdict=unknown-message", [3]),
        ("verdict=wrong-recipient&verdict=unknown-message", [3, 2]),
        ("verdict=accepted", [4, 1]),
        ("recipient=00447700900001", [3]),
        ("recipient=+44 7700 900001".replace(" ", "%20"), [3]),
        ("recipient=%2B447700900001&state=DELIVERED", []),
        ("message_id=a1", [2, 1]),
        ("message_id=%20A1", [2, 1]),
        ("reference=none", []),
        ("since=1h", [4, 3, 2, 1]),
        ("since=2020-01-01&until=2021-01-01T00:00:00Z", []),
        ("until=1h", []),
    ],
)
def test_receipts_are_filtered(filled, query, expected):
    found = items(filled, f"{RECEIPTS}?{query}")
    # What state a code stands for is the provider module's business.
    states = {each["id"]: each["state"] for each in items(filled, RECEIPTS)}
    if query.startswith("state="):
        wanted = [each.removeprefix("state=") for each in query.split("&")]
        expected = [number for number in (4, 3, 2, 1) if states[number] in wanted]
        assert expected
    assert [each["id"] for each in found] == expected


def test_one_receipt_is_shown_by_its_id(filled):
    (newest, *_) = items(filled, RECEIPTS)
    assert call(filled, f"{RECEIPTS}/{newest['id']}").json == newest
    for name in ("99", "0", "x", "-1", "1.0", "9" * 30, "%C2%B2"):
        assert call(filled, f"{RECEIPTS}/{name}").status == 404


def test_rejected_posts_are_listed_and_filtered(filled):
    found = items(filled, "/api/v1/rejected")
    assert [(each["reason"], each["field"]) for each in found] == [
        ("invalid", "Report"),
        ("invalid", "MessageIdentifier"),
    ]
    assert items(filled, "/api/v1/rejected?reason=invalid&endpoint=soap&provider=csoft") == found
    assert items(filled, "/api/v1/rejected?reason=unreadable&reason=unauthorized") == []
    assert items(filled, "/api/v1/rejected?until=1d") == []


def test_a_page_links_to_the_next_with_the_same_filters(filled):
    path = f"{RECEIPTS}?limit=1&state=DELIVERED&recipient=%2B447700912345&since=1d"
    assert call(filled, path).json["next"] is None
    path = f"{RECEIPTS}?state=DELIVERED&limit=1&endpoint=soap"
    first = call(filled, path).json
    base = f"http://127.0.0.1:{filled.port}{RECEIPTS}"
    assert first["next"].startswith(f"{base}?state=DELIVERED&limit=1&endpoint=soap&cursor=")
    second = call(filled, first["next"].removeprefix(f"http://127.0.0.1:{filled.port}")).json
    assert [each["id"] for each in first["items"] + second["items"]] == [2, 1]
    assert second["next"] is None


def test_pages_neither_skip_nor_repeat_while_receipts_arrive(pooled):
    server = pooled()
    with ThreadPoolExecutor(8) as workers:
        list(workers.map(lambda number: deliver(server, f"m{number}"), range(60)))
    before = {each["id"] for each in items(server, RECEIPTS)}
    assert len(before) == 60

    done = threading.Event()

    def arrive(worker):
        number = 0
        while not done.is_set():
            deliver(server, f"late{worker}-{number}")
            number += 1

    writers = [threading.Thread(target=arrive, args=(worker,)) for worker in range(3)]
    for writer in writers:
        writer.start()
    try:
        wait_until(lambda: items(server, f"{RECEIPTS}?limit=1000")[0]["id"] > 60, "one arrives")
        for limit in (1, 7, 100):
            seen = [each["id"] for each in items(server, f"{RECEIPTS}?limit={limit}")]
            assert seen == list(range(seen[0], 0, -1))
            assert seen[0] > 60
    finally:
        done.set()
        for writer in writers:
            writer.join()


# Errors


@pytest.mark.parametrize(
    ("query", "parameter", "detail"),
    [
        ("stat=DELIVERED", "stat", "is unknown: did you mean 'state'?"),
        ("state=delivered", "state", "is 'delivered': did you mean 'DELIVERED'?"),
        ("kind=sms", "kind", "is 'sms': expected one of sent, delivery"),
        ("limit=0", "limit", "greater than or equal to 1"),
        ("limit=1001", "limit", "less than or equal to 1000"),
        ("limit=1e2", "limit", "expected a whole number, not '1e2'"),
        ("limit=%2B5", "limit", "expected a whole number"),
        ("limit=1_0", "limit", "expected a whole number"),
        ("limit=", "limit", "expected a whole number"),
        ("limit=5&limit=6", "limit", "is there more than once"),
        ("cursor=-", "cursor", "is none that an earlier page's `next` holds"),
        ("recipient=x", "recipient", "a phone number in digits was expected"),
        ("reference=", "reference", "is empty"),
        ("reference=%00", "reference", "contains NUL"),
        ("message_id=%20", "message_id", "is empty"),
        ("since=yesterday", "since", "is no time such as"),
        ("since=0001-01-01T00:00:00%2B12:00", "since", "is no time such as"),
        ("until=99999w", "until", "is no time such as"),
        ("since=999999999w", "since", "is no time such as"),
        ("since=" + "T%20" * 4000, "since", "has 8000 characters: no time has more than 64"),
        ("cursor=zzzzzzzzzzzzz", "cursor", "is none that an earlier page's `next` holds"),
        ("cursor=1%00", "cursor", "is none that an earlier page's `next` holds"),
        (
            "provider=cosft",
            "provider",
            "nothing is called 'cosft': did you mean 'csoft'?",
        ),
        (
            "provider=csoft&provider=x",
            "provider",
            "nothing is called 'x': expected one",
        ),
        ("endpoint=nope", "endpoint", "nothing is called 'nope': expected one of cdyne"),
        ("verdict=unknown_message", "verdict", "did you mean 'unknown-message'?"),
        ("recipient=abc", "recipient", "a phone number in digits was expected"),
    ],
)
def test_a_parameter_that_is_no_good_is_named(api, query, parameter, detail):
    reply = call(api, f"{RECEIPTS}?{query}")
    assert reply.status == 422
    (error,) = reply.problem["errors"]
    assert error["parameter"] == parameter
    assert detail in error["detail"]
    assert f"{parameter}: {error['detail']}" == reply.problem["detail"]


def test_all_parameters_that_are_no_good_are_named(api):
    reply = call(api, f"{MESSAGES}?limit=x&final=1&a=1&b=2&b=2")
    assert {error["parameter"] for error in reply.problem["errors"]} == {
        "limit",
        "final",
        "a",
        "b",
    }
    assert call(api, f"{RECEIPTS}?state=%FF").status == 400
    assert call(api, f"{RECEIPTS}/1?limit=1").status == 422
    assert call(api, f"{MESSAGES}?x=1", "POST", message("A1")).status == 422


@pytest.mark.parametrize(
    "path",
    [
        "/api",
        "/api/",
        "/api/v1",
        "/api/v1/",
        "/api/v2/receipts",
        "/api/v1/receipt",
        "/api/v1/receipts/",
        "/api/v1/messages/csoft",
        "/api/v1/messages/csoft/",
        "/api/v1/messages//A1",
        "/api/v1/messages/csoft/%FF",
        "/api/v1/rejected/1/x",
        "/api/v1/openapi.json/x",
    ],
)
def test_what_is_nowhere_is_a_problem_too(api, path):
    reply = call(api, path)
    assert reply.status == 404
    if path != "/api":
        assert "openapi.json" in reply.problem["detail"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (MESSAGES, "GET, HEAD, POST"),
        (RECEIPTS, "GET, HEAD"),
        (f"{RECEIPTS}/1", "GET, HEAD"),
        (f"{RECEIPTS}/stream", "GET, HEAD"),
        (f"{MESSAGES}/csoft/A1", "GET, HEAD"),
    ],
)
def test_other_methods_are_refused_with_those_allowed(api, path, allowed):
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "POST"):
        if method in allowed:
            continue
        reply = call(api, path, method)
        assert reply.status == 405
        assert reply.headers["allow"] == allowed
        assert allowed in reply.problem["detail"]


def test_head_is_get_without_the_body(api):
    for path in (RECEIPTS, MESSAGES, "/api/v1/rejected", "/api/v1/openapi.json", f"{RECEIPTS}/9"):
        whole, head = call(api, path), call(api, path, "HEAD")
        assert head.body == b""
        assert head.status == whole.status
        for name in ("content-length", "content-type"):
            assert head.headers[name] == whole.headers[name]


def test_nobody_on_the_way_keeps_an_answer(api):
    for path in (RECEIPTS, f"{RECEIPTS}/9", "/api/v1/nothing"):
        assert call(api, path).headers["cache-control"] == "no-store"


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """A server with an empty store, for a module's tests."""
    from kit.server import Server

    server = Server(tmp_path_factory.mktemp("server"), "", "tcp:0:interface=127.0.0.1", [])
    yield server
    server.kill()
