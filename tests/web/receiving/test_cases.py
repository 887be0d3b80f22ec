"""What providers really post, byte for byte over a socket, and the receipt that comes of it.

The files in `samples/cases` are whole requests, made after what people report of receipts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kit.api import call, register
from kit.server import SAMPLES, Server
from kit.wire import get, post, send

CONFIG = """
[[endpoint]]
provider = "csoft"
path = "/soap"
region = "GB"

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
name = "seeme-token"
provider = "seeme"
path = "/seeme-token"
token = "demo-token"

[[endpoint]]
provider = "easysms"
path = "/easysms"

[[endpoint]]
name = "notifica"
provider = "easysms"
path = "/notifica.php"
dlr_url = "http://my.server.example/notifica.php?remitente=%p&tel=%P&estado=%d"
"""
FORM = "application/x-www-form-urlencoded"
GUID = "00000000-0000-4000-8000-00000000"
BACKUP = f"{GUID}0699"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("cases"), CONFIG, "tcp:0:interface=127.0.0.1", [])
    yield server
    server.kill()


def case(server: Server, name: str) -> int:
    """Post a case; the status of the answer."""
    (file,) = (SAMPLES / "cases").glob(f"{name}-*.http")
    return send(server.port, file.read_bytes()).status


def stored(server: Server, **fields: Any) -> list[dict[str, Any]]:
    """The receipts that have these fields."""
    return [each for each in server.receipts() if fields.items() <= each.items()]


def message(server: Server, provider: str, message_id: str) -> dict[str, Any]:
    found: dict[str, Any] = call(server, f"/api/v1/messages/{provider}/{message_id}").json
    return found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("01a", {"message_id": f"{GUID}0101", "state": "ENROUTE", "code": "000"}),
        ("01d", {"message_id": f"{GUID}0104", "state": "UNDELIVERABLE", "code": "000"}),
        ("02a", {"message_id": f"{GUID}0201", "reported_at": "2024-05-17T07:20:31Z"}),
        ("02d", {"message_id": f"{GUID}0204", "reported_at": "2024-05-17T10:20:31Z"}),
        (
            "02g",
            {
                "message_id": f"{GUID}0207",
                "text": "STOP",
                "reported_at": "2024-05-17T14:20:31Z",
                "unread": [],
            },
        ),
        ("02h", {"message_id": "z208", "reported_at": None, "state": "ENROUTE", "unread": []}),
        ("05a", {"message_id": f"{GUID}0501", "state": "UNDELIVERABLE", "code": "051"}),
        ("05b", {"message_id": f"{GUID}0502", "state": "UNDELIVERABLE", "code": "999"}),
        ("10a", {"message_id": "1001", "state": "EXPIRED", "code": "34"}),
        ("12a", {"message_id": "1201", "state": "DELIVERED", "recipient": "393401234567"}),
        ("12b", {"message_id": "s1202", "endpoint": "seeme-token", "state": "DELIVERED"}),
        (
            "15",
            {
                "message_id": "demo15",
                "price": "13.90",
                "parts": 2,
                "reported_at": "2024-05-17T08:20:31Z",
            },
        ),
        ("16", {"message_id": f"{GUID}1601", "text": "it\u2019s \u201cok\u201d"}),
        ("17", {"message_id": "66473B17", "reported_at": None, "unread": []}),
    ],
)
def test_a_case_is_understood(server, name, expected):
    assert case(server, name) == 200
    (receipt,) = stored(server, message_id=expected["message_id"])
    assert expected.items() <= receipt.items()


def test_receipts_that_differ_in_their_state_alone_are_two(server):
    name = f"{GUID}0301"
    register(server, {"provider": "cdyne", "message_id": name})
    assert [case(server, each) for each in ("03a", "03b", "03b")] == [200] * 3
    found = stored(server, message_id=name)
    assert [(each["state"], each["repeats"]) for each in found] == [
        ("ACCEPTED", 0),
        ("DELIVERED", 1),
    ]
    assert message(server, "cdyne", name)["state"] == "DELIVERED"


def test_without_identifier_and_time_no_two_are_the_same(server):
    assert [case(server, "04") for _ in range(3)] == [200] * 3
    found = stored(server, endpoint="notifica")
    assert [each["repeats"] for each in found] == [0] * 3


def test_a_backup_routes_receipts_are_the_messages(server):
    name = f"{GUID}0601"
    register(server, {"provider": "cdyne", "message_id": name, "recipient": "7575550123"})
    assert [case(server, each) for each in ("06a", "06b", "06c")] == [200] * 3
    assert {each["verdict"] for each in stored(server, message_id=BACKUP)} == {"accepted"}
    found = message(server, "cdyne", name)
    assert (found["state"], found["final"]) == ("DELIVERED", True)
    assert len(found["receipts"]) == 3


@pytest.mark.parametrize(
    ("name", "messages"),
    [
        ("08", [{"message_id": "66473A80", "recipient": "+44 (0)7700 900123"}]),
        (
            "11",
            [{"message_id": "66473B11"}, {"message_id": "66473b11", "recipient": "447700900123"}],
        ),
    ],
)
def test_a_registered_message_is_found(server, name, messages):
    for each in messages:
        register(server, {"provider": "csoft", **each})
    assert case(server, name) == 200
    found = message(server, "csoft", messages[0]["message_id"])
    assert (found["state"], found.get("recipients")) == ("DELIVERED", None)
    assert found["receipts"][0]["verdict"] == "accepted"


def test_a_guid_in_braces_is_the_same(server):
    register(server, {"provider": "cdyne", "message_id": f"\ufeff{{{GUID}1901}}"})
    assert case(server, "19") == 200
    assert message(server, "cdyne", f"{GUID}1901")["state"] == "DELIVERED"


def test_the_third_failure_to_send_is_final(server):
    register(server, {"provider": "cdyne", "message_id": "three"})
    states = []
    for minute in range(3):
        body = f"SMSSent=0&MessageID=three&SentTime=5/8/2010 2:4{minute}:00 AM"
        assert post(server.port, body.encode(), "/cdyne", FORM).status == 200
        found = message(server, "cdyne", "three")
        states.append((found["state"], found["final"]))
    assert states == [("ENROUTE", False)] * 2 + [("REJECTED", True)]


def test_a_number_is_an_identifier_in_json_too(server):
    register(server, {"provider": "seeme", "message_id": 7001})
    assert get(server.port, "/seeme?reference=7001&code=6").status == 200
    assert message(server, "seeme", "7001")["state"] == "DELIVERED"


def test_what_cannot_be_read_is_named_counted_and_said(server):
    answer = get(server.port, "/seeme?reference=odd&code=6&timestamp=soon&price=free&split=999999")
    assert answer.status == 200
    (receipt,) = stored(server, message_id="odd")
    assert receipt["unread"] == ["timestamp", "split", "price"]
    assert receipt["extra"] == {"timestamp": "soon", "price": "free", "split": "999999"}
    assert (receipt["reported_at"], receipt["price"], receipt["parts"]) == (None, None, None)
    metrics = call(server, "/metrics").body.decode()
    assert 'receiptd_unread_fields_total{endpoint="seeme",field="price"} 1.0' in metrics
    assert "unread: timestamp, split, price" in server.log


SOAP = """<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>
<SubmitDeliveryReceipt><Timestamp1>{time}</Timestamp1><{name}>447700900123</{name}>
<MessageIdentifier>{id}</MessageIdentifier><Report>0</Report></SubmitDeliveryReceipt>
</s:Body></s:Envelope>"""


def test_soap_may_call_the_recipient_as_the_form_does(server):
    body = SOAP.format(time="2024-05-17T24:00:00Z", name="SendTo", id="SOAP1")
    assert post(server.port, body.encode()).status == 200
    (receipt,) = stored(server, message_id="SOAP1")
    assert (receipt["recipient"], receipt["extra"]) == ("447700900123", {})
    assert receipt["reported_at"] == "2024-05-18T00:00:00Z"


def test_soap_keeps_what_it_cannot_read(server):
    body = SOAP.format(time="yesterday", name="SentTo", id="SOAP2")
    register(server, {"provider": "csoft", "message_id": "SOAP2"})
    assert b"<Report>0</Report>" in post(server.port, body.encode()).body
    (receipt,) = stored(server, message_id="SOAP2")
    assert (receipt["unread"], receipt["extra"]) == (["Timestamp1"], {"Timestamp1": "yesterday"})
