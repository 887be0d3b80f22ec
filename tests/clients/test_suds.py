"""suds (PyPI) works with what `?wsdl` and `?singleWsdl` say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from suds import WebFault
from suds.client import Client
from suds.sax.element import Element

ENDPOINT = """
[[endpoint]]
provider = "csoft"
path = "/soap"
username = "ANOther.61234"
pin = "BLUE.music"
"""
RECEIPT = {
    "Timestamp1": datetime(2009, 6, 9, 10, 52, tzinfo=UTC),
    "SentTo": "447700912345",
    "MessageIdentifier": "4A2E3C10",
    "Report": -4,
}


def client(server, asked="wsdl"):
    # Its cache would keep the WSDL of another test's server, and objects in /tmp.
    return Client(f"{server.url}/soap?{asked}", cache=None)


def test_a_receipt_is_received_also_by_the_single_wsdl(serve):
    server = serve(ENDPOINT)
    answer = client(server, "singleWsdl").service.SubmitDeliveryReceipt(
        Username="ANOther.61234", PIN="BLUE.music", **RECEIPT
    )
    assert fields(answer) == ("4A2E3C10", 0, None)
    assert [stored["message_id"] for stored in server.receipts()] == ["4A2E3C10"]


def fields(answer):
    """Of a suds object, whose absent elements are absent attributes."""
    return answer.MessageIdentifier, answer.Report, getattr(answer, "Text", None)


def test_a_receipt_with_credentials_is_received(pooled):
    server = pooled(ENDPOINT)
    answer = client(server).service.SubmitDeliveryReceipt(
        Username="ANOther.61234", PIN="BLUE.music", **RECEIPT
    )
    assert fields(answer) == ("4A2E3C10", 0, None)
    (stored,) = server.receipts()
    assert stored["message_id"] == "4A2E3C10"
    assert stored["recipient"] == "447700912345"
    assert stored["code"] == "-4"
    assert stored["state"] == "ENROUTE"
    assert datetime.fromisoformat(stored["reported_at"]) == RECEIPT["Timestamp1"]


def test_a_receipt_without_credentials_is_received_where_none_are_configured(pooled):
    server = pooled()
    answer = client(server).service.SubmitDeliveryReceipt(**RECEIPT)
    assert fields(answer) == ("4A2E3C10", 0, None)
    assert [stored["message_id"] for stored in server.receipts()] == ["4A2E3C10"]


@pytest.mark.parametrize(
    "credentials",
    [
        pytest.param({"Username": "ANOther.61234", "PIN": "BLUE.noise"}, id="wrong PIN"),
        pytest.param({}, id="none"),
    ],
)
def test_without_the_right_credentials_the_answer_is_invalid_login(pooled, credentials):
    server = pooled(ENDPOINT)
    answer = client(server).service.SubmitDeliveryReceipt(**credentials, **RECEIPT)
    assert fields(answer) == ("4A2E3C10", 2, "Invalid login")
    assert server.receipts() == []


def test_an_unusual_timestamp_is_the_time_it_means(pooled):
    server = pooled()
    half_past = timezone(timedelta(hours=5, minutes=30))
    receipt = RECEIPT | {"Timestamp1": datetime(2009, 6, 9, 16, 22, 1, 234567, half_past)}
    assert client(server).service.SubmitDeliveryReceipt(**receipt).Report == 0
    (stored,) = server.receipts()
    assert datetime.fromisoformat(stored["reported_at"]) == datetime(
        2009, 6, 9, 10, 52, 1, 234567, UTC
    )


def test_the_client_reads_a_fault(pooled):
    server = pooled()
    header = Element("Transaction", ns=("t", "urn:x"))
    header.set("SOAP-ENV:mustUnderstand", "1")
    caller = client(server)
    caller.set_options(soapheaders=header)
    with pytest.raises(WebFault) as caught:
        caller.service.SubmitDeliveryReceipt(**RECEIPT)
    assert caught.value.fault.faultcode.endswith(":MustUnderstand")
    assert caught.value.fault.faultstring
    assert server.receipts() == []


@pytest.mark.parametrize("asked", ["wsdl", "singleWsdl"])
def test_a_message_that_a_phone_sent_is_received(pooled, asked):
    server = pooled(ENDPOINT)
    caller = client(server, asked)
    recipient = caller.factory.create("ns0:Recipient")
    recipient.SendTo = "447786201000"
    message = caller.factory.create("ns0:Message")
    message.TextMessage = "See you at 5 & bring Zoë"
    answer = caller.service.DeliverMessage(
        Username="ANOther.61234",
        PIN="BLUE.music",
        Recipient=recipient,
        Message=message,
        ReplyTo="447700912345",
        Timestamp1=datetime(2009, 6, 9, 10, 52, tzinfo=UTC),
        MessageIdentifier="4A2E3C11",
    )
    assert fields(answer) == ("4A2E3C11", 0, None)
    (stored,) = server.receipts()
    assert (stored["kind"], stored["text"]) == ("reply", "See you at 5 & bring Zoë")
    assert (stored["sender"], stored["recipient"]) == ("447700912345", "447786201000")
    assert stored["reported_at"] == "2009-06-09T10:52:00Z"
