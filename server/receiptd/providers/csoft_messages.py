"""Connection Software's two-way service: messages that phones send, receipts of kind `reply`.

Source: the vendor's page on the two-way service, which has the form's fields, and the beginning of
a post by SOAP; the types of `Recipient` and `Message` are in code that was generated of its WSDL
for sending. No public copy of the receiving WSDL is to be had, so these are inferred:

- that SOAP has the form's `ReplyTo`, `Timestamp1` and `MessageIdentifier` behind `Recipient` and
  `Message`;
- that a time without an offset is UTC;
- that MNC is a number, so that a leading zero is lost;
- that the answer is like a receipt's. Nothing says whether a text in it would go to the phone, so
  a success has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from random import Random
from typing import Any

from receiptd.providers.fields import Invalid
from receiptd.providers.provider import Provider
from receiptd.providers.values import Lenient, digits, identifier, iso_time, phone
from receiptd.receipt import Kind, Receipt, State

TIME = "2009-06-09T10:52:00Z"
"""Of XML Schema's dateTime. One without an offset is UTC unless configured otherwise."""


def message(
    csoft: Provider,
    recipient: Mapping[str, str],
    message: Mapping[str, str],
    others: tuple[str | None, str | None, str | None],
    extra: Mapping[str, object],
    raw: bytes,
) -> Receipt:
    """The message of the texts that a post carries: of no state, so UNKNOWN.

    :param recipient: of `SendTo`, `MCC` and `MNC` those that came. `SendTo` and `TextMessage` are
        taken out of `extra` as well, where they stand beside `Recipient` and `Message`.
    :param message: of `TextMessage` and `FlashMessage` those that came. A flash message is in
        `extra` too, since that shows how the phone has sent it.
    :param others: ReplyTo, Timestamp1, MessageIdentifier.
    :raises Invalid: where it says nothing at all.
    """
    reply_to, timestamp, message_id = others
    left = dict(extra)
    send_to = recipient.get("SendTo", "").strip() or _taken(left, "SendTo")
    text = message.get("TextMessage") or _taken(left, "TextMessage")
    flash = message.get("FlashMessage")
    if flash:
        left["Message.FlashMessage"] = flash
    lenient = Lenient()
    network = _network(recipient, left, lenient)
    known = Receipt(
        endpoint=csoft.endpoint.name,
        provider=csoft.name,
        kind=Kind.REPLY,
        message_id=lenient(identifier, "MessageIdentifier", message_id),
        state=State.UNKNOWN,
        code=None,
        recipient=lenient(phone, "SendTo", send_to),
        reported_at=lenient(iso_time, "Timestamp1", timestamp, csoft.endpoint.timezone, TIME),
        raw=raw,
        sender=reply_to,
        network=network,
        text=text or flash or None,
    )
    if not any((known.message_id, send_to, reply_to, known.text, left, lenient.unread)):
        raise Invalid("Message", "Message is missing, and all else: there is nothing to keep")
    return known._replace(extra=left | lenient.unread, unread=tuple(lenient.unread))


def sample(csoft: Provider, random: Random, at: datetime) -> Receipt:
    """A message such as a phone sends."""
    return Receipt(
        endpoint=csoft.endpoint.name,
        provider=csoft.name,
        kind=Kind.REPLY,
        message_id=f"{random.getrandbits(48):012X}",
        state=State.UNKNOWN,
        code=None,
        recipient="447786201000",
        reported_at=at.replace(microsecond=0),
        raw=b"",
        sender=f"447700{random.randrange(900000, 901000)}",
        text=random.choice(("Yes please", "STOP", "See you at 5 & bring Zoë")),
    )


def _taken(extra: dict[str, Any], name: str) -> str | None:
    """The text `name` out of `extra`, where it has one."""
    return str(extra.pop(name)) or None if isinstance(extra.get(name), str) else None


def _network(
    recipient: Mapping[str, str], left: dict[str, object], lenient: Lenient
) -> str | None:
    """MCC and MNC as one number; of one alone, nothing: that goes to `left`."""
    found = {
        name: lenient(digits, f"Recipient.{name}", recipient.get(name, "").strip() or None)
        for name in ("MCC", "MNC")
    }
    if found["MCC"] and found["MNC"]:
        return found["MCC"] + found["MNC"].zfill(2)
    left |= {f"Recipient.{name}": value for name, value in found.items() if value}
    return None
