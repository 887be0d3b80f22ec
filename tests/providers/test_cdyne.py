"""CDYNE's posts, a row each: the request as CDYNE sends it, the reply, the receipt."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from typing import Any
from urllib.parse import quote

import pytest

from kit.exchange import (
    Case,
    Nonsense,
    Request,
    Unread,
    bound,
    form,
    multipart,
    post,
    read,
    sample,
)
from receiptd.providers.cdyne import Cdyne, CdynePhone, parts_of
from receiptd.receipt import Kind, Outcome, State, Verdict

GUID = "9a35e913-ded0-7574-4642-5f60c550c706"
MATCHED = "11111111-2222-1111-2222-000000000004"
NO_MATCH = "00000000-0000-0000-0000-000000000000"
BACKUP = "5d3f3b0e-0f0e-4f0a-9c8e-111111111111"
TIME = "5%2f8%2f2010+2%3a42%3a36+AM"
AT = datetime(2010, 5, 8, 2, 42, 36, tzinfo=UTC)
TEXT = (
    "sm: msg: id:18579674100201040 sub:001 dlvrd:001 submit date:1209281334 "
    "done date:1209281334 stat:DELIVERED TO CARRIER err:003 text:"
)

SENT: dict[str, Any] = {
    "kind": Kind.SENT,
    "message_id": GUID,
    "state": State.ENROUTE,
    "code": "1",
    "description": "Handed to the aggregator",
}
REPLY: dict[str, Any] = {
    "kind": Kind.REPLY,
    "message_id": GUID,
    "state": State.UNKNOWN,
}
DELIVERY: dict[str, Any] = {
    "kind": Kind.DELIVERY,
    "message_id": GUID,
    "state": State.DELIVERED,
    "code": "000",
    "description": "Delivered to the phone",
}


def delivery(fields: str) -> Request:
    """A delivery receipt with these fields beside the ones it needs."""
    return form(f"DeliveryReceipt=1&MessageID={GUID}&{fields}")


def text(**parts: str) -> dict[str, str]:
    """How the parts of a receipt's text are kept."""
    names = {"submit_date": "submit date", "done_date": "done date"}
    return {f"DeliveryReceiptMessage.{names.get(key, key)}": part for key, part in parts.items()}


