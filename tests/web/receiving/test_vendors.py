"""The providers of the wider field over a real socket: every sample, signed or not."""

from __future__ import annotations

import json
import socket
from contextlib import closing
from typing import Any

import pytest

from kit.command_line import run
from kit.server import SAMPLES, Server
from kit.wire import Answer, get, receive

SECRETS = {
    "twilio": 'auth_token = ["other", "00112233445566778899aabbccddeeff"]',
    "vonage": 'signature_secret = "vonage-signature-secret-0001"\nsignature_method = "sha256"\n'
    "refuse_status = 503",
    "vonage-messages": 'signature_secret = "vonage-messages-signature-secret"',
    "sinch": 'secret = "sinch-callback-secret"\nrefuse_status = 503',
    "telnyx": 'public_key = "446QWV3W8ke1uBZz4kEXdIWV+u998pqgRC9NqILvnA0="',
    "plivo": 'auth_token = "plivo-auth-token-0001"',
    "messagebird": 'signing_key = "messagebird-signing-key-0001"',
}
CONFIG = '[server]\npublic_url = "https://dlr.example.com"\n' + "".join(
    f'[[endpoint]]\nprovider = "{name}"\npath = "/{name}"\n{keys}\n'
    for name, keys in SECRETS.items()
)
SIGNED = {
    "twilio-sent": ("twilio", 200),
    "twilio-delivered": ("twilio", 200),
    "twilio-undelivered": ("twilio", 200),
    "twilio-inbound": ("twilio", 200),
    "vonage-sms-form-sha256": ("vonage", 200),
    "vonage-sms-get": ("vonage", 503),  # it is not signed
    "vonage-messages-delivered": ("vonage-messages", 200),
    "vonage-messages-rejected": ("vonage-messages", 200),
    "sinch-recipient": ("sinch", 200),
    "sinch-batch-full": ("sinch", 200),
    "sinch-batch-summary": ("sinch", 200),
    "plivo-delivered": ("plivo", 200),
    "plivo-undelivered": ("plivo", 200),
    "telnyx-sent": ("telnyx", 403),  # replays of long ago, by these vendors' rules
    "telnyx-delivered": ("telnyx", 403),
    "messagebird-delivered": ("messagebird", 403),
}
OPEN = {
    "twilio-delivered": 1,
    "vonage-sms-get": 1,
    "infobip-batch": 2,
    "sinch-batch-full": 3,
    "telnyx-sent": 1,
    "telnyx-delivered": 1,
    "messagebird-delivered": 1,
    "plivo-delivered": 1,
    "kannel-delivered": 1,
    "kannel-rejected": 1,
    "jasmin-get": 1,
    "jasmin-level1": 1,
    "jasmin-level2": 1,
}
BY_CONFIGURATION = {"bird-sms-outbound", "bird-standard-webhooks", "clickatell-one-api"} | {
    "clickatell-status"
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    found = Server(tmp_path_factory.mktemp("vendors"), CONFIG, "tcp:0:interface=127.0.0.1", [])
    yield found
    found.kill()


def exchange(server: Server, raw: bytes) -> Answer:
    with closing(socket.create_connection(("127.0.0.1", server.port), 10)) as connection:
        connection.sendall(raw)
        return receive(connection)


def sample(name: str) -> bytes:
    return (SAMPLES / "providers" / f"{name}.http").read_bytes()


@pytest.mark.parametrize(("name", "kind", "status"), [(n, *each) for n, each in SIGNED.items()])
def test_a_signed_sample(server, name, kind, status):
    before = len(server.receipts())
    answer = exchange(server, sample(name))
    assert answer.status == status
    stored = [each for each in server.receipts() if each["provider"] == kind]
    if status != 200:
        assert len(server.receipts()) == before
        assert server.rejected()[-1]["reason"] == "unauthorized"
    elif name != "sinch-batch-summary":
        assert stored
        assert len(server.receipts()) > before


@pytest.mark.parametrize("name", [each for each, (_, status) in SIGNED.items() if status == 200])
def test_a_changed_sample_is_refused_and_kept(server, name):
    kind, _ = SIGNED[name]
    before = len(server.receipts())
    raw = sample(name)
    head, _, body = raw.partition(b"\r\n\r\n")
    changed = body[:-3] + bytes([body[-3] ^ 1]) + body[-2:]
    if kind == "vonage":  # its signature ends the form, and counts without case
        changed = body.replace(b"Acme", b"Acne")
    answer = exchange(server, head + b"\r\n\r\n" + changed)
    assert answer.status == (503 if kind in ("sinch", "vonage") else 403)
    assert len(server.receipts()) == before


@pytest.mark.parametrize(("name", "count"), OPEN.items())
def test_a_sample_without_a_secret(shared_default, name, count):
    raw = sample(name)
    kind = raw.split(b" ")[1][1:].partition(b"?")[0].decode()
    if kind == "kannel":  # the default's dlr-url has one parameter less
        raw = raw.replace(b"&smsc=main", b"")
    before = {each["id"] for each in shared_default.receipts()}
    answer = exchange(shared_default, raw)
    assert answer.status == 200
    new = [each for each in shared_default.receipts() if each["id"] not in before]
    assert len(new) == count
    assert {each["provider"] for each in new} == {kind}
    if kind == "jasmin":
        assert answer.body == b"ACK/Jasmin"


def test_every_sample_is_tested():
    names = {path.stem for path in (SAMPLES / "providers").glob("*.http")}
    assert names == set(SIGNED) | set(OPEN) | BY_CONFIGURATION


BIRD = """
[server]
public_url = "https://dlr.example.com"
[[endpoint]]
provider = "generic"
as = "bird"
path = "/bird-v1"
fields = { message_id = "data.sms_id", code = "type", recipient = "data.to", reported_at = "timestamp" }
codes = { "sms.undelivered" = "UNDELIVERABLE" }
signature = { type = "standard-webhooks", secret = "whsec_c3RhbmRhcmQtd2ViaG9va3Mtc2VjcmV0LWJ5dGVzMDA=" }
[[endpoint]]
provider = "generic"
as = "bird-channels"
path = "/bird"
fields = { message_id = "payload.id", code = "payload.status" }
codes = { delivered = "DELIVERED" }
[[endpoint]]
provider = "generic"
as = "clickatell"
path = "/clickatell"
time = "epoch-ms"
secret = ["apiKey"]
codes = { 4 = "DELIVERED", 7 = "UNDELIVERABLE" }
fields = { message_id = "messageId", code = ["statusCode", "status"], recipient = "to", reported_at = "timestamp" }
[[endpoint]]
provider = "generic"
as = "clickatell-one"
path = "/one"
each = "event.messageStatusUpdate"
fields = { message_id = "messageId", code = "statusCode", recipient = "to" }
codes = { 5 = "DELIVERED" }
"""  # noqa: E501


@pytest.mark.parametrize(
    ("name", "endpoint"),
    [
        ("bird-standard-webhooks", "bird-v1"),
        ("bird-sms-outbound", "bird"),
        ("clickatell-status", "clickatell"),
        ("clickatell-one-api", "one"),
    ],
)
def test_those_without_a_module_are_taken_by_configuration(tmp_path, name, endpoint):
    config = tmp_path / "c.toml"
    config.write_text(BIRD)
    file = str(SAMPLES / "providers" / f"{name}.http")
    done = run("try", file, "--endpoint", endpoint, "--config", str(config))
    assert done.exit_code == 0, done.output
    receipt: dict[str, Any] = json.loads(done.output.partition("\nanswer")[0])
    assert receipt["message_id"]
    assert receipt["state"] in ("DELIVERED", "UNDELIVERABLE")


@pytest.mark.parametrize("name", [*SECRETS, "infobip", "kannel", "jasmin"])
def test_each_is_simulated_and_signed(server, shared_default, name):
    options: list[str] = []
    for line in SECRETS.get(name, "").splitlines():
        key, _, value = line.partition(" = ")
        if key != "refuse_status":
            found = json.loads(value)
            options += ["--set", f"{key}={found[0] if isinstance(found, list) else found}"]
    if name in SECRETS:
        options += ["--set", "public_url=https://dlr.example.com"]
    to = shared_default if name in ("telnyx", "infobip", "kannel", "jasmin") else server
    url = f"http://127.0.0.1:{to.port}/{name}"
    done = run("simulate", name, "--url", url, "--count", "20", *options)
    assert done.exit_code == 0, done.output
    assert 'answered "received" 20' in done.output


def test_an_endpoint_that_needs_the_url_must_know_it(tmp_path):
    config = tmp_path / "c.toml"
    config.write_text(
        '[[endpoint]]\nprovider = "twilio"\npath = "/twilio"\nauth_token = "a-long-token"\n'
    )
    done = run("check-config", "--config", str(config))
    assert done.exit_code == 1
    assert "public_url" in done.output


def test_the_secrets_are_in_nothing_that_is_kept(server):
    kept = server.everything_kept()
    for secret in ("00112233445566778899aabbccddeeff", "sinch-callback-secret"):
        assert secret.encode() not in kept
    assert get(server.port, "/twilio").status == 200, "what this URL is"
