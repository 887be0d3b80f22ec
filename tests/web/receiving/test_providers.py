"""CDYNE, SeeMe and EasySMS over a real socket: samples byte for byte, and the ways to say no."""

from __future__ import annotations

import base64
import socket
from contextlib import closing
from typing import Any

import pytest

from kit.server import SAMPLES, Server
from kit.wire import chunked, get, post, receive, send

FORM = "application/x-www-form-urlencoded"
SENT = b"SMSSent=1&MessageID=%s&ToPhoneNumber=17575449511"
SEEME = "/seeme?reference={}&number=36301234567&code=6&timestamp=2013-09-01+09%3A12%3A29"


@pytest.fixture(scope="module")
def server(shared_default: Server) -> Server:
    """A server without configuration: every provider at its usual path."""
    return shared_default


def stored(server: Server, message_id: str) -> dict[str, Any]:
    """The one receipt of that identifier."""
    (receipt,) = [each for each in server.receipts() if each["message_id"] == message_id]
    return receipt


SAMPLE_RECEIPTS: dict[str, dict[str, Any]] = {
    "cdyne-sent.http": {
        "message_id": "9a35e913-ded0-7574-4642-5f60c550c706",
        "provider": "cdyne",
        "endpoint": "cdyne",
        "kind": "sent",
        "state": "ENROUTE",
        "code": "1",
        "recipient": "17575449511",
        "sender": "17575449510",
        "reference": "12345",
        "reported_at": "2010-05-08T02:42:36Z",
    },
    "cdyne-reply.http": {
        "message_id": "9a35e913-ded0-7574-4642-5f60c550c706",
        "kind": "reply",
        "text": "Test",
        "recipient": "17575449511",
        "reported_at": "2010-05-08T02:42:36Z",
    },
    "cdyne-delivery.http": {
        "message_id": "f880e00b-3a14-484c-80e7-ca6aa29a2f7a",
        "kind": "delivery",
        "state": "ENROUTE",
        "code": "003",
        "recipient": "17572373369",
        "reported_at": "2012-09-28T13:34:00Z",
    },
    "cdyne-phone.http": {
        "message_id": "183729",
        "provider": "cdyne-phone",
        "endpoint": "cdyne/phone",
        "kind": "call",
        "state": "DELIVERED",
        "code": "1",
    },
    "seeme-delivered.http": {
        "message_id": "sms43",
        "kind": "delivery",
        "state": "DELIVERED",
        "code": "6",
        "description": "Kézbesítve",
        "recipient": "36301234567",
        "reference": "sms43",
        "reported_at": "2013-09-01T07:12:29Z",
        "price": "13.90",
        "parts": 2,
    },
    "easysms-delivered.http": {
        "message_id": "7584",
        "kind": "delivery",
        "state": "DELIVERED",
        "code": "1",
        "recipient": "34666555444",
        "sender": "TEST",
        "reported_at": "2020-09-21T12:19:00Z",
        "price": "0.045",
        "part": 1,
    },
}


@pytest.mark.parametrize("name", SAMPLE_RECEIPTS)
def test_samples(pooled, sample, name):
    server = pooled()
    request = sample(name)
    with closing(socket.create_connection(("127.0.0.1", server.port), 10)) as connection:
        head, _, body = request.partition(b"\r\n\r\n")
        if b"Expect: 100-continue" in head:
            connection.sendall(head + b"\r\n\r\n")
            assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(body)
        else:
            connection.sendall(request)
        answer = receive(connection)

    assert answer.status == 200
    assert answer.body == b""
    (receipt,) = server.receipts()
    expected = SAMPLE_RECEIPTS[name]
    assert {key: receipt[key] for key in expected} == expected
    if name == "cdyne-phone.http":
        assert receipt["extra"]["confirm"] == "1", "what the script collected"


def test_every_sample_is_tested():
    files = [path.name for path in SAMPLES.iterdir() if path.is_file()]
    others = {name for name in files if not name.startswith("csoft-")}
    assert others == set(SAMPLE_RECEIPTS)