CASES = [
    Case(
        "sent: the vendor's example",
        sample("cdyne-sent.http"),
        SENT
        | {
            "recipient": "17575449511",
            "sender": "17575449510",
            "reference": "12345",
            "reported_at": AT,
        },
    ),
    Case(
        "not sent: not final, since CDYNE tries again",
        form(f"SMSSent=0&MessageID={GUID}"),
        SENT
        | {
            "code": "0",
            "description": "Not accepted by the aggregator, most likely a landline",
            "last_try": 3,
        },
    ),
    Case("sent: an MMS", form(f"MMSSent=1&MessageID={GUID}"), SENT | {"extra": {"MMSSent": "1"}}),
    Case(
        "an empty marker counts as absent",
        form(f"SMSSent=&SMSResponse=1&MessageID={GUID}"),
        REPLY | {"extra": {"SMSSent": ""}},
    ),
    Case(
        "of several markers the first in CDYNE's order counts",
        form(f"DeliveryReceipt=1&SMSSent=1&MessageID={GUID}"),
        SENT | {"extra": {"DeliveryReceipt": "1"}},
    ),
    Case(
        "the marker in the query, the rest in the body",
        form(f"MessageID={GUID}", "SMSSent=1"),
        SENT,
    ),
    Case("a multipart form", multipart(SMSSent="1", MessageID=GUID), SENT),
    Case(
        "reply: the vendor's example",
        sample("cdyne-reply.http"),
        REPLY
        | {
            "recipient": "17575449511",
            "sender": "17575449510",
            "reported_at": AT,
            "text": "Test",
            "extra": {"MatchedMessageID": MATCHED},
            "linked_id": MATCHED,
        },
    ),
    Case(
        "reply: to no message of ours",
        form(f"SMSResponse=1&MessageID={GUID}&MatchedMessageID={NO_MATCH}&Message=Hi"),
        REPLY | {"text": "Hi", "extra": {"MatchedMessageID": NO_MATCH}},
    ),
    Case(
        "reply: no match as Esendex's page writes it, a digit short",
        form(f"SMSResponse=1&MessageID={GUID}&MatchedMessageID={NO_MATCH[:-1]}"),
        REPLY | {"extra": {"MatchedMessageID": NO_MATCH[:-1]}},
    ),
    Case(
        "reply: text with space around it, as the subscriber wrote it",
        form(f"SMSResponse=1&MessageID={GUID}&Message=+Zo%c3%ab%0d%0a+%26+I+"),
        REPLY | {"text": " Zoë\r\n & I "},
    ),
    Case(
        "reply: an MMS",
        form(f"MMSResponse=1&MessageID={GUID}&Message=Hello."),
        REPLY | {"text": "Hello.", "extra": {"MMSResponse": "1"}},
    ),
    Case(
        "delivery: the vendor's example, unescaped spaces and colons",
        sample("cdyne-delivery.http"),
        DELIVERY
        | {
            "message_id": "f880e00b-3a14-484c-80e7-ca6aa29a2f7a",
            "state": State.ENROUTE,
            "code": "003",
            "description": "Delivered to carrier",
            "recipient": "17572373369",
            "sender": "74121",
            "reported_at": datetime(2012, 9, 28, 13, 34, tzinfo=UTC),
            "extra": {
                "DeliveryReceiptMessage": TEXT,
                **text(
                    id="18579674100201040",
                    sub="001",
                    dlvrd="001",
                    submit_date="1209281334",
                    done_date="1209281334",
                    stat="DELIVERED TO CARRIER",
                    err="003",
                ),
            },
        },
    ),
    Case(
        "delivery: Esendex's example, whose err is not its Code",
        delivery(
            "DeliveryReceiptMessage=id:1111111111 sub:001 dlvrd:001 submit date:2306132307 done "
            "date:2306132307 stat:enroute err:000 text:short message&Code=003"
        ),
        DELIVERY
        | {
            "state": State.ENROUTE,
            "code": "003",
            "description": "Delivered to carrier (the receipt's text: err 000)",
            "reported_at": datetime(2023, 6, 13, 23, 7, tzinfo=UTC),
            "extra": {
                "DeliveryReceiptMessage": (
                    "id:1111111111 sub:001 dlvrd:001 submit date:2306132307 done "
                    "date:2306132307 stat:enroute err:000 text:short message"
                ),
                **text(
                    id="1111111111",
                    sub="001",
                    dlvrd="001",
                    submit_date="2306132307",
                    done_date="2306132307",
                    stat="enroute",
                    err="000",
                    text="short message",
                ),
            },
        },
    ),
    Case(
        "delivery: of an MMS, its text a word",
        delivery("DeliveryReceiptMessage=DeliveredToDevice&Code=000"),
        DELIVERY | {"extra": {"DeliveryReceiptMessage": "DeliveredToDevice"}},
    ),
    Case("delivery: a code alone", delivery("Code=000"), DELIVERY),
    Case("delivery: a code with zeros of its own", delivery("Code=0"), DELIVERY),
    Case(
        "delivery: no Code, so that err counts",
        delivery("DeliveryReceiptMessage=stat:x err:008"),
        DELIVERY
        | {
            "state": State.EXPIRED,
            "code": "008",
            "description": "Expired at carrier",
            "extra": {"DeliveryReceiptMessage": "stat:x err:008", **text(stat="x", err="008")},
        },
    ),
    Case(
        "delivery: nothing but a message",
        delivery(""),
        {"kind": Kind.DELIVERY, "message_id": GUID, "state": State.UNKNOWN},
    ),
    Case(
        "delivery: an unlisted code with an SMPP word",
        delivery("DeliveryReceiptMessage=stat:UNDELIV err:777&Code=777"),
        DELIVERY
        | {
            "state": State.UNDELIVERABLE,
            "code": "777",
            "description": "UNDELIV",
            "extra": {
                "DeliveryReceiptMessage": "stat:UNDELIV err:777",
                **text(stat="UNDELIV", err="777"),
            },
        },
    ),
    Case(
        "delivery: an unlisted code with a full name",
        delivery("DeliveryReceiptMessage=Rejected&Code=999"),
        DELIVERY
        | {
            "state": State.REJECTED,
            "code": "999",
            "description": "Rejected",
            "extra": {"DeliveryReceiptMessage": "Rejected"},
        },
    ),
    Case(
        "delivery: an unlisted code with words of no table",
        delivery("DeliveryReceiptMessage=stat:LOST AT SEA err:777&Code=777"),
        DELIVERY
        | {
            "state": State.UNKNOWN,
            "code": "777",
            "description": "LOST AT SEA",
            "extra": {
                "DeliveryReceiptMessage": "stat:LOST AT SEA err:777",
                **text(stat="LOST AT SEA", err="777"),
            },
        },
    ),
    Case(
        "delivery: an unlisted code, a text without a word",
        delivery("DeliveryReceiptMessage=err:777 text:DELIVRD&Code=777"),
        {
            "kind": Kind.DELIVERY,
            "message_id": GUID,
            "state": State.UNKNOWN,
            "code": "777",
            "extra": {
                "DeliveryReceiptMessage": "err:777 text:DELIVRD",
                **text(err="777", text="DELIVRD"),
            },
        },
    ),
    Case(
        "delivery: sent again by a backup route",
        delivery(f"Code=023&BackupMessageID={BACKUP}"),
        DELIVERY
        | {
            "state": State.REJECTED,
            "code": "023",
            "description": "Rejected by carrier",
            "extra": {"BackupMessageID": BACKUP},
            "linked_id": BACKUP,
            "backup": True,
        },
    ),
    Case(
        "delivery: a done date with seconds",
        delivery("DeliveryReceiptMessage=done date:120928133459&Code=000"),
        DELIVERY
        | {
            "reported_at": datetime(2012, 9, 28, 13, 34, 59, tzinfo=UTC),
            "extra": {
                "DeliveryReceiptMessage": "done date:120928133459",
                **text(done_date="120928133459"),
            },
        },
    ),
    Case(
        "delivery: not done yet",
        delivery("DeliveryReceiptMessage=done date:0000000000&Code=004"),
        DELIVERY
        | {
            "state": State.ACCEPTED,
            "code": "004",
            "description": "Accepted by carrier",
            "extra": {
                "DeliveryReceiptMessage": "done date:0000000000",
                **text(done_date="0000000000"),
            },
        },
    ),
]


