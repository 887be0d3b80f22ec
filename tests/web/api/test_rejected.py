"""Single rejected posts through the API: shown, tried again, deleted."""

from __future__ import annotations

from kit.api import call, items, register
from kit.server import CSOFT, Server, locked, wait_until
from kit.soap import envelope, new_id
from kit.wire import post
from receiptd.web.api import shapes

CONFIG = (
    CSOFT
    + """
[[endpoint]]
provider = "generic"
path = "/signed"
name = "signed"
each = "list"
fields = { message_id = "id", code = "c" }
codes = { 1 = "DELIVERED" }
[endpoint.signature]
type = "hmac"
header = "X-Signature"
secret = "a-secret-of-some-length"
signed = "{body}"
"""
)
REJECTED = "/api/v1/rejected"


def newest(server: Server) -> str:
    return f"{REJECTED}/{server.rejected()[-1]['id']}"


def test_a_post_whose_pin_was_wrong_is_let_in_by_who_asks(pooled):
    server = pooled(CONFIG, registers=True)
    name = new_id()
    register(server, {"provider": "csoft", "message_id": name, "recipient": "447700912345"})
    assert post(server.port, envelope(name, pin="BLUE.musik")).status == 200
    path = newest(server)
    shown = call(server, path).json
    shapes.RejectedPost.model_validate(shown)
    assert (shown["reason"], name in shown["raw"]) == ("unauthorized", True)
    answer = call(server, f"{path}/retry", "POST")
    assert answer.status == 200
    shapes.Retried.model_validate(answer.json)
    assert answer.json["result"] == "stored"
    (receipt,) = answer.json["receipts"]
    assert (receipt["message_id"], receipt["verdict"]) == (name, "accepted")
    (stored,) = items(server, f"/api/v1/receipts?message_id={name}")
    assert stored["received_at"] == shown["received_at"]
    assert call(server, f"/api/v1/messages/csoft/{name}").json["state"] == "DELIVERED"
    assert call(server, f"{path}/retry", "POST").status == 404
    assert b"BLUE.musik" not in server.everything_kept()


def test_one_that_is_still_nonsense_stays_and_says_why(pooled):
    server = pooled(CONFIG)
    post(server.port, envelope(new_id(), Report=None))
    path = newest(server)
    answer = call(server, f"{path}/retry", "POST")
    assert answer.json["result"] == "rejected"
    assert "Report is missing" in answer.json["text"]
    assert call(server, path).status == 200


def test_a_signature_is_not_asked_for_again_and_what_is_bad_of_a_batch_stays(pooled):
    server = pooled(CONFIG)
    body = b'{"list": [{"id": "g-1", "c": "1"}, {"c": "1"}]}'
    assert post(server.port, body, "/signed", "application/json").status == 403
    path = newest(server)
    answer = call(server, f"{path}/retry", "POST").json
    assert (answer["result"], len(answer["receipts"])) == ("partly", 1)
    (left,) = server.rejected()
    assert (left["reason"], left["raw"]) == ("invalid", '{"list": [{"c": "1"}]}')
    assert call(server, f"{newest(server)}/retry", "POST").json["result"] == "rejected"
    assert [each["message_id"] for each in server.receipts()] == ["g-1"]


def test_one_is_deleted_for_good(pooled):
    server = pooled(CONFIG)
    post(server.port, envelope(new_id(), pin="wrong"))
    path = newest(server)
    answer = call(server, path, "DELETE")
    shapes.Deleted.model_validate(answer.json)
    assert server.rejected() == []
    assert call(server, path, "DELETE").status == 404
    for number in ("0", "x", "1" * 25, "999999999999999999", "%31%00"):
        for method, end in (("GET", ""), ("DELETE", ""), ("POST", "/retry")):
            answer = call(server, f"{REJECTED}/{number}{end}", method)
            assert answer.status == 404, (number, method)
            assert "there is no rejected post" in answer.problem["detail"]


def test_a_database_that_is_locked_is_a_503(serve):
    server = serve(CSOFT)
    post(server.port, envelope(new_id(), pin="wrong"))
    path = newest(server)
    with locked(server):
        answer = call(server, f"{path}/retry", "POST")
        assert (answer.status, "retry-after" in answer.headers) == (503, True)
    assert call(server, f"{path}/retry", "POST").json["result"] == "stored"


def test_a_retry_wants_the_scope_to_write(pooled):
    server = pooled(
        CSOFT + '[[api.token]]\nname = "reader"\ntoken = "reader-token-1"\nscopes = ["read"]\n'
    )
    headers = {"Authorization": "Bearer reader-token-1"}
    post(server.port, envelope(new_id(), pin="wrong"))
    path = newest(server)
    assert call(server, path, headers=headers).status == 200
    for method, end in (("POST", "/retry"), ("DELETE", "")):
        assert call(server, f"{path}{end}", method, headers=headers).status == 403


def test_a_configuration_that_was_mended_is_used(serve):
    server = serve(CONFIG.replace('message_id = "id"', 'message_id = "number"'))
    body = b'{"list": [{"id": "g-2", "c": "1"}]}'
    post(server.port, body, "/signed", "application/json")
    path = newest(server)
    assert call(server, f"{path}/retry", "POST").json["result"] == "rejected"
    server.config.write_text(CONFIG)
    server.process.send_signal(1)
    wait_until(lambda: "reloaded" in server.log or "new configuration" in server.log, "it reloads")
    assert call(server, f"{path}/retry", "POST").json["result"] == "stored"
