"""Connection Software's posts over a real socket: every form of envelope, reply and fault."""

from __future__ import annotations

import re
import socket
from contextlib import closing

import pytest

from kit.server import CSOFT, SAMPLES
from kit.soap import (
    ENVELOPE,
    SOAP,
    V5,
    envelope,
    fault_of,
    new_id,
    operation,
    response_of,
    stored,
)
from kit.wire import chunked, post, receive, send


def test_the_documented_example_is_answered_byte_for_byte_as_it_comes(shared_server, sample):
    answer = send(shared_server.port, sample("csoft-v3-example.http"))

    assert answer.status == 200
    assert answer.headers["content-type"] == "text/soap; charset=utf-8"
    assert answer.closed, "HTTP/1.0 knows no keep-alive"
    assert response_of(answer) == (
        "http://www.itsarrived.net/dtd/sendsms3",
        {"MessageIdentifier": "3C7D98A4", "Report": "0"},
    )
    receipt = stored(shared_server, "3C7D98A4")
    assert receipt | {"id": 1, "received_at": "", "raw": ""} == {
        "id": 1,
        "received_at": "",
        "endpoint": "soap",
        "provider": "csoft",
        "kind": "delivery",
        "message_id": "3C7D98A4",
        "state": "DELIVERED",
        "code": "0",
        "description": "Accepted by phone",
        "recipient": "447009123456",
        "sender": None,
        "reference": None,
        "reported_at": "2002-08-27T13:38:00Z",
        "part": None,
        "parts": None,
        "price": None,
        "network": None,
        "text": None,
        "extra": {},
        "raw": "",
        "unread": [],
        "verdict": "accepted",
        "repeats": 0,
    }
    body = sample("csoft-v3-example.http").partition(b"\r\n\r\n")[2].decode()
    assert receipt["raw"] == body.replace("BLUE.music", "***")


def test_v5_with_unqualified_children(shared_server, sample):
    answer = post(shared_server.port, sample("csoft-v5-unqualified.xml"))

    assert answer.status == 200
    assert answer.headers["content-type"] == "text/xml; charset=utf-8"
    assert response_of(answer) == (V5, {"MessageIdentifier": "4A2E3C10", "Report": "0"})
    receipt = stored(shared_server, "4A2E3C10")
    assert (receipt["state"], receipt["code"]) == ("ENROUTE", "-4")


def test_v5_with_qualified_children_in_another_order_and_one_unknown(shared_server, sample):
    answer = post(shared_server.port, sample("csoft-v5-qualified.xml"))

    assert response_of(answer) == (V5, {"MessageIdentifier": "4A2E3C11", "Report": "0"})
    receipt = stored(shared_server, "4A2E3C11")
    assert (receipt["state"], receipt["code"]) == ("EXPIRED", "27")
    assert receipt["reported_at"] == "2009-06-10T00:00:01Z"
    assert receipt["extra"] == {"SomethingNew": "to be ignored"}


def test_the_form_post_on_the_same_path(shared_server, sample):
    request = sample("csoft-form.http").replace(b"POST /soap ", b"POST /open ")
    answer = send(shared_server.port, request)

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/x-www-form-urlencoded; charset=utf-8"
    assert answer.text == "MessageIdentifier=4A2E3C12&Report=0&Text="
    receipt = stored(shared_server, "4A2E3C12")
    assert (receipt["endpoint"], receipt["recipient"]) == ("open", "447700912345")
    assert receipt["reported_at"] == "2009-06-09T10:52:00Z"


@pytest.mark.parametrize(
    "namespace",
    ["http://www.itsarrived.net/dtd/sendsms2", "http://x.example/?a=1&amp;b='2'", "sendsms"],
)
def test_the_operation_is_taken_in_any_namespace_and_answered_in_it(shared_server, namespace):
    message_id = new_id()
    answer = post(shared_server.port, envelope(message_id, namespace=namespace))

    expected = namespace.replace("&amp;", "&")
    assert response_of(answer) == (expected, {"MessageIdentifier": message_id, "Report": "0"})