def test_a_client_that_waits_for_100_continue_is_not_stalled(server):
    body = SENT % b"continue-1"
    head = (
        f"POST /cdyne HTTP/1.1\r\nHost: h\r\nContent-Type: {FORM}\r\n"
        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    with closing(socket.create_connection(("127.0.0.1", server.port), 10)) as connection:
        connection.sendall(head.encode())
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert receive(connection).status == 200


def test_query_and_body_are_merged(server):
    answer = post(server.port, b"ToPhoneNumber=17575449511&SMSSent=1", "/cdyne?MessageID=q1", FORM)
    assert (answer.status, answer.body) == (200, b"")
    assert stored(server, "q1")["recipient"] == "17575449511"


def test_every_stage_of_a_call_is_stored_and_each_once(server):
    stages = [b"QueueID=77&incoming=false", b"QueueID=77&ResponseCode=1&Duration=3"]
    for stage in [*stages, *stages]:
        assert post(server.port, stage, "/cdyne/phone", FORM).status == 200
    found = [each for each in server.receipts() if each["message_id"] == "77"]
    assert [(each["code"], each["repeats"]) for each in found] == [(None, 1), ("1", 1)]


# --- Manners


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/cdyne", "POST"),
        ("/cdyne/phone", "POST"),
        ("/seeme", "GET, HEAD, POST"),
        ("/easysms", "GET, HEAD, POST"),
    ],
)
def test_only_the_methods_that_a_provider_uses(server, path, allow):
    for method in {"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"} - set(allow.split(", ")):
        if method == "HEAD":
            continue
        # A GET without parameters is a look at the URL.
        answer = get(server.port, f"{path}?code=6", method=method)
        assert (answer.status, answer.headers["allow"]) == (405, allow), method


def test_nonsense_is_400_with_one_line_that_names_the_field(server):
    answer = get(server.port, "/seeme?reference=bad1&number=36301234567&code=")
    assert answer.status == 400
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == "code is missing: it must be the status, a number from 1 to 10\n"
    kept = server.rejected()[-1]
    assert (kept["endpoint"], kept["reason"], kept["field"]) == ("seeme", "invalid", "code")
    assert kept["raw"] == "?reference=bad1&number=36301234567&code="


def test_repeated_empty_and_missing_parameters(server):
    answer = get(
        server.port, "/seeme?reference=r1&number=&code=&code=6&code=7&sender=&reference=r2"
    )
    assert answer.status == 200
    receipt = stored(server, "r1")
    assert (receipt["code"], receipt["recipient"], receipt["sender"]) == ("6", None, None)
    assert receipt["extra"] == {"code": "7", "reference": "r2"}


def test_a_multipart_form(server):
    body = (
        b'--B\r\nContent-Disposition: form-data; name="SMSSent"\r\n\r\n1\r\n'
        b'--B\r\nContent-Disposition: form-data; name="MessageID"\r\n\r\nmulti1\r\n--B--\r\n'
    )
    assert post(server.port, body, "/cdyne", "multipart/form-data; boundary=B").status == 200
    assert stored(server, "multi1")["kind"] == "sent"


def test_a_chunked_form(server):
    head = (
        b"POST /cdyne HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
        b"Connection: close\r\n\r\n"
    )
    assert send(server.port, head, chunked(SENT % b"chunked1", 7)).status == 200
    assert stored(server, "chunked1")["kind"] == "sent"


def test_a_form_without_its_content_type_is_a_form(server):
    assert post(server.port, SENT % b"untyped1", "/cdyne", None).status == 200
    assert stored(server, "untyped1")["kind"] == "sent"


def test_the_body_limit_holds_here_too(server):
    assert post(server.port, b"a=" + b"x" * 65_536, "/cdyne", FORM).status == 413


def test_configured_codes(serve):
    server = serve(
        '[[endpoint]]\nprovider = "seeme"\npath = "/seeme"\n'
        'codes = { "42" = "EXPIRED", "6" = "ACCEPTED" }\n'
    )
    for code in ("42", "43", "6"):
        get(server.port, f"/seeme?reference=c{code}&code={code}")
    assert [(each["code"], each["state"]) for each in server.receipts()] == [
        ("42", "EXPIRED"),
        ("43", "UNKNOWN"),
        ("6", "ACCEPTED"),
    ]


def test_easysms_by_the_template_that_was_given_to_it(serve):
    server = serve(
        '[[endpoint]]\nprovider = "easysms"\npath = "/notifica.php"\n'
        'dlr_url = "https://x.example/notifica.php?idenvio={message_id}&remitente=%p&tel=%P'
        '&estado=%d&campaign=spring"\n'
    )
    for number in ("34600000001", "34600000002", "34600000003"):
        answer = get(
            server.port,
            f"/notifica.php?idenvio=7584&remitente=TEST&tel={number}&estado=1&campaign=spring",
        )
        assert answer.status == 200
    found = server.receipts()
    assert {each["message_id"] for each in found} == {"7584"}
    assert [each["recipient"] for each in found] == [f"3460000000{n}" for n in (1, 2, 3)]
    assert found[0]["extra"] == {"campaign": "spring"}


def test_a_template_that_can_never_be_matched_is_reported_and_its_receipts_are_kept(serve):
    server = serve(
        '[[endpoint]]\nprovider = "easysms"\npath = "/easysms"\n'
        'dlr_url = "https://x.example/easysms?tel=%P&estado=%d"\n'
    )
    assert "neither %i nor {message_id}" in server.log
    assert get(server.port, "/easysms?tel=34600000001&estado=1").status == 200
    (receipt,) = server.receipts()
    assert (receipt["message_id"], receipt["state"]) == (None, "DELIVERED")


