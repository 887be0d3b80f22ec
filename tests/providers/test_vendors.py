"""The providers of the wider field, a row each: the request as it is sent, the reply, the receipt.

The samples are signed for the secrets that stand in SECRETS, at the time AT.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.exchange import (
    JSON,
    Request,
    bound,
    form,
    get,
    items,
    json_body,
    post,
    read,
    refused,
    sample,
    told,
    unverified,
)
from receiptd.providers import Ignored, Invalid, Post, Provider, Reply, load
from receiptd.providers.testing import PUBLIC_URL
from receiptd.receipt import ACCEPTED, Kind, Receipt, State

AT = 1769882707
"""2026-01-31T18:05:07Z"""
WHEN = datetime(2026, 1, 31, 18, 5, 7, tzinfo=UTC)
MILLIS = WHEN + timedelta(milliseconds=31)
KINDS = load()

SECRETS: dict[str, dict[str, Any]] = {
    "twilio": {"auth_token": "00112233445566778899aabbccddeeff"},
    "vonage": {"signature_secret": "vonage-signature-secret-0001", "signature_method": "sha256"},
    "vonage-messages": {"signature_secret": "vonage-messages-signature-secret"},
    "sinch": {"secret": "sinch-callback-secret"},
    "telnyx": {"public_key": "446QWV3W8ke1uBZz4kEXdIWV+u998pqgRC9NqILvnA0="},
    "plivo": {"auth_token": ["plivo-auth-token-0001"]},
    "messagebird": {"signing_key": "messagebird-signing-key-0001"},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "kannel": {
        "dlr_url": "https://dlr.example.com/kannel?id={message_id}&d=%d&to=%p&from=%P&t=%T"
        "&smsc=%i&fid=%F&a=%A"
    }
}
SIGNED = {
    "twilio": ["twilio-sent", "twilio-delivered", "twilio-undelivered", "twilio-inbound"],
    "vonage": ["vonage-sms-form-sha256"],
    "vonage-messages": ["vonage-messages-delivered", "vonage-messages-rejected"],
    "sinch": ["sinch-recipient", "sinch-batch-full", "sinch-batch-summary"],
    "telnyx": ["telnyx-sent", "telnyx-delivered"],
    "plivo": ["plivo-delivered", "plivo-undelivered"],
    "messagebird": ["messagebird-delivered"],
}
MANY = sorted(set(KINDS) - {"csoft", "cdyne", "cdyne-phone", "seeme", "easysms", "generic"})


def provider(name: str, **options: Any) -> Provider:
    return bound(KINDS[name], **(OPTIONS.get(name, {}) | options))


def from_sample(name: str) -> Request:
    return sample(f"providers/{name}.http")


PHONE = "447700900123"
SAMPLES: list[tuple[str, str, list[dict[str, Any]]]] = [
    ("twilio", "twilio-sent", [{"state": State.ACCEPTED, "code": "sent"}]),
    ("twilio", "twilio-delivered", [{"state": State.DELIVERED, "code": "delivered"}]),
    ("twilio", "twilio-undelivered", [{"state": State.UNDELIVERABLE, "code": "undelivered"}]),
    ("twilio", "twilio-inbound", [{"kind": Kind.REPLY}]),
    (
        "vonage",
        "vonage-sms-get",
        [
            {
                "message_id": "0C000000A1B2C3D4",
                "state": State.DELIVERED,
                "recipient": PHONE,
                "sender": "Acme & Co",
                "reference": "order=42",
                "network": "23410",
                "price": Decimal("0.03330000"),
                "reported_at": WHEN,
                "extra": {"scts": "2601311805", "err-code": "0"},
            }
        ],
    ),
    ("vonage", "vonage-sms-form-sha256", [{"state": State.DELIVERED, "recipient": PHONE}]),
    (
        "vonage-messages",
        "vonage-messages-delivered",
        [
            {
                "message_id": "3f6b2c1d-8e7a-4b5c-9d0e-1f2a3b4c5d6e",
                "state": State.DELIVERED,
                "recipient": PHONE,
                "parts": 2,
                "price": Decimal("0.0666"),
                "network": "23410",
                "reported_at": WHEN,
                "reference": "order-42",
            }
        ],
    ),
    (
        "vonage-messages",
        "vonage-messages-rejected",
        [{"state": State.UNDELIVERABLE, "description": "Absent Subscriber Permanent"}],
    ),
    (
        "infobip",
        "infobip-batch",
        [
            {
                "message_id": "5f1c7d3e9a2b4c68",
                "state": State.DELIVERED,
                "code": "5",
                "price": Decimal("0.035"),
                "reported_at": MILLIS,
                "parts": 1,
                "reference": "order-42",
                "description": "Message delivered to handset",
            },
            {"message_id": "6a2d8e4f0b3c5d79", "state": State.UNDELIVERABLE, "parts": 2},
        ],
    ),
    (
        "sinch",
        "sinch-recipient",
        [
            {
                "message_id": "01JK0A0000BATCH00000000001",
                "state": State.DELIVERED,
                "recipient": PHONE,
                "network": "23410",
                "parts": 2,
                "reported_at": MILLIS,
                "reference": "order-42",
            }
        ],
    ),
    (
        "sinch",
        "sinch-batch-full",
        [
            {"state": State.DELIVERED, "recipient": PHONE},
            {"state": State.DELIVERED, "recipient": "447700900124"},
            {"state": State.REJECTED, "recipient": "447700900456"},
        ],
    ),
    ("sinch", "sinch-batch-summary", []),
    ("telnyx", "telnyx-sent", [{"state": State.ACCEPTED, "code": "sent"}]),
    (
        "telnyx",
        "telnyx-delivered",
        [
            {
                "message_id": "40319b7c-2d3e-4f5a-8b6c-7d8e9f0a1b2c",
                "state": State.DELIVERED,
                "recipient": "+447700900123",
                "sender": "+12025550143",
                "parts": 1,
                "price": Decimal("0.0080"),
                "reported_at": MILLIS,
            }
        ],
    ),
    ("plivo", "plivo-delivered", [{"state": State.DELIVERED}]),
    ("plivo", "plivo-undelivered", [{"state": State.UNDELIVERABLE}]),
    (
        "messagebird",
        "messagebird-delivered",
        [
            {
                "message_id": "e2f4a6c8b0d24f68a1c3e5f70912b4d6",
                "state": State.DELIVERED,
                "recipient": PHONE,
                "reference": "order-42",
                "network": "23410",
                "parts": 1,
                "price": Decimal("0.035"),
                "reported_at": WHEN,
            }
        ],
    ),
    (
        "kannel",
        "kannel-delivered",
        [
            {
                "message_id": "order-42",
                "linked_id": "5D3A91",
                "state": State.DELIVERED,
                "code": "1",
                "recipient": PHONE,
                "sender": "Acme",
                "reported_at": WHEN,
            }
        ],
    ),
    ("kannel", "kannel-rejected", [{"state": State.REJECTED, "code": "16"}]),
    ("jasmin", "jasmin-level1", [{"state": State.ENROUTE, "code": "ESME_ROK"}]),
    (
        "jasmin",
        "jasmin-level2",
        [
            {
                "message_id": "16fd2706-8baf-433b-82eb-8c7fada847da",
                "linked_id": "2567",
                "state": State.DELIVERED,
                "code": "DELIVRD",
                "reported_at": datetime(2026, 1, 31, 18, 6, tzinfo=UTC),
            }
        ],
    ),
    ("jasmin", "jasmin-get", [{"state": State.UNDELIVERABLE, "code": "UNDELIV"}]),
]


@pytest.mark.parametrize(("name", "file", "expected"), SAMPLES, ids=lambda it: str(it)[:30])
def test_a_sample_is_read(name, file, expected):
    found = items(provider(name), from_sample(file))
    receipts = [each for each in found if isinstance(each, Receipt)]
    assert len(receipts) == len(expected), found
    for receipt, fields in zip(receipts, expected, strict=True):
        said = told(receipt)
        assert {key: said.get(key) for key in fields} == fields
        assert receipt.message_id
        assert receipt.provider == name
    if not expected:
        assert all(isinstance(each, Ignored) for each in found)


@pytest.mark.parametrize(
    ("name", "file"), [(name, file) for name, files in SIGNED.items() for file in files]
)
def test_a_signed_sample_is_let_in_and_nothing_else(name, file):
    request = from_sample(file)
    signed = provider(name, **SECRETS[name])
    assert signed.signed
    assert unverified(signed, request, AT) is None, "its own signature"

    secret, *rest = SECRETS[name]
    right = SECRETS[name][secret]
    right = right[0] if isinstance(right, list) else right
    if name != "telnyx":
        other = {secret: "another-secret", **{key: SECRETS[name][key] for key in rest}}
        assert "wrong" in (unverified(provider(name, **other), request, AT) or "")
        both = other | {secret: ["another-secret", right]}
        assert unverified(provider(name, **both), request, AT) is None, "while it is changed"

    for changed in (
        request._replace(body=request.body + b" ")
        if request.body
        else request._replace(query=request.query + b"&a=b"),
        request._replace(
            body=request.body.replace(b"447700900123", b"447700900124"),
            query=request.query.replace(b"447700900123", b"447700900124"),
        )
        if b"447700900123" in request.body + request.query
        else request._replace(body=request.body.replace(b"e", b"3"), query=request.query[1:]),
    ):
        assert unverified(signed, changed, AT) is not None, "another content"
    bare = request._replace(headers={})
    if name == "vonage":
        bare = request._replace(body=request.body.partition(b"&sig=")[0])
    assert "missing" in (unverified(signed, bare, AT) or "")
    if signed.signs_url:
        elsewhere = bound(KINDS[name], public_urls=("https://other.example.com",), **SECRETS[name])
        assert unverified(elsewhere, request, AT) is not None


@pytest.mark.parametrize(
    ("name", "file", "seconds"),
    [("telnyx", "telnyx-sent", 300), ("messagebird", "messagebird-delivered", 61)],
)
def test_a_replay_is_refused_where_the_vendor_s_rule_has_it(name, file, seconds):
    signed, request = provider(name, **SECRETS[name]), from_sample(file)
    assert unverified(signed, request, AT + seconds) is None
    assert "replay" in (unverified(signed, request, AT + seconds + 2) or "")


@pytest.mark.parametrize("name", sorted(SIGNED))
def test_a_repetition_a_day_later_is_taken_where_the_vendor_repeats_so_late(name):
    if name in ("telnyx", "messagebird"):
        return  # their signatures are of the moment: see above
    signed, request = provider(name, **SECRETS[name]), from_sample(SIGNED[name][0])
    assert unverified(signed, request, AT + 86_400) is None


@pytest.mark.parametrize("name", sorted(SIGNED))
def test_without_a_secret_nothing_is_asked(name):
    open_ = provider(name)
    assert not open_.signed
    assert unverified(open_, from_sample(SIGNED[name][0])._replace(headers={})) is None


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("twilio", Reply()),
        ("jasmin", Reply(200, b"ACK/Jasmin")),
        ("messagebird", Reply(200, b"OK")),
        ("infobip", Reply()),
    ],
)
def test_what_is_answered(name, reply):
    file = next(file for kind, file, _ in SAMPLES if kind == name)
    bound_ = provider(name)
    receipts = [each for each in items(bound_, from_sample(file)) if isinstance(each, Receipt)]
    assert bound_.answer(receipts, [ACCEPTED] * len(receipts)) == reply
    assert bound_.answer((), ()).status == 200, "what is ignored"


def test_an_inbound_message_of_twilio_is_answered_with_an_empty_document():
    twilio = provider("twilio")
    receipt = read(twilio, from_sample("twilio-inbound"))
    assert receipt.text
    reply = twilio.answer([receipt], [ACCEPTED])
    assert (reply.body, reply.content_type[:8]) == (b"<Response/>", "text/xml")


@pytest.mark.parametrize(
    ("name", "request_", "state"),
    [
        ("twilio", form("MessageSid=SM1&MessageStatus=undelivered&ErrorCode=30007"), "REJECTED"),
        ("twilio", form("MessageSid=SM1&MessageStatus=new"), "UNKNOWN"),
        ("twilio", form("SmsSid=SM1&SmsStatus=READ&To=whatsapp%3A%2B4477009"), "DELIVERED"),
        ("vonage", get("messageId=1&status=EXPIRED&price=null&to=null"), "EXPIRED"),
        ("vonage", json_body('{"messageId": 7, "status": "failed", "err-code": 5}'),
         "UNDELIVERABLE"),
        ("infobip", json_body('{"results":[{"messageId":"1","status":{"groupName":"Expired"}}]}'),
         "EXPIRED"),
        ("infobip", json_body('{"results":[{"messageId":"1","status":{"id":99,"groupId":1}}]}'),
         "ENROUTE"),
        ("sinch", json_body('{"type":"delivery_report_sms","batch_id":"b",'
                            '"total_message_count":1,"statuses":[{"status":"ABORTED","count":1}]}'),
         "REJECTED"),
        ("plivo", form("messageuuid=1&status=Queued"), "ENROUTE"),
        ("messagebird", get("id=1&status=delivery_failed&statusErrorCode=103"), "REJECTED"),
        ("kannel", get("id=1&d=2&a=stat:EXPIRED"), "EXPIRED"),
        ("kannel", get("id=1&d=34"), "EXPIRED"),
        ("kannel", get("id=1&d=6"), "UNDELIVERABLE"),
        ("kannel", get("id=1&d=0"), "UNKNOWN"),
        ("kannel", get("id=1&d=4&a=id:1+stat:ACCEPTD"), "ACCEPTED"),
        ("jasmin", form("id=1&level=1&message_status=ESME_RINVDSTADR"), "REJECTED"),
        ("jasmin", form("id=1&level=2&message_status=EXPIRED&donedate=ND&id_smsc=ND"), "EXPIRED"),
        ("vonage-messages",
         json_body('{"message_uuid":"1","status":"rejected","to":{"type":"sms","number":"4477"},'
                   '"error":{"code":1240}}'), "REJECTED"),
    ],
)  # fmt: skip
def test_a_state(name, request_, state):
    receipt = read(provider(name), request_)
    assert receipt.state == state


def test_states_can_be_configured_also_by_the_error():
    twilio = bound(
        KINDS["twilio"], codes={"undelivered/30003": State.ENROUTE, "sent": State.ENROUTE}
    )
    one = read(twilio, form("MessageSid=1&MessageStatus=undelivered&ErrorCode=30003"))
    two = read(twilio, form("MessageSid=1&MessageStatus=sent"))
    assert (one.state, two.state) == (State.ENROUTE, State.ENROUTE)
    infobip = bound(KINDS["infobip"], codes={"2": State.ENROUTE})
    assert read(infobip, json_body('{"results":[{"messageId":"1","status":{"id":2}}]}')).state == (
        State.ENROUTE
    )


@pytest.mark.parametrize(
    ("name", "request_", "field"),
    [
        ("twilio", form("MessageStatus=sent"), "MessageSid"),
        ("vonage", get("status=delivered"), "messageId"),
        ("vonage", json_body("[]"), "body"),
        ("infobip", json_body('{"results": 7}'), "results"),
        ("infobip", Request("POST", b"", b"<reports/>", "application/xml"), "body"),
        ("sinch", json_body('{"type": "delivery_report_sms"}'), "statuses"),
        ("telnyx", json_body('{"data": {"event_type": "message.sent"}}'), "data.payload"),
        ("messagebird", get("id=1"), "status"),
        ("kannel", get("id=1"), "d"),
        ("kannel", get("d=1"), "id"),
        ("jasmin", get("id=1"), "message_status"),
        ("plivo", form("Status=sent"), "MessageUUID"),
    ],
)
def test_nonsense_is_named(name, request_, field):
    found, text, reply = refused(provider(name), request_)
    assert found == field
    assert field in text
    assert reply.status == 400


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("vonage", get("a=b")),
        ("vonage", json_body("{}")),
        ("vonage-messages", json_body("{}")),
        ("infobip", json_body('{"results": []}')),
        ("sinch", json_body('{"type": "ping"}')),
        ("telnyx", json_body('{"data": {"event_type": "call.hangup"}}')),
    ],
)
def test_what_is_no_receipt_is_ignored(name, request_):
    (found,) = items(provider(name), request_)
    assert isinstance(found, Ignored)


def test_one_bad_report_of_infobip_leaves_the_others_good():
    body = '{"results":[{"to":"x"},7,{"messageId":"2","status":{"id":5}}]}'
    one, two, three = items(provider("infobip"), json_body(body))
    assert isinstance(one, Invalid)
    assert one.alone() == b'{"results": [{"to": "x"}]}'
    assert isinstance(two, Invalid)
    assert isinstance(three, Receipt)


@pytest.mark.parametrize(
    ("name", "request_", "field"),
    [
        ("twilio", form("MessageSid=1&MessageStatus=sent&To=a+horse"), "To"),
        ("vonage", get("messageId=1&status=sent&message-timestamp=soon"), "message-timestamp"),
        ("plivo", form("MessageUUID=1&Status=sent&Units=many"), "Units"),
        ("sinch", json_body('{"type":"recipient_delivery_report_sms","batch_id":"1",'
                            '"status":"Failed","at":"never mind"}'), "at"),
        ("kannel", get("id=1&d=1&t=noon"), "t"),
        ("jasmin", form("id=1&message_status=DELIVRD&donedate=99"), "donedate"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_read_is_kept_and_the_receipt_too(name, request_, field):
    receipt = read(provider(name), request_)
    assert receipt.unread == (field,)
    assert field in receipt.extra


def test_a_message_of_telnyx_to_several_is_a_receipt_each():
    body = (
        '{"data":{"event_type":"message.finalized","payload":{"id":"m","text":"secret","to":['
        '{"phone_number":"+1","status":"delivered"},{"phone_number":"+2","status":"expired"},{}]}}}'
    )
    one, two, three = items(provider("telnyx"), json_body(body))
    assert isinstance(one, Receipt)
    assert isinstance(two, Receipt)
    assert (one.recipient, two.state) == ("+1", State.EXPIRED)
    assert isinstance(three, Invalid)
    assert "secret" not in str(one.extra)


@pytest.mark.parametrize("name", MANY)
def test_a_receipt_that_is_written_is_read_again(name):
    bound_ = provider(name)
    random = Random(7)
    for number in range(40):
        made = bound_.sample(random, WHEN + timedelta(seconds=number))
        written = bound_.write(made)
        (again,) = bound_.read(written)
        assert isinstance(again, Receipt)
        ignore = {"raw", "reported_at", "extra", "description"}
        assert {k: v for k, v in again._asdict().items() if k not in ignore} == {
            k: v for k, v in made._asdict().items() if k not in ignore
        }


@pytest.mark.parametrize("name", sorted(set(SIGNED) - {"telnyx"}))
def test_what_is_simulated_is_signed_right(name):
    signed = provider(name, **SECRETS[name])
    written = signed.write(signed.sample(Random(1), WHEN))
    sent = signed.sign(
        Post(
            written.method,
            written.query,
            written.body,
            written.content_type,
            path=b"/here",
            public_urls=(PUBLIC_URL,),
            received_at=AT,
        )
    )
    headers = {name.lower(): value for name, value in sent.headers.items()}
    request = Request(sent.method, sent.query, sent.body, sent.content_type, headers, sent.path)
    assert unverified(signed, request, AT) is None


_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "to", "status", "data", "payload", "results", "event_type", "type", "error"]
            )
            | st.text(max_size=6),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("name", MANY)
@given(value=_VALUE, query=st.text(max_size=60))
def test_any_post_is_read_or_is_nonsense(name, value, query):
    import json

    bound_ = provider(name, **SECRETS.get(name, {}))
    raw = json.dumps(value).encode()
    for request in (
        Request("POST", query.encode(), raw, JSON),
        Request("GET", query.encode()),
        form(query),
    ):
        try:
            unverified(bound_, request)
            found = bound_.read(post(bound_, request))
        except Invalid:
            continue
        assert found