def test_the_operation_in_no_namespace_at_all(shared_server):
    message_id = new_id()
    body = ENVELOPE % operation(message_id, namespace="x").replace("n:", "").replace(
        ' xmlns:n="x"', ""
    )
    answer = post(shared_server.port, body.encode())

    assert response_of(answer) == ("", {"MessageIdentifier": message_id, "Report": "0"})


@pytest.mark.parametrize(
    ("label", "encode", "content_type"),
    [
        ("UTF-8 with mark", lambda text: b"\xef\xbb\xbf" + text.encode(), "text/xml"),
        ("UTF-16", lambda text: text.encode("utf-16"), "text/xml; charset=utf-16"),
        (
            "UTF-16, declared, big-endian, without mark",
            lambda text: ('<?xml version="1.0" encoding="UTF-16"?>' + text).encode("utf-16-be"),
            "text/soap",
        ),
        (
            "ISO-8859-1, declared",
            lambda text: ('<?xml version="1.0" encoding="ISO-8859-1"?>' + text).encode("latin-1"),
            "text/xml; charset=utf-8",
        ),
        (
            "ISO-8859-1 by the Content-Type alone",
            lambda text: text.encode("latin-1"),
            'text/xml; charset="iso-8859-1"',
        ),
        ("blank lines before the declaration", lambda t: b"\r\n\n" + t.encode(), "text/xml"),
    ],
    ids=lambda value: value if isinstance(value, str) and "/" not in value else "",
)
def test_encodings(shared_server, label, encode, content_type):
    message_id = new_id()
    body = encode(ENVELOPE % operation(message_id, Remark="Zürich"))
    answer = post(shared_server.port, body, content_type=content_type)

    assert answer.status == 200, answer.text
    assert response_of(answer)[1] == {"MessageIdentifier": message_id, "Report": "0"}
    receipt = stored(shared_server, message_id)
    assert receipt["extra"] == {"Remark": "Zürich"}
    assert "BLUE.music" not in receipt["raw"]


def test_a_chunked_body(shared_server):
    message_id = new_id()
    head = (
        b"POST /soap HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml\r\n"
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    answer = send(shared_server.port, head, chunked(envelope(message_id)))

    assert response_of(answer)[1]["Report"] == "0"
    assert stored(shared_server, message_id)["state"] == "DELIVERED"


@pytest.mark.parametrize("action", [None, 'SOAPAction: ""', "SOAPAction:", 'SOAPAction: "urn:x"'])
def test_the_soap_action_never_matters(shared_server, action):
    answer = post(shared_server.port, envelope(new_id()), headers=[action] if action else [])
    assert response_of(answer)[1]["Report"] == "0"


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("text/soap", "text/soap; charset=utf-8"),
        ("Text/SOAP; charset=us-ascii", "text/soap; charset=utf-8"),
        ("application/xml", "text/xml; charset=utf-8"),
        ("application/x-www-form-urlencoded", "text/xml; charset=utf-8"),
        (None, "text/xml; charset=utf-8"),
    ],
)
def test_an_envelope_is_answered_whatever_it_is_called(shared_server, content_type, expected):
    answer = post(shared_server.port, envelope(new_id()), content_type=content_type)
    assert response_of(answer)[1]["Report"] == "0"
    assert answer.headers["content-type"] == expected


