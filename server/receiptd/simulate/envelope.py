"""The envelopes that Connection Software posts: SOAP 1.1, version 5, children unqualified."""

from __future__ import annotations

from xml.sax.saxutils import escape

from receiptd.providers.csoft import timestamp
from receiptd.receipt import Kind, Receipt

SOAP_ENV = "http://schemas.xmlsoap.org/soap/envelope/"
_SENDSMS5 = "http://www.csoft.co.uk/dtd/sendsms5.xsd"


def envelope(receipt: Receipt, username: str | None = None, pin: str | None = None) -> bytes:
    """`receipt` as it is posted; a message from a phone as `DeliverMessage`."""
    credentials = (("Username", username), ("PIN", pin))
    children = "".join(_element(name, each) for name, each in credentials if each is not None)
    if receipt.kind is Kind.REPLY:
        name = "DeliverMessage"
        children += (
            f"<Recipient>{_element('SendTo', receipt.recipient)}</Recipient>"
            f"<Message>{_element('TextMessage', receipt.text)}</Message>"
            + _element("ReplyTo", receipt.sender)
            + _element("Timestamp1", timestamp(receipt.reported_at))
            + _element("MessageIdentifier", receipt.message_id)
        )
    else:
        name = "SubmitDeliveryReceipt"
        children += (
            _element("Timestamp1", timestamp(receipt.reported_at))
            + _element("SentTo", receipt.recipient)
            + _element("MessageIdentifier", receipt.message_id)
            + _element("Report", receipt.code)
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<SOAP-ENV:Envelope xmlns:SOAP-ENV="{SOAP_ENV}" xmlns:ns2="{_SENDSMS5}"><SOAP-ENV:Body>'
        f"<ns2:{name}>{children}</ns2:{name}></SOAP-ENV:Body></SOAP-ENV:Envelope>\n"
    ).encode()


def _element(name: str, text: str | None) -> str:
    return f"<{name}>{escape(text or '')}</{name}>"