NONSENSE = [
    Nonsense("none of the markers", form(f"MessageID={GUID}"), "SMSSent", "DeliveryReceipt"),
    Nonsense("nothing at all", Request("POST"), "SMSSent", "MMSResponse"),
    Nonsense("no identifier", form("SMSSent=1"), "MessageID", "missing"),
    Nonsense("no identifier in a reply", form("SMSResponse=1"), "MessageID", "missing"),
    Nonsense("no identifier in a delivery", form("DeliveryReceipt=1"), "MessageID", "missing"),
]


STATES = {
    "000": "DELIVERED",
    "003": "ENROUTE",
    "004": "ACCEPTED",
    "005": "UNDELIVERABLE",
    "008": "EXPIRED",
    "015": "REJECTED",
    "017": "REJECTED",
    "021": "REJECTED",
    "023": "REJECTED",
    "024": "UNDELIVERABLE",
    "028": "REJECTED",
    "029": "REJECTED",
    "030": "REJECTED",
    "032": "REJECTED",
    "090": "REJECTED",
    "091": "REJECTED",
    "999": "UNDELIVERABLE",
}


@pytest.mark.parametrize(
    ("written", "hour"),
    [
        ("5/8/2010 12:42:36 AM", 0),
        ("5/8/2010 2:42:36 AM", 2),
        ("05/08/2010 12:42:36 PM", 12),
        ("5/8/2010 11:42:36 pm", 23),
        ("5/8/2010 2:42:36\u202fPM", 14),
        ("5/8/2010 14:42:36", 14),
        ("2010-05-08T14:42:36Z", 14),
        ("2010-05-08T14:42:36.000Z", 14),
    ],
)
def test_us_times_and_esendexs(written: str, hour: int) -> None:
    receipt = read(bound(Cdyne), form(f"SMSSent=1&MessageID={GUID}&SentTime={written}"))
    assert receipt.reported_at == datetime(2010, 5, 8, hour, 42, 36, tzinfo=UTC)