def test_a_persistent_connection_takes_one_receipt_after_the_other(shared_server):
    ids = [new_id() for _ in range(3)]
    with closing(socket.create_connection(("127.0.0.1", shared_server.port), 10)) as connection:
        for message_id in ids:
            body = envelope(message_id)
            connection.sendall(
                b"POST /soap HTTP/1.1\r\nHost: h\r\nContent-Type: text/xml\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            answer = receive(connection)
            assert response_of(answer)[1]["MessageIdentifier"] == message_id
            assert not answer.closed


def test_pipelined_receipts_are_answered_in_their_order(shared_server):
    ids = [new_id() for _ in range(20)]
    requests = b"".join(
        b"POST /soap HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        for body in map(envelope, ids)
    )
    with closing(socket.create_connection(("127.0.0.1", shared_server.port), 10)) as connection:
        connection.sendall(requests)
        stream = connection.makefile("rb")
        found: list[bytes] = []
        while len(found) < len(ids):
            line = stream.readline()
            assert line, "the connection ended early"
            found += re.findall(rb"<MessageIdentifier>(\w+)</MessageIdentifier>", line)
    assert found == [message_id.encode() for message_id in ids]


def test_a_sender_that_closes_its_side_is_answered_nevertheless(shared_server):
    body = envelope(new_id())
    with closing(socket.create_connection(("127.0.0.1", shared_server.port), 10)) as connection:
        connection.sendall(
            b"POST /soap HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        connection.shutdown(socket.SHUT_WR)
        assert response_of(receive(connection))[1]["Report"] == "0"


# --- What a receipt says


@pytest.mark.parametrize(
    ("report", "state"),
    [
        ("0", "DELIVERED"),
        ("-1", "UNKNOWN"),
        ("-3", "ENROUTE"),
        ("-4", "ENROUTE"),
        ("2", "REJECTED"),
        ("3", "REJECTED"),
        ("4", "REJECTED"),
        ("5", "REJECTED"),
        ("7", "REJECTED"),
        ("8", "REJECTED"),
        ("11", "ENROUTE"),
        ("19", "ENROUTE"),
        ("25", "DELETED"),
        ("27", "EXPIRED"),
        ("28", "UNDELIVERABLE"),
        ("733", "UNKNOWN"),
    ],
)
def test_report_codes(shared_server, report, state):
    message_id = new_id()
    answer = post(shared_server.port, envelope(message_id, Report=report))

    assert response_of(answer)[1]["Report"] == "0"
    receipt = stored(shared_server, message_id)
    assert (receipt["code"], receipt["state"]) == (report, state)


@pytest.mark.parametrize(
    ("timestamp", "reported_at"),
    [
        ("2009-06-09T10:52:00Z", "2009-06-09T10:52:00Z"),
        ("2009-06-09T10:52:00", "2009-06-09T10:52:00Z"),
        ("2009-06-09T12:52:00+02:00", "2009-06-09T10:52:00Z"),
        ("2009-06-09T10:52:00.125Z", "2009-06-09T10:52:00.125000Z"),
        (" \n2009-06-09T10:52:00Z ", "2009-06-09T10:52:00Z"),
        ("", None),
        (None, None),
    ],
)
def test_timestamps(shared_server, timestamp, reported_at):
    message_id = new_id()
    post(shared_server.port, envelope(message_id, Timestamp1=timestamp))
    assert stored(shared_server, message_id)["reported_at"] == reported_at


def test_nil_is_nothing(shared_server):
    message_id = new_id()
    body = envelope(message_id).replace(
        b"<Timestamp1>",
        b'<Timestamp1 xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:nil="true">',
    )
    post(shared_server.port, body)
    assert stored(shared_server, message_id)["reported_at"] is None


def test_the_same_receipt_again_is_answered_alike_and_stored_once(shared_server):
    message_id = new_id()
    first = post(shared_server.port, envelope(message_id))
    again = [post(shared_server.port, envelope(message_id)) for _ in range(3)]
    other_case = post(shared_server.port, envelope(message_id.lower()))
    other_form = post(shared_server.port, envelope(message_id, SentTo="+44 7700 912345"))

    assert [answer.body for answer in again] == [first.body] * 3
    assert response_of(other_case)[1]["Report"] == response_of(other_form)[1]["Report"] == "0"
    assert stored(shared_server, message_id)["repeats"] == 5


def test_another_state_of_the_message_is_another_receipt(shared_server):
    message_id = new_id()
    for report in ("-4", "0"):
        post(shared_server.port, envelope(message_id, Report=report))
    found = [each for each in shared_server.receipts() if each["message_id"] == message_id]
    assert [each["state"] for each in found] == ["ENROUTE", "DELIVERED"]


# --- Nonsense


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"message_id": ""}, "MessageIdentifier", "missing"),
        ({"message_id": "  "}, "MessageIdentifier", "missing"),
        ({"message_id": "x" * 256}, "MessageIdentifier", "256"),
        ({"Report": None}, "Report", "missing"),
    ],
)
def test_nonsense_is_answered_with_the_field_and_kept(shared_server, fields, field, says):
    message_id = fields.get("message_id", new_id())
    options = {key: value for key, value in fields.items() if key != "message_id"}
    before = len(shared_server.receipts())
    answer = post(shared_server.port, envelope(message_id, **options))

    assert answer.status == 200
    children = response_of(answer)[1]
    assert children["Report"] == "-1"
    assert children["MessageIdentifier"] == message_id.strip()
    assert field in children["Text"]
    assert says in children["Text"]
    assert len(children["Text"]) <= 255
    assert len(shared_server.receipts()) == before
    kept = shared_server.rejected()[-1]
    assert (kept["reason"], kept["field"], kept["text"]) == ("invalid", field, children["Text"])
    assert "BLUE.music" not in kept["raw"]
    assert "SubmitDeliveryReceipt" in kept["raw"]


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"Report": "nothing"}, {"code": "nothing", "state": "UNKNOWN"}),
        ({"Report": "delivered"}, {"code": "delivered", "state": "DELIVERED"}),
        ({"Report": "99999999999"}, {"code": "99999999999", "state": "UNKNOWN"}),
        ({"Timestamp1": "yesterday"}, {"reported_at": None, "unread": ["Timestamp1"]}),
        ({"Timestamp1": "2009-02-30T00:00:00Z"}, {"reported_at": None, "unread": ["Timestamp1"]}),
        ({"Timestamp1": "0001-01-01T00:00:00+05:00"}, {"reported_at": None, "unread": []}),
        ({"SentTo": "not a phone"}, {"recipient": None, "extra": {"SentTo": "not a phone"}}),
        ({"SentTo": "+()"}, {"recipient": None, "unread": ["SentTo"]}),
    ],
)
def test_what_cannot_be_read_is_kept(shared_server, fields, kept):
    message_id = new_id()
    answer = post(shared_server.port, envelope(message_id, **fields))
    assert response_of(answer)[1]["Report"] == "0"
    assert kept.items() <= stored(shared_server, message_id).items()


