"""Connection Software's posts, and what is in the answers to them."""

from __future__ import annotations

from itertools import count
from typing import Any

from lxml import etree

from kit.server import Server
from kit.wire import Answer

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
V5 = "http://www.csoft.co.uk/dtd/sendsms5.xsd"
ENVELOPE = f'<e:Envelope xmlns:e="{SOAP}"><e:Body>%s</e:Body></e:Envelope>'

_numbers = count(0x10000000)


def new_id() -> str:
    """A message identifier that no other test uses."""
    return f"{next(_numbers):08X}"


def operation(
    message_id: str,
    *,
    namespace: str = V5,
    username: str | None = "ANOther.61234",
    pin: str | None = "BLUE.music",
    **fields: str | None,
) -> str:
    """The operation's element, its children unqualified; a field given as None is left out."""
    values: dict[str, str | None] = {
        "Username": username,
        "PIN": pin,
        "Timestamp1": "2009-06-09T10:52:00Z",
        "SentTo": "447700912345",
        "MessageIdentifier": message_id,
        "Report": "0",
    } | fields
    children = "".join(f"<{k}>{v}</{k}>" for k, v in values.items() if v is not None)
    return f'<n:SubmitDeliveryReceipt xmlns:n="{namespace}">{children}</n:SubmitDeliveryReceipt>'


def envelope(message_id: str, **options: Any) -> bytes:
    """A whole request as UTF-8."""
    return (ENVELOPE % operation(message_id, **options)).encode()


def response_of(
    answer: Answer, operation: str = "SubmitDeliveryReceipt"
) -> tuple[str, dict[str, str]]:
    """Namespace and children of the response element; checks the envelope around it."""
    root = etree.fromstring(answer.body)
    assert root.tag == f"{{{SOAP}}}Envelope"
    (body,) = root
    assert body.tag == f"{{{SOAP}}}Body"
    (response,) = body
    name = etree.QName(response)
    assert name.localname == f"{operation}Response"
    assert all(child.tag[0] != "{" for child in response), "children are unqualified"
    return name.namespace or "", {child.tag: child.text or "" for child in response}


def fault_of(answer: Answer) -> tuple[str, str]:
    """Code (without its prefix) and string of the fault; checks that it comes as SOAP wants."""
    assert answer.status == 500
    root = etree.fromstring(answer.body)
    fault = root.find(f"{{{SOAP}}}Body/{{{SOAP}}}Fault")
    assert fault is not None, answer.text
    prefix, _, code = fault.findtext("faultcode").partition(":")
    assert fault.nsmap[prefix] == SOAP
    return code, fault.findtext("faultstring")


def stored(server: Server, message_id: str) -> dict[str, Any]:
    """The one receipt of that identifier."""
    (receipt,) = [each for each in server.receipts() if each["message_id"] == message_id]
    return receipt


MINIMAL = (
    b'<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>'
    b"<SubmitDeliveryReceipt><MessageIdentifier>%s</MessageIdentifier><Report>0</Report>"
    b"</SubmitDeliveryReceipt></e:Body></e:Envelope>"
)
"""The smallest post that is a receipt: its `%` takes the identifier."""