def test_times_are_read_in_the_configured_zone() -> None:
    provider = bound(Cdyne, timezone="America/New_York")
    sent = read(provider, form(f"SMSSent=1&MessageID={GUID}&SentTime=5/8/2010 2:42:36 AM"))
    done = read(provider, delivery("DeliveryReceiptMessage=done date:1209281334"))
    assert sent.reported_at == datetime(2010, 5, 8, 6, 42, 36, tzinfo=UTC)
    assert done.reported_at == datetime(2012, 9, 28, 17, 34, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ("", {}),
        ("DeliveredToDevice", {}),
        ("stat:A B C err:1", {"stat": "A B C", "err": "1"}),
        ("STAT:x", {"stat": "x"}),
        ("submit date: 1  done\ndate:2", {"submit date": "1", "done date": "2"}),
        ("submit_date:1 done_date:2", {"submit date": "1", "done date": "2"}),
        ("text:id:7 stat:DELIVRD", {"text": "id:7 stat:DELIVRD"}),
        ("id:1 id:2 err: text:", {"id": "1"}),
        ("grid:5 id:6", {"id": "6"}),
    ],
)
def test_the_parts_of_a_receipts_text(written: str, parts: dict[str, str]) -> None:
    assert parts_of(written) == parts


@pytest.mark.parametrize(
    ("outcome", "status"),
    [(Outcome.INVALID, 400), (Outcome.UNAUTHORIZED, 403), (Outcome.BUSY, 503)],
)
def test_only_an_error_that_is_no_200_has_a_body(outcome: Outcome, status: int) -> None:
    provider = bound(Cdyne)
    reply = provider.refuse(post(provider, form("")), Verdict(outcome, "Why it was not taken"))
    assert (reply.status, reply.body) == (status, b"Why it was not taken\n")


@pytest.mark.parametrize("standing", [Outcome.UNKNOWN_MESSAGE, Outcome.WRONG_RECIPIENT])
def test_a_mismatch_is_answered_with_an_empty_200(standing: Outcome) -> None:
    provider = bound(Cdyne)
    receipt = provider.sample(Random(1), AT)
    reply = provider.answer([receipt], [Verdict(standing, "No message has it", standing)])
    assert (reply.status, reply.body) == (200, b"")


ENDED = {
    "kind": Kind.CALL,
    "message_id": "183729",
    "state": State.DELIVERED,
    "code": "1",
    "description": "Answered",
    "reported_at": datetime(2010, 5, 8, 2, 43, 10, tzinfo=UTC),
}
START = {"StartTime": "5/8/2010 2:42:36 AM"}
END = START | {"EndTime": "5/8/2010 2:43:10 AM"}


def call(fields: dict[str, str]) -> Request:
    """A stage of the call 183729."""
    return form("&".join(f"{name}={value}" for name, value in fields.items()) + "&QueueID=183729")


CALLS = [
    Case(
        "answered and ended, a variable of the call's script with it",
        sample("cdyne-phone.http"),
        ENDED
        | {
            "extra": END
            | {
                "Duration": "34",
                "machinedetection": "HUMAN",
                "AC": "0",
                "digitsdialed": "1",
                "incoming": "false",
                "confirm": "1",
            }
        },
    ),
    Case(
        "answered, still going on: reported at its start",
        call({"ResponseCode": "1"} | START),
        ENDED | {"reported_at": AT, "extra": START},
    ),
    Case(
        "not answered so far: not final",
        call({"ResponseCode": "2"} | START),
        ENDED
        | {
            "state": State.ENROUTE,
            "code": "2",
            "description": "Not answered so far",
            "reported_at": AT,
            "extra": START,
        },
    ),
    Case(
        "not answered, with .NET's empty date for an end",
        call({"ResponseCode": "2", "EndTime": "1/1/0001 12:00:00 AM"} | START),
        ENDED
        | {
            "state": State.ENROUTE,
            "code": "2",
            "description": "Not answered so far",
            "reported_at": AT,
            "extra": {"EndTime": "1/1/0001 12:00:00 AM"} | START,
        },
    ),
    Case(
        "not answered, and given up",
        call({"ResponseCode": "3"} | END),
        ENDED
        | {
            "state": State.UNDELIVERABLE,
            "code": "3",
            "description": "Not answered",
            "extra": END,
        },
    ),
    Case(
        "a code that the vendor does not explain",
        call({"ResponseCode": "0"} | END),
        ENDED
        | {
            "state": State.UNDELIVERABLE,
            "code": "0",
            "description": "Ended; nothing says that it was answered",
            "extra": END,
        },
    ),
    Case(
        "an incoming call, as Esendex posts it",
        call(
            {
                "ResponseCode": "1",
                "StartTime": "2020-08-28T00:53:06.608Z",
                "EndTime": "",
                "incoming": "True",
                "callerid": "7575550000",
                "phonenumber": "8005551234",
            }
        ),
        ENDED
        | {
            "recipient": "8005551234",
            "sender": "7575550000",
            "reported_at": datetime(2020, 8, 28, 0, 53, 6, 608000, tzinfo=UTC),
            "extra": {
                "StartTime": "2020-08-28T00:53:06.608Z",
                "EndTime": "",
                "incoming": "True",
                "callerid": "7575550000",
                "phonenumber": "8005551234",
            },
        },
    ),
    Case(
        "a variable of the script's own that is no phone number",
        call({"phonenumber": "home"}),
        {
            "kind": Kind.CALL,
            "message_id": "183729",
            "state": State.ENROUTE,
            "description": "Not answered so far",
            "extra": {"phonenumber": "home"},
        },
    ),
]