def test_nonsense_in_a_form_is_answered_as_a_form(shared_server):
    answer = post(
        shared_server.port,
        b"SendTo=447700912345&MessageIdentifier=A%26B&Report=",
        "/open",
        "application/x-www-form-urlencoded",
    )
    assert answer.status == 200
    assert answer.text.startswith("MessageIdentifier=A%26B&Report=-1&Text=Report+is+missing")


# --- Who may post


@pytest.mark.parametrize(
    "credentials",
    [
        {"pin": "wrong"},
        {"pin": None},
        {"pin": ""},
        {"username": "somebody"},
        {"username": None},
        {"username": None, "pin": None},
        {"pin": "blue.music"},
    ],
)
def test_wrong_or_missing_credentials(shared_server, credentials):
    message_id = new_id()
    before = len(shared_server.receipts())
    answer = post(shared_server.port, envelope(message_id, **credentials))

    assert answer.status == 200
    assert response_of(answer) == (
        V5,
        {"MessageIdentifier": message_id, "Report": "2", "Text": "Invalid login"},
    )
    assert len(shared_server.receipts()) == before
    kept = shared_server.rejected()[-1]
    assert kept["reason"] == "unauthorized"
    assert "wrong" not in kept["raw"]


def test_wrong_credentials_in_a_form(shared_server):
    answer = post(
        shared_server.port,
        b"Username=NULL&PIN=NULL&SendTo=447700912345&MessageIdentifier=F1&Report=0",
        content_type="application/x-www-form-urlencoded",
    )
    assert answer.status == 200
    assert answer.text == "MessageIdentifier=F1&Report=2&Text=Invalid+login"