# --- Who may post

TOKEN = '[[endpoint]]\nprovider = "seeme"\npath = "/seeme"\ntoken = ["s3cret", "n&w"]\n'


TOKEN_ROWS = [
    ("/seeme?token=s3cret&reference={}&code=6", 200),
    ("/seeme?reference={}&code=6&token=n%26w", 200),
    ("/seeme/s3cret?reference={}&code=6", 200),
    ("/seeme/n%26w?reference={}&code=6", 200),
    ("/seeme?reference={}&code=6", 403),
    ("/seeme?token=&reference={}&code=6", 403),
    ("/seeme?token=S3CRET&reference={}&code=6", 403),
    ("/seeme/wrong?reference={}&code=6", 403),
    ("/seeme/s3cret/s3cret?reference={}&code=6", 404),
]


def test_a_token_in_query_or_path(serve):
    server = serve(TOKEN)
    answered = b""
    for number, (path, status) in enumerate(TOKEN_ROWS):
        before = len(server.receipts())
        answer = get(server.port, path.format(f"t{number}"))
        assert answer.status == status, path
        receipts = server.receipts()[before:]
        if status == 200:
            (receipt,) = receipts
            assert receipt["message_id"] == f"t{number}"
            assert receipt["extra"] == {}
        else:
            assert receipts == [], path
        answered += answer.body
    server.stop()
    everything = server.log.encode() + answered + server.everything_kept()
    for secret in (b"s3cret", b"S3CRET", b"n&w", b"n%26w"):
        assert secret not in everything


@pytest.mark.parametrize("unseen", ["%E2%80%8B", "%01", "%EF%BB%BF", "\u200b"])
def test_a_token_in_an_identifier_is_not_kept_when_unseen_characters_within_it_go(serve, unseen):
    server = serve(TOKEN)
    disguised = f"s3c{unseen}r{unseen}et".encode().decode("latin-1")
    assert get(server.port, f"/seeme/s3cret?reference={disguised}&code=6").status == 200
    assert len(server.receipts()) == 1
    server.stop()
    everything = server.log.encode() + server.everything_kept()
    assert b"s3cret" not in everything
    assert disguised.encode("latin-1") not in everything


BASIC = """
[[endpoint]]
provider = "cdyne"
path = "/cdyne"
basic = { username = "cdyne", password = ["old", "new:with colon"] }
"""


@pytest.mark.parametrize(
    ("credentials", "status"),
    [
        (b"cdyne:old", 200),
        (b"cdyne:new:with colon", 200),
        (b"cdyne:wrong", 401),
        (b"other:old", 401),
        (None, 401),
    ],
)
def test_http_basic(pooled, credentials, status):
    server = pooled(BASIC)
    headers = []
    if credentials is not None:
        headers.append("Authorization: Basic " + base64.b64encode(credentials).decode())
    answer = post(server.port, SENT % b"b1", "/cdyne", FORM, headers)
    assert answer.status == status
    assert len(server.receipts()) == (1 if status == 200 else 0)
    if status == 401:
        assert answer.headers["www-authenticate"].startswith('Basic realm="')
        assert server.rejected()[-1]["reason"] == "unauthorized"


def test_garbage_for_basic_credentials(pooled):
    server = pooled(BASIC)
    for value in ("Basic", "Basic !!!", "Bearer x", "Basic \xff"):
        assert (
            post(server.port, SENT % b"b2", "/cdyne", FORM, [f"Authorization: {value}"]).status
            == 401
        )


@pytest.mark.parametrize(
    ("networks", "status"),
    [
        ('["127.0.0.0/8"]', 200),
        ('["192.0.2.0/24", "127.0.0.1/32"]', 200),
        ('["192.0.2.0/24", "2001:db8::/32"]', 403),
    ],
)
def test_networks(serve, networks, status):
    server = serve(f'[[endpoint]]\nprovider = "seeme"\npath = "/seeme"\nnetworks = {networks}\n')
    answer = get(server.port, SEEME.format("n1"))
    assert answer.status == status
    if status == 403:
        assert "127.0.0.1 is in none of the endpoint's networks" in answer.text


def test_all_that_is_asked_for_must_be_met(serve):
    server = serve(TOKEN + 'networks = ["192.0.2.0/24"]\n')
    assert get(server.port, "/seeme?token=s3cret&reference=x&code=6").status == 403


def test_no_authentication_beyond_loopback_is_warned_of(serve):
    server = serve(
        '[[endpoint]]\nprovider = "seeme"\npath = "/seeme"\n' + TOKEN.replace("/seeme", "/safe"),
        listen="tcp:0",
    )
    assert "endpoint seeme (/seeme) asks for no authentication" in server.log
    assert "endpoint safe" not in server.log
    assert "asks for no authentication" not in serve().log