NO_CALLS = [
    Nonsense("no identifier", form("ResponseCode=1"), "QueueID", "missing"),
]

UNREAD_CALLS = [
    Unread("no start", call({"StartTime": "soon"}), "StartTime", "soon"),
    Unread("no end", call({"EndTime": "2/30/2010 2:42 AM"}), "EndTime", "2/30/2010 2:42 AM"),
    Unread("a long code", call({"ResponseCode": "9" * 65}), "ResponseCode", "9" * 65),
]


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"ResponseCode": "yes"}, "ENROUTE"),
        ({"ResponseCode": "yes", "Duration": "12.5"}, "UNDELIVERABLE"),
        ({"ResponseCode": "0", "Duration": "0"}, "ENROUTE"),
        ({"ResponseCode": "1", "Duration": "12,5"}, "DELIVERED"),
        ({"ResponseCode": "-1", "EndTime": "5/8/2010 2:42:36 AM"}, "UNDELIVERABLE"),
        ({"ResponseCode": "2", "EndTime": "1/1/0001 12:00:00 AM"}, "ENROUTE"),
        ({"EndTime": "5/8/2010 2:42:36 AM"}, "UNDELIVERABLE"),
    ],
)
def test_the_last_stage_of_a_call_is_final(fields: dict[str, str], state: str) -> None:
    assert read(bound(CdynePhone), call(fields)).state == state


def test_stages_of_one_call_differ_in_what_is_kept() -> None:
    provider = bound(CdynePhone)
    stages = [
        call({"ResponseCode": "1"} | START),
        call({"ResponseCode": "1", "digitsdialed": "1"} | START),
        call({"ResponseCode": "1", "digitsdialed": "12"} | START),
    ]
    kept = [read(provider, stage).extra for stage in stages]
    assert len({str(extra) for extra in kept}) == 3


SENT_AT = "SMSSent=1&MessageID=1&SentTime="
UNREAD = [
    Unread("no day", form(f"{SENT_AT}13/13/2010 2:42:36 AM"), "SentTime", "13/13/2010 2:42:36 AM"),
    Unread("no hour", form(f"{SENT_AT}5/8/2010 13:42:36 PM"), "SentTime", "5/8/2010 13:42:36 PM"),
    Unread("no time", form(f"{SENT_AT}now"), "SentTime", "now"),
    Unread(
        "no time of a reply",
        form("SMSResponse=1&MessageID=1&ResponseReceiveDate=now&Message=STOP"),
        "ResponseReceiveDate",
        "now",
    ),
    Unread(
        "no done date",
        delivery("DeliveryReceiptMessage=done date:9999281334"),
        "DeliveryReceiptMessage.done date",
        "9999281334",
    ),
    Unread(
        "a relative done date without a submit date",
        delivery("DeliveryReceiptMessage=done date:000000000012000R"),
        "DeliveryReceiptMessage.done date",
        "000000000012000R",
    ),
    Unread("a word as recipient", delivery("ToPhoneNumber=Anna"), "ToPhoneNumber", "Anna"),
    Unread("a long code", delivery(f"Code={'9' * 65}"), "Code", "9" * 65),
    Unread(
        "a long identifier of a match",
        form(f"SMSResponse=1&MessageID=1&MatchedMessageID={'a' * 256}"),
        "MatchedMessageID",
        "a" * 256,
    ),
]