def test_right_credentials_in_a_form(shared_server):
    answer = post(
        shared_server.port,
        b"Username=ANOther.61234&PIN=BLUE.music&SentTo=447700912345&MessageIdentifier=F2&Report=0",
        content_type="application/x-www-form-urlencoded",
    )
    assert answer.text == "MessageIdentifier=F2&Report=0&Text="
    assert "BLUE.music" not in stored(shared_server, "F2")["raw"]


def test_endpoints_with_credentials_of_their_own_live_side_by_side(serve):
    server = serve(
        CSOFT
        + """
[[endpoint]]
provider = "csoft"
path = "/soap/other"
username = "other"
pin = ["old pin", "new pin"]
"""
    )
    reports = {
        (path, pin): response_of(
            post(server.port, envelope(new_id(), username=username, pin=pin), path)
        )[1]["Report"]
        for path in ("/soap", "/soap/other")
        for username, pin in (
            ("ANOther.61234", "BLUE.music"),
            ("other", "old pin"),
            ("other", "new pin"),
        )
    }
    assert reports == {
        ("/soap", "BLUE.music"): "0",
        ("/soap", "old pin"): "2",
        ("/soap", "new pin"): "2",
        ("/soap/other", "BLUE.music"): "2",
        ("/soap/other", "old pin"): "0",
        ("/soap/other", "new pin"): "0",
    }


@pytest.mark.parametrize(
    "pin",
    [
        "<PIN>BLUE.music</PIN>",
        "<PIN ><![CDATA[BLUE.music]]></PIN >",
        "<PIN>BLUE&#46;music</PIN>",
        "<PIN a='>'>BLUE.music</PIN>",
        "<PIN>BLUE.<!-- -->music</PIN>",
        "<x:PIN xmlns:x='urn:x'>BLUE.music</x:PIN>",
        "<PIN>\n  BLUE.music\n</PIN>",
        "<!-- <PIN>a</PIN> --><PIN><![CDATA[BLUE.music]]></PIN>",
        "<PIN>BLUE.music</PIN><pin>BLUE.music</pin>",
        "<PIN>BLUE.music</PIN><x><y>a<Pin>BLUE.music</Pin>b</y></x>",
        "<PIN>BLUE.music</PIN><x PIN='BLUE&#46;music'/>",
    ],
)
def test_no_way_of_writing_a_pin_brings_it_into_the_database(shared_server, pin):
    message_id = new_id()
    body = envelope(message_id).replace(b"<PIN>BLUE.music</PIN>", pin.encode())
    assert response_of(post(shared_server.port, body))[1]["Report"] == "0"

    receipt = stored(shared_server, message_id)
    raw = receipt["raw"]
    assert "***" in raw
    assert "music" not in str(receipt)
    assert message_id in raw


def test_no_pin_reaches_log_or_database(serve):
    server = serve(CSOFT)
    unreadable = envelope("1").replace(b"</PIN>", b"</PIM>")
    truncated = envelope("1").partition(b"</PIN>")[0]
    for body in (
        envelope(new_id()),
        envelope(new_id(), Report=None),
        envelope(new_id(), pin="BLUE.music2"),
        envelope(new_id()).replace(b"SubmitDeliveryReceipt", b"Another"),
        unreadable,
        unreadable.decode().encode("utf-16"),
        envelope(new_id(), pin="BLUE.music&nbsp;"),
        truncated,
    ):
        answer = post(server.port, body)
        assert b"BLUE" not in answer.body
    server.stop()
    assert "BLUE" not in server.log
    assert b"BLUE" not in server.everything_kept()
    assert len(server.rejected()) == 7


