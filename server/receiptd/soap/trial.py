"""What a SOAP body would become: it goes through the Application, and nothing is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from receiptd.receipt import Receipt
from receiptd.soap.endpoint import is_soap, submitted, transport
from receiptd.soap.service import SoapPost
from receiptd.soap.transport import Response
from receiptd.web.receiving.intake import Intake, Origin


class Trial(NamedTuple):
    """What became of a body."""

    receipts: Sequence[Receipt]
    refusal: str
    """Why there are none; empty where there is one."""
    username: str | None
    pin: str | None
    status: int
    answer: bytes


def tried(intake: Intake, body: bytes, content_type: str) -> Trial | None:
    """Take `body` through the Application; None for a form, which has no business there.

    :param intake: with a pipeline that answers at once; it should ask for no credentials.
    """
    if not is_soap(content_type, body):
        return None
    post = SoapPost(intake, Origin(None, content_type), None, 0.0)
    responses: list[Response] = []
    submitted(transport(), body, post).addCallback(responses.append)
    ((envelope, fault),) = responses
    values = dict(zip(post.call.operation.fields, post.call.values, strict=False))
    username, pin = (
        str(values[name]) if values.get(name) else None for name in ("Username", "PIN")
    )
    if fault is not None:
        text = f"a fault, {fault.faultcode}: {fault.faultstring}"
        return Trial((), text, username, pin, 500, envelope)
    receipts = post.taken.receipts if post.taken else ()
    refusal = "" if receipts or not post.taken else post.taken.verdicts[0].text
    return Trial(receipts, refusal, username, pin, 200, envelope)