@pytest.mark.parametrize(
    ("done", "time"),
    [
        ("240517102031012%2B", datetime(2024, 5, 17, 7, 20, 31, tzinfo=UTC)),
        ("240517102031012+", datetime(2024, 5, 17, 7, 20, 31, tzinfo=UTC)),
        ("2024-05-17 10:20:31", datetime(2024, 5, 17, 10, 20, 31, tzinfo=UTC)),
        ("5/17/2024 2:20:31 PM %2B00:00", datetime(2024, 5, 17, 14, 20, 31, tzinfo=UTC)),
        ("1715941231", datetime(2024, 5, 17, 10, 20, 31, tzinfo=UTC)),
        ("000000000130000R", datetime(2024, 5, 17, 10, 21, 30, tzinfo=UTC)),
        ("0000000000", None),
        ("NULL", None),
    ],
)
def test_a_done_date_in_another_notation_is_read(done: str, time: datetime | None) -> None:
    text = f"submit date:2405171020 done date:{done} stat:DELIVRD err:000"
    receipt = read(bound(Cdyne), delivery(f"DeliveryReceiptMessage={text}"))
    assert (receipt.reported_at, receipt.unread) == (time, ())
    assert receipt.state == "DELIVERED"


@pytest.mark.parametrize(
    ("stat", "code", "state"),
    [
        ("ENROUTE", "000", "ENROUTE"),
        ("UNDELIV", "000", "UNDELIVERABLE"),
        ("ACCEPTD", "001", "ACCEPTED"),
        ("DELIVRD", "001", "DELIVERED"),
        ("DELIVRD", "024", "DELIVERED"),
        ("UNDELIV", "008", "EXPIRED"),
        ("EXPIRED", "024", "EXPIRED"),
        ("ENROUTE", "004", "ACCEPTED"),
        ("ENROUTE", "024", "ENROUTE"),
        ("DELIVERED TO CARRIER", "003", "ENROUTE"),
        ("DELIVERED TO CARRIER", "777", "ENROUTE"),
        ("UNKNOWN", "024", "UNDELIVERABLE"),
        ("FAILED", "051", "UNDELIVERABLE"),
        ("BUFFRED", "", "ENROUTE"),
        ("Buffered", "", "ENROUTE"),
        ("SYSERR", "", "UNDELIVERABLE"),
        ("NOCRED", "", "REJECTED"),
        ("SENT", "", "ENROUTE"),
        ("ERROR", "", "UNDELIVERABLE"),
        ("SCHEDULED", "", "ENROUTE"),
        ("SKIPPED", "", "REJECTED"),
        ("DeliveredToDevice", "", "DELIVERED"),
        ("CarrierErrorUnknown", "999", "UNDELIVERABLE"),
    ],
)
@pytest.mark.parametrize("form_of_text", ["stat:{stat} err:{code}", "{stat}"])
def test_the_word_decides_and_the_code_refines_it(
    stat: str, code: str, state: str, form_of_text: str
) -> None:
    text = form_of_text.format(stat=stat, code=code)
    found = read(bound(Cdyne), delivery(f"DeliveryReceiptMessage={text}&Code={code}"))
    assert found.state == state


@pytest.mark.parametrize("encode", ["hex", "nul"])
def test_a_receipts_text_in_ucs2_is_read(encode: str) -> None:
    text = "id:A1 done date:2405171020 stat:DELIVRD err:000".encode("utf-16-be")
    sent = text.hex().upper() if encode == "hex" else quote(text)
    receipt = read(bound(Cdyne), delivery(f"DeliveryReceiptMessage={sent}"))
    assert (receipt.state, receipt.code) == ("DELIVERED", "000")
    assert receipt.reported_at == datetime(2024, 5, 17, 10, 20, tzinfo=UTC)