# --- Not understood


NOT_UNDERSTOOD = {
    "nothing": (b"", "Client", "not well-formed"),
    "no XML": (b"<<<", "Client", "not well-formed"),
    "text": (b"hello", "Client", "not well-formed"),
    "cut off": (envelope("1")[:200], "Client", "not well-formed"),
    "no envelope": (b"<a/>", "Client", "no SOAP envelope"),
    "SOAP 1.2": (
        envelope("1").replace(SOAP.encode(), b"http://www.w3.org/2003/05/soap-envelope"),
        "VersionMismatch",
        "http://www.w3.org/2003/05/soap-envelope",
    ),
    "no Body": (f'<e:Envelope xmlns:e="{SOAP}"/>'.encode(), "Client", "no Body"),
    "empty Body": ((ENVELOPE % "").encode(), "Client", "Body is empty"),
    "another operation": (
        (ENVELOPE % '<x:SubmitReq xmlns:x="urn:x"/>').encode(),
        "Client",
        "SubmitReq of namespace urn:x",
    ),
    "a fault": ((ENVELOPE % "<e:Fault/>").encode(), "Client", "Fault"),
    "two operations": (
        (ENVELOPE % (operation("T1") + operation("T2"))).encode(),
        "Client",
        "none of these was stored",
    ),
    "a field twice": (
        envelope("1").replace(b"<Report>0", b"<Report>1</Report><Report>0"),
        "Client",
        "Report came twice",
    ),
    "elements in a field": (
        envelope("1").replace(b"<Report>0", b"<Report><a/>0"),
        "Client",
        "Report holds elements",
    ),
    "must be understood": (
        envelope("1").replace(
            b"<e:Body>",
            b'<e:Header><s:Security xmlns:s="urn:s" e:mustUnderstand="1"/></e:Header><e:Body>',
        ),
        "MustUnderstand",
        "Security of namespace urn:s",
    ),
    "an unknown charset": (envelope("1"), "Client", "no charset is called klingon"),
}


@pytest.mark.parametrize("label", NOT_UNDERSTOOD)
def test_what_is_not_understood_is_a_fault(shared_server, label):
    body, code, says = NOT_UNDERSTOOD[label]
    charset = "klingon" if "charset" in label else "utf-8"
    before = len(shared_server.receipts())
    answer = post(shared_server.port, body, content_type=f"text/xml; charset={charset}")

    found, text = fault_of(answer)
    assert found == code
    assert says in text
    assert answer.headers["content-type"] == "text/xml; charset=utf-8"
    assert len(shared_server.receipts()) == before
    kept = shared_server.rejected()[-1]
    assert (kept["reason"], kept["text"]) == ("unreadable", text)


@pytest.mark.parametrize(
    "header",
    [
        '<s:S xmlns:s="urn:s" e:mustUnderstand="0"/>',
        '<s:S xmlns:s="urn:s"/>',
        '<s:S xmlns:s="urn:s" e:mustUnderstand="1" e:actor="urn:somebody-else"/>',
    ],
)
def test_other_headers_are_ignored(shared_server, header):
    body = envelope(new_id()).replace(
        b"<e:Body>", f"<e:Header>{header}</e:Header><e:Body>".encode()
    )
    assert response_of(post(shared_server.port, body))[1]["Report"] == "0"


def test_every_sample_of_this_provider_is_tested_here():
    assert {path.name for path in SAMPLES.glob("csoft-*")} == {
        "csoft-form.http",
        "csoft-v3-example.http",
        "csoft-v5-qualified.xml",
        "csoft-v5-unqualified.xml",
    }
