"""zeep (PyPI) works with what `?wsdl` and `?singleWsdl` say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
import zeep
from lxml import etree

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


def service(server):
    return zeep.Client(f"{server.url}/soap?wsdl").service


def test_a_receipt_is_received_also_by_the_single_wsdl(pooled):
    server = pooled(ENDPOINT)
    answer = zeep.Client(f"{server.url}/soap?singleWsdl").service.SubmitDeliveryReceipt(
        Username="ANOther.61234", PIN="BLUE.music", **RECEIPT
    )
    assert (answer.MessageIdentifier, answer.Report) == ("4A2E3C10", 0)
    assert [stored["message_id"] for stored in server.receipts()] == ["4A2E3C10"]


def test_a_receipt_with_credentials_is_received(pooled):
    server = pooled(ENDPOINT)
    answer = service(server).SubmitDeliveryReceipt(
        Username="ANOther.61234", PIN="BLUE.music", **RECEIPT
    )
    assert (answer.MessageIdentifier, answer.Report, answer.Text) == ("4A2E3C10", 0, None)
    (stored,) = server.receipts()
    assert stored["message_id"] == "4A2E3C10"
    assert stored["recipient"] == "447700912345"
    assert stored["code"] == "-4"
    assert stored["state"] == "ENROUTE"
    assert datetime.fromisoformat(stored["reported_at"]) == RECEIPT["Timestamp1"]


def test_a_receipt_without_credentials_is_received_where_none_are_configured(pooled):
    server = pooled()
    answer = service(server).SubmitDeliveryReceipt(**RECEIPT)
    assert (answer.MessageIdentifier, answer.Report, answer.Text) == ("4A2E3C10", 0, None)
    assert [stored["message_id"] for stored in server.receipts()] == ["4A2E3C10"]


def test_nil_credentials_are_none(pooled):
    server = pooled()
    answer = service(server).SubmitDeliveryReceipt(
        Username=zeep.xsd.Nil, PIN=zeep.xsd.Nil, **RECEIPT
    )
    assert answer.Report == 0
    assert len(server.receipts()) == 1


@pytest.mark.parametrize(
    "credentials",
    [
        pytest.param({"Username": "ANOther.61234", "PIN": "BLUE.noise"}, id="wrong PIN"),
        pytest.param({"Username": zeep.xsd.Nil, "PIN": zeep.xsd.Nil}, id="nil"),
        pytest.param({}, id="none"),
    ],
)
def test_without_the_right_credentials_the_answer_is_invalid_login(pooled, credentials):
    server = pooled(ENDPOINT)
    answer = service(server).SubmitDeliveryReceipt(**credentials, **RECEIPT)
    assert (answer.MessageIdentifier, answer.Report, answer.Text) == (
        "4A2E3C10",
        2,
        "Invalid login",
    )
    assert server.receipts() == []


@pytest.mark.parametrize(
    ("timestamp", "meant"),
    [
        pytest.param(
            datetime(2009, 6, 9, 16, 22, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            datetime(2009, 6, 9, 10, 52, 1, tzinfo=UTC),
            id="with an offset",
        ),
        pytest.param(
            datetime(2009, 6, 9, 10, 52, 1),
            datetime(2009, 6, 9, 10, 52, 1, tzinfo=UTC),
            id="without an offset",
        ),
        pytest.param(
            datetime(2009, 6, 9, 10, 52, 1, 234567, tzinfo=UTC),
            datetime(2009, 6, 9, 10, 52, 1, 234567, tzinfo=UTC),
            id="with a fraction of a second",
        ),
    ],
)
def test_an_unusual_timestamp_is_the_time_it_means(pooled, timestamp, meant):
    server = pooled()
    receipt = RECEIPT | {"Timestamp1": timestamp}
    assert service(server).SubmitDeliveryReceipt(**receipt).Report == 0
    (stored,) = server.receipts()
    assert datetime.fromisoformat(stored["reported_at"]) == meant


def test_the_client_reads_a_fault(pooled):
    server = pooled()
    header = etree.fromstring(
        '<t:Transaction xmlns:t="urn:x" xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"'
        ' s:mustUnderstand="1"/>'
    )
    with pytest.raises(zeep.exceptions.Fault) as caught:
        service(server).SubmitDeliveryReceipt(**RECEIPT, _soapheaders=[header])
    assert caught.value.code.endswith(":MustUnderstand")
    assert caught.value.message
    assert server.receipts() == []


@pytest.mark.parametrize("asked", ["wsdl", "singleWsdl"])
def test_a_message_that_a_phone_sent_is_received(pooled, asked):
    server = pooled(ENDPOINT)
    answer = zeep.Client(f"{server.url}/soap?{asked}").service.DeliverMessage(
        Username="ANOther.61234",
        PIN="BLUE.music",
        Recipient={"SendTo": "447786201000", "MCC": 234, "MNC": 10},
        Message={"TextMessage": "See you at 5 & bring Zoë"},
        ReplyTo="447700912345",
        Timestamp1=datetime(2009, 6, 9, 10, 52, tzinfo=UTC),
        MessageIdentifier="4A2E3C11",
    )
    assert (answer.MessageIdentifier, answer.Report, answer.Text) == ("4A2E3C11", 0, None)
    (stored,) = server.receipts()
    assert (stored["kind"], stored["text"]) == ("reply", "See you at 5 & bring Zoë")
    assert (stored["sender"], stored["recipient"]) == ("447700912345", "447786201000")
    assert (stored["network"], stored["reported_at"]) == ("23410", "2009-06-09T10:52:00Z")


def test_a_message_with_the_wrong_pin_is_an_invalid_login(pooled):
    server = pooled(ENDPOINT)
    answer = service(server).DeliverMessage(
        Username="ANOther.61234", PIN="BLUE.noise", Message={"TextMessage": "Yes"}
    )
    assert (answer.Report, answer.Text) == (2, "Invalid login")
    assert server.receipts() == []
