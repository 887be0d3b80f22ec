"""Connection Software's form posts, a row each: the request, the reply line, the receipt."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kit.exchange import (
    FORM,
    Case,
    Nonsense,
    Unread,
    bound,
    form,
    label,
    multipart,
    post,
    read,
    refused,
    sample,
)
from receiptd.providers import Reply
from receiptd.providers.csoft import Csoft
from receiptd.receipt import Kind, Outcome, State, Verdict

LINE = f"{FORM}; charset=utf-8"
RECEIVED = Reply(200, b"MessageIdentifier=4A2E3C12&Report=0&Text=", LINE)

DELIVERED: dict[str, Any] = {
    "kind": Kind.DELIVERY,
    "message_id": "4A2E3C12",
    "state": State.DELIVERED,
    "code": "0",
    "description": "Accepted by phone",
}

CASES = [
    Case(
        "the sample",
        sample("csoft-form.http"),
        DELIVERED
        | {
            "recipient": "447700912345",
            "reported_at": datetime(2009, 6, 9, 10, 52, tzinfo=UTC),
        },
        RECEIVED,
    ),
    Case(
        "the recipient by the name that SOAP has for it",
        form("MessageIdentifier=4A2E3C12&Report=0&SentTo=447700912345"),
        DELIVERED | {"recipient": "447700912345"},
        RECEIVED,
    ),
    Case(
        "a message and a report, nothing else",
        form("MessageIdentifier=4A2E3C12&Report=0"),
        DELIVERED,
        RECEIVED,
    ),
    Case(
        "everything else empty",
        form("MessageIdentifier=4A2E3C12&Report=0&Username=&PIN=&SendTo=&Timestamp1="),
        DELIVERED,
        RECEIVED,
    ),
    Case(
        "a negative report",
        form("MessageIdentifier=4A2E3C12&Report=-4"),
        DELIVERED | {"code": "-4", "state": State.ENROUTE, "description": "Accepted by SMSC"},
        RECEIVED,
    ),
    Case(
        "a report of no table",
        form("MessageIdentifier=4A2E3C12&Report=99"),
        {
            "kind": Kind.DELIVERY,
            "message_id": "4A2E3C12",
            "state": State.UNKNOWN,
            "code": "99",
        },
        RECEIVED,
    ),
    Case(
        "a time with an offset",
        form("MessageIdentifier=4A2E3C12&Report=0&Timestamp1=2009-06-09T10:52:00%2B01:00"),
        DELIVERED | {"reported_at": datetime(2009, 6, 9, 9, 52, tzinfo=UTC)},
        RECEIVED,
    ),
    Case(
        "names in another case",
        form("messageidentifier=4A2E3C12&REPORT=0"),
        DELIVERED,
        RECEIVED,
    ),
    Case(
        "a multipart form",
        multipart(MessageIdentifier="4A2E3C12", Report="0"),
        DELIVERED,
        RECEIVED,
    ),
    Case(
        "a field that the vendor does not document",
        form("MessageIdentifier=4A2E3C12&Report=0&Campaign=spring"),
        DELIVERED | {"extra": {"Campaign": "spring"}},
        RECEIVED,
    ),
]


NONSENSE = [
    Nonsense("no identifier", form("Report=0"), "MessageIdentifier", "missing"),
    Nonsense("no report", form("MessageIdentifier=4A2E3C12"), "Report", "missing"),
]


@pytest.mark.parametrize("row", NONSENSE, ids=label)
def test_nonsense_is_answered_with_the_catch_all_and_the_field(row: Nonsense) -> None:
    field, text, reply = refused(bound(Csoft), row.request)
    assert field == row.field
    assert row.says in text
    assert (reply.status, reply.content_type) == (200, LINE)
    assert b"&Report=-1&Text=" in reply.body
    assert field.encode() in reply.body


REPLIES = [
    (Verdict(Outcome.ACCEPTED), b"Report=0&Text="),
    (Verdict(Outcome.DUPLICATE), b"Report=0&Text="),
    (
        Verdict(Outcome.DUPLICATE, "No such message", Outcome.UNKNOWN_MESSAGE),
        b"Report=-1&Text=No+such+message",
    ),
    (
        Verdict(Outcome.UNKNOWN_MESSAGE, "No such message", Outcome.UNKNOWN_MESSAGE),
        b"Report=-1&Text=No+such+message",
    ),
    (
        Verdict(Outcome.WRONG_RECIPIENT, "x" * 300, Outcome.WRONG_RECIPIENT),
        b"Report=-1&Text=" + b"x" * 255,
    ),
]


@pytest.mark.parametrize(("verdict", "line"), REPLIES)
def test_the_reply_line_tells_the_verdict(verdict: Verdict, line: bytes) -> None:
    provider = bound(Csoft)
    receipts = provider.read(post(provider, sample("csoft-form.http")))
    reply = provider.answer(receipts, [verdict])
    assert reply == Reply(200, b"MessageIdentifier=4A2E3C12&" + line, LINE)


@pytest.mark.parametrize(
    ("outcome", "status", "report"),
    [(Outcome.UNAUTHORIZED, 200, b"&Report=2&"), (Outcome.BUSY, 503, b"&Report=-1&")],
)
def test_a_refusal_is_a_report_too(outcome: Outcome, status: int, report: bytes) -> None:
    provider = bound(Csoft)
    reply = provider.refuse(post(provider, sample("csoft-form.http")), Verdict(outcome, "Why"))
    assert reply.status == status
    assert reply.body.startswith(b"MessageIdentifier=4A2E3C12" + report)


@pytest.mark.parametrize(
    ("body", "credentials"),
    [
        ("Username=NULL&PIN=NULL", (None, None)),
        ("Username=&PIN=", (None, None)),
        ("", (None, None)),
        ("Username=ANOther.61234&PIN=BLUE.music", ("ANOther.61234", "BLUE.music")),
        ("username=a&pin=+b+", ("a", " b ")),
    ],
)
def test_credentials_of_a_form(body: str, credentials: tuple[str | None, str | None]) -> None:
    provider = bound(Csoft)
    assert provider.credentials(post(provider, form(body))) == credentials


STATES = {
    "0": "DELIVERED",
    "-1": "UNKNOWN",
    "-3": "ENROUTE",
    "-4": "ENROUTE",
    "2": "REJECTED",
    "3": "REJECTED",
    "4": "REJECTED",
    "5": "REJECTED",
    "7": "REJECTED",
    "8": "REJECTED",
    "11": "ENROUTE",
    "19": "ENROUTE",
    "25": "DELETED",
    "27": "EXPIRED",
    "28": "UNDELIVERABLE",
}


UNREAD = [
    Unread(
        "a word as recipient", form("MessageIdentifier=4A&Report=0&SendTo=Anna"), "SentTo", "Anna"
    ),
    Unread("no time", form("MessageIdentifier=4A&Report=0&Timestamp1=now"), "Timestamp1", "now"),
    Unread("a long code", form(f"MessageIdentifier=4A&Report={'9' * 65}"), "Report", "9" * 65),
]


def test_a_word_as_report_is_the_code() -> None:
    receipt = read(bound(Csoft), form("MessageIdentifier=4A&Report=OK"))
    assert (receipt.code, receipt.state) == ("OK", State.UNKNOWN)
