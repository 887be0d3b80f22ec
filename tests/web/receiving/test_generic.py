"""Providers by configuration alone, over a real socket: batches, pings, signatures, nonsense."""

from __future__ import annotations

import hmac
import json
import time
from base64 import b64encode
from typing import Any

import pytest

from kit.command_line import run
from kit.server import Server
from kit.wire import Answer, get, post
from receiptd.providers import signatures

JSON = "application/json"
CONFIG = """
[server]
public_url = "https://dlr.example.com"
max_body = 4194304

[[endpoint]]
provider = "generic"
as = "acme"
path = "/acme"
each = "results"
secret = ["apikey"]
drop = ["noise"]
answer = { status = 202, body = "thanks" }
codes = { OK = "DELIVERED", FAIL = "UNDELIVERABLE", "FAIL/7" = "REJECTED" }
[endpoint.fields]
message_id = "id"
code = "status.name"
error = "status.error"
recipient = ["to", "msisdn"]
network = "{mcc}{mnc}"
price = "price.amount"
reported_at = "at"
reference = "$.batch"

[[endpoint]]
provider = "generic"
as = "signed"
path = "/signed"
refuse_status = 503
fields = { message_id = "id" }
[endpoint.signature]
type = "hmac"
header = "X-Signature"
prefix = "sha256="
secret = ["new", "old"]
signed = "{header:X-Time}.{url}.{body}"
timestamp = "header:X-Time"
tolerance = "5m"

[[endpoint]]
provider = "generic"
as = "hooks"
path = "/hooks"
fields = { message_id = "data.sms_id", kind = "type" }
kinds = { "sms.undelivered" = "delivery" }
[endpoint.signature]
type = "standard-webhooks"
secret = "whsec_c2VjcmV0LXNlY3JldA=="

[[endpoint]]
provider = "generic"
as = "keyed"
path = "/keyed"
methods = ["GET", "POST"]
body = "form"
time = "epoch"
codes = { 2 = "UNDELIVERABLE", "2/EXPIRED" = "EXPIRED" }
header_token = { header = "X-Api-Key", value = ["one-long-key", "another-key"] }
[endpoint.fields]
message_id = "id"
error = { from = "a", match = 'stat:([A-Z]+)' }
code = "d"
reported_at = "t"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    found = Server(tmp_path_factory.mktemp("generic"), CONFIG, "tcp:0:interface=127.0.0.1", [])
    yield found
    found.kill()


def sent(server: Server, path: str, body: Any, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return post(server.port, raw, path, JSON, lines)


def stored(server: Server, prefix: str) -> dict[str, dict[str, Any]]:
    found = server.receipts()
    return {each["message_id"]: each for each in found if each["message_id"].startswith(prefix)}


def test_each_item_of_a_batch_is_a_receipt(server):
    items = [
        {"id": "b-1", "status": {"name": "ok"}, "to": 41793026834, "mcc": 228, "mnc": "01"},
        {"id": "b-2", "status": {"name": "FAIL", "error": 7}, "msisdn": "+41 79", "x": [{"y": 1}]},
        {
            "id": "b-3",
            "status": {"name": "new"},
            "price": {"amount": 0.0330},
            "noise": "z",
            "at": "2026-01-31T18:05:07.031+0000",
            "apiKey": "geheim",
        },
    ]
    answer = sent(server, "/acme", {"batch": "B7", "results": items})
    assert (answer.status, answer.body) == (202, b"thanks")
    found = stored(server, "b-")
    assert [found[f"b-{n}"]["state"] for n in (1, 2, 3)] == ["DELIVERED", "REJECTED", "UNKNOWN"]
    assert found["b-1"]["recipient"] == "41793026834"
    assert found["b-1"]["network"] == "22801"
    assert found["b-2"]["extra"] == {"x[0].y": "1", "error": "7"}
    assert found["b-3"]["price"] == "0.033"
    assert found["b-3"]["reported_at"] == "2026-01-31T18:05:07.031000Z"
    assert found["b-3"]["extra"] == {}
    assert {each["reference"] for each in found.values()} == {"B7"}
    assert {each["provider"] for each in found.values()} == {"acme"}
    assert "geheim" not in json.dumps(server.receipts())


def test_bad_items_are_kept_each_and_the_good_ones_stored(server):
    items: list[Any] = [{"id": f"m-{n}", "status": {"name": "OK"}} for n in range(2000)]
    items[3] = {"to": "a horse"}
    items[1000] = {"status": {"name": "OK"}, "to": "4179"}
    items[1999] = "no object"
    before = len(server.rejected())
    body = {"batch": "b-9", "apikey": "a-wrong-key", "results": items}
    assert sent(server, "/acme", body).status == 202
    assert len(stored(server, "m-")) == 1997
    kept = server.rejected()
    assert len(kept) - before == 3
    raw = {each["raw"] for each in kept}
    around = '{"batch": "b-9", "apikey": "***", "results": [%s]}'
    assert {around % '{"to": "a horse"}', around % '"no object"'} <= raw
    assert {each["reason"] for each in kept} == {"invalid"}


def test_a_post_of_which_nothing_is_good_is_refused(server):
    answer = sent(server, "/acme", {"results": [{"to": "4179"}]})
    assert answer.status == 400
    assert b"message_id is missing" in answer.body
    for body in (b"{", b'{"results": {}}', b'{"a": NaN}', b"[" * 100_000):
        assert sent(server, "/acme", body).status == 400


def test_an_empty_list_is_answered_and_counted(server):
    before = len(server.rejected())
    answer = sent(server, "/acme", {"results": []})
    assert (answer.status, answer.body) == (202, b"thanks")
    assert len(server.rejected()) == before
    metrics = get(server.port, "/metrics", server.bearer).body.decode()
    assert 'receiptd_ignored_posts_total{endpoint="acme"} 1' in metrics


def hmac_of(key: str, stamp: int, path: str, body: bytes) -> str:
    signed = f"{stamp}.https://dlr.example.com{path}.".encode() + body
    return "sha256=" + hmac.new(key.encode(), signed, "sha256").hexdigest()


def test_a_signature_is_checked_with_every_secret(server):
    now = int(time.time())
    for key in ("new", "old"):
        body = b'{"id": "s-%s"}' % key.encode()
        signature = hmac_of(key, now, "/signed", body)
        assert sent(server, "/signed", body, X_Time=str(now), X_Signature=signature).status == 200
    assert set(stored(server, "s-")) == {"s-new", "s-old"}


def test_what_is_not_signed_right_is_refused_as_the_endpoint_says(server):
    now = int(time.time())
    body = b'{"id": "f-1"}'
    good = hmac_of("new", now, "/signed", body)
    old = hmac_of("new", now - 301, "/signed", body)
    for stamp, signature, what in (
        (now, hmac_of("other", now, "/signed", body), "is wrong"),
        (now, hmac_of("new", now, "/other", body), "is wrong"),
        (now + 1, good, "is wrong"),
        (now - 301, old, "replay"),
        (now, "", "missing"),
        (now, "x" * 9000, "no signature"),
    ):
        answer = sent(server, "/signed", body, X_Time=str(stamp), X_Signature=signature)
        assert answer.status == 503, what
        assert what in answer.body.decode()
    assert not stored(server, "f-")
    kept = [each for each in server.rejected() if each["endpoint"] == "signed"]
    assert {each["reason"] for each in kept} == {"unauthorized"}
    assert not any("new" in each["text"] for each in kept)


def test_standard_webhooks_and_events_of_other_kinds(server):
    for number, kind in enumerate(("sms.undelivered", "call.ended")):
        body = json.dumps({"type": kind, "data": {"sms_id": f"w-{number}"}}).encode()
        key = signatures.standard_webhooks_key("whsec_c2VjcmV0LXNlY3JldA==")
        made = signatures.standard_webhooks(key, "msg_1", "1", body)
        headers = {"webhook_id": "msg_1", "webhook_timestamp": "1"}
        wrong = f"v1,{b64encode(bytes(32)).decode()}"
        assert sent(server, "/hooks", body, webhook_signature=wrong, **headers).status == 403
        both = f"{wrong} {made}"
        assert sent(server, "/hooks", body, webhook_signature=both, **headers).status == 200
    assert set(stored(server, "w-")) == {"w-0"}


def test_a_token_in_a_header_and_a_query_with_a_report_in_a_text(server):
    path = "/keyed?id=k-1&d=2&t=1769882707&a=id:1+stat:EXPIRED+err:000"
    assert get(server.port, path).status == 403
    assert get(server.port, path, ["X-Api-Key: another-keY"]).status == 403
    assert get(server.port, path, ["X-Api-Key: another-key"]).status == 200
    found = stored(server, "k-")["k-1"]
    assert (found["state"], found["reported_at"]) == ("EXPIRED", "2026-01-31T18:05:07Z")


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ('fields = { message = "id" }', "unknown field 'message'"),
        ('body = "json"\nfields = { message_id = "a..b" }', "no path"),
        ("fields = { code = { from = 'a', match = '(a+)+' } }", "not simple enough"),
        ("fields = { code = { from = 'a', match = '(a|a)*b' } }", "not simple enough"),
        ('time = "someday"', "no form of time"),
        ("answer = { status = 410 }", "give the URL up"),
        ('signature = { type = "hmac" }', "needs `secret`"),
        ('signature = { type = "ed25519", public_key = "x" }', "32 bytes"),
        ('signature = { type = "hmac", secret = "s", signed = "{bdy}" }', "no template"),
        ('signature = { type = "hmac", secret = "s", signed = "{url}" }', "public_url"),
        ('kinds = { a = "delivery" }', "needs `kind`"),
        ('as = "Not A Name"', "pattern"),
    ],
)
def test_a_configuration_that_cannot_work_is_told(tmp_path, keys, says):
    file = tmp_path / "c.toml"
    file.write_text(f'[[endpoint]]\nprovider = "generic"\npath = "/x"\n{keys}\n')
    done = run("check-config", "--config", str(file))
    assert done.exit_code == 1
    assert says in " ".join(done.output.split())


REQUEST = (
    b"POST /acme HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\r\n"
    b'{"results": [{"id": "t-1", "status": {"name": "OK"}}, {"to": "a horse"}]}'
)


def test_a_request_is_tried_without_storing_anything(server, tmp_path):
    config, request = tmp_path / "c.toml", tmp_path / "r.http"
    config.write_text(CONFIG)
    request.write_bytes(REQUEST)
    done = run("try", str(request), "--endpoint", "acme", "--config", str(config))
    assert done.exit_code == 0, done.output
    assert '"state": "DELIVERED"' in done.output
    assert "invalid: recipient" in done.output or "invalid: message_id" in done.output
    assert '{"to": "a horse"}' in done.output
    assert "answer: 202 thanks" in done.output
    done = run("try", str(request), "--endpoint", "signed", "--config", str(config))
    assert done.exit_code == 1
    assert "the signature is missing" in done.output
    assert not stored(server, "t-")


@pytest.mark.parametrize(
    ("raw", "endpoint", "says", "code"),
    [
        (b"", "acme", "no HTTP request", 2),
        (REQUEST, "other", "expected one of acme, signed, hooks, keyed", 2),
        (b"GET /acme HTTP/1.1\r\n\r\n", "acme", "only POST", 1),
        (b"POST /acme HTTP/1.1\r\n\r\n{", "/acme", "not JSON", 1),
        (b'POST /acme HTTP/1.1\r\n\r\n{"results": []}', "acme", "ignored: ", 0),
    ],
)
def test_what_cannot_be_tried_is_told(tmp_path, raw, endpoint, says, code):
    config, request = tmp_path / "c.toml", tmp_path / "r.http"
    config.write_text(CONFIG)
    request.write_bytes(raw)
    done = run("try", str(request), "--endpoint", endpoint, "--config", str(config))
    assert done.exit_code == code, done.output
    assert says in done.output
