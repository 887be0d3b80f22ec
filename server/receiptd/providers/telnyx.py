"""Telnyx: webhooks of messages, sent and received.

Source: Telnyx's pages "Receiving webhooks" and its Python library. A message to several
recipients becomes a receipt for each. `message.finalized` may come before `message.sent`.
Telnyx wants an answer within 2 seconds, and tries three times within seconds only. The text of
the message and what differs by attempt (`meta`) are not kept in `extra`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from random import Random
from typing import Annotated, Any
from uuid import UUID

from pydantic import BeforeValidator, Field, field_validator

from receiptd.duration import duration
from receiptd.providers import Code, Ignored, Invalid, Item, Post, Provider, ProviderOptions
from receiptd.providers.json_body import flattened
from receiptd.providers.signatures import check_ed25519, check_time, ed25519_key, require
from receiptd.providers.sources import at as found_at
from receiptd.providers.sources import in_json
from receiptd.providers.values import Lenient, decimal, identifier, iso_time, part, phone, word
from receiptd.receipt import Kind, Receipt, State

CODES = {
    "scheduled": Code(State.ENROUTE, "Scheduled"),
    "queued": Code(State.ENROUTE, "Queued"),
    "sending": Code(State.ENROUTE, "Sending"),
    "sent": Code(State.ACCEPTED, "Taken by the carrier"),
    "delivered": Code(State.DELIVERED, "Delivered"),
    "sending_failed": Code(State.REJECTED, "Not taken by the carrier"),
    "delivery_failed": Code(State.UNDELIVERABLE, "Delivery failed"),
    "expired": Code(State.EXPIRED, "Expired"),
    "cancelled": Code(State.DELETED, "Cancelled"),
    "delivery_unconfirmed": Code(State.UNKNOWN, "Delivery not confirmed"),
}
EVENTS = ("message.sent", "message.finalized")
RECEIVED = "message.received"
HEADER, STAMP = "telnyx-signature-ed25519", "telnyx-timestamp"
_LEFT_OUT = ("to", "cc", "text", "id", "parts", "webhook_url", "webhook_failover_url")
_KNOWN = frozenset({"from.phone_number", "cost.amount"})


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError(f'expected a duration in quotes, such as "5m", not {value!r}')
    return duration(value).total_seconds()


class TelnyxOptions(ProviderOptions):
    """The configuration keys of a Telnyx endpoint."""

    public_key: Annotated[
        list[str], BeforeValidator(lambda it: it if isinstance(it, list) else [it])
    ] = Field(
        default=[],
        description="The account's public key, as Telnyx's portal shows it: posts are then "
        "checked by their telnyx-signature-ed25519. Also a list.",
        examples=["446QWV3W8ke1uBZz4kEXdIWV+u998pqgRC9NqILvnA0="],
    )
    tolerance: Annotated[float, BeforeValidator(_seconds)] = Field(
        default=300.0,
        description="How old a signature may be, or how far in the future, such as 5m.",
        examples=["5m"],
    )

    @field_validator("public_key")
    @classmethod
    def _keys(cls, value: list[str]) -> list[str]:
        for key in value:
            ed25519_key(key)
        return value


class Telnyx(Provider):
    """The webhooks of Telnyx."""

    name = "telnyx"
    title = "Telnyx"
    path = "/telnyx"
    Options = TelnyxOptions
    codes = CODES

    @property
    def _options(self) -> TelnyxOptions:
        options = self.endpoint.options
        return options if isinstance(options, TelnyxOptions) else TelnyxOptions()

    @property
    def signed(self) -> bool:
        """Whether a public key is configured."""
        return bool(self._options.public_key)

    def verify(self, post: Post) -> None:
        """Check `telnyx-signature-ed25519`, where the public key is configured."""
        options = self._options
        if not options.public_key:
            return
        given = require(post.headers.get(HEADER, ""), HEADER)
        stamp = post.headers.get(STAMP, "")
        signed = stamp.encode("latin-1") + b"|" + post.body
        check_ed25519([ed25519_key(key) for key in options.public_key], given, signed)
        check_time(stamp, post.received_at, options.tolerance)

    def read(self, post: Post) -> Sequence[Item]:
        """A receipt for each recipient of a message, or the message that was received."""
        root = post.json()
        payload = found_at(root, "data.payload")
        event = in_json(root)("data.event_type") or ""
        if event not in (*EVENTS, RECEIVED):
            return [Ignored(f"an event of the type {event[:60]!r}")]
        if not isinstance(payload, dict):
            raise Invalid("data.payload", "data.payload is missing: it must be the message")
        to = payload.get("to")
        recipients = to if isinstance(to, list) else [to]
        cc = payload.get("cc")
        if event != RECEIVED and isinstance(cc, list):
            recipients = recipients + cc
        if not recipients:
            raise Invalid("data.payload.to", "data.payload.to is empty: it must name the phone")
        if event == RECEIVED:
            recipients = recipients[:1]
        others = {name: each for name, each in payload.items() if name != "cc"}
        return self.each(
            recipients,
            lambda each: self._read(post, root, payload, each, event),
            lambda each: {**root, "data": {**root["data"], "payload": {**others, "to": [each]}}},
        )

    def _read(
        self, post: Post, root: Any, payload: dict[str, Any], to: Any, event: str
    ) -> Receipt:
        get, of, lenient = in_json(payload), in_json(to), Lenient()
        received = event == RECEIVED
        code = None if received else word("status", of("status"))
        if code is None and not received:
            raise Invalid("status", "status is missing: it must be the message's state")
        errors = payload.get("errors")
        first = in_json(errors[0]) if isinstance(errors, list) and errors else in_json({})
        kept = {name: each for name, each in payload.items() if name not in _LEFT_OUT}
        extra = {name: value for name, value in flattened(kept).items() if name not in _KNOWN} | {
            f"to.{name}": of(name) for name in ("carrier", "line_type") if of(name)
        }
        when = in_json(root)("data.occurred_at")
        return self.receipt(
            post,
            kind=Kind.REPLY if received else Kind.DELIVERY,
            code=code,
            error=first("code"),
            lenient=lenient,
            message_id=identifier("data.payload.id", get("id")),
            description=first("title"),
            recipient=lenient(phone, "phone_number", of("phone_number")),
            sender=get("from.phone_number"),
            reported_at=lenient(iso_time, "data.occurred_at", when, self.endpoint.timezone),
            parts=lenient(part, "parts", get("parts")),
            price=lenient(decimal, "cost.amount", get("cost.amount")),
            text=get("text") if received else None,
            extra=extra,
        )

    def sample(self, random: Random, at: datetime) -> Receipt:
        """A webhook such as Telnyx sends, most of them of a delivered message."""
        code = random.choice(("delivered",) * 6 + ("sent", "delivery_failed", "sending_failed"))
        receipt = self.receipt(
            Post("POST"),
            code=code,
            message_id=str(UUID(int=random.getrandbits(128))),
            recipient=f"+4477009{random.randrange(100_000):05}",
            sender="+12025550143",
            reported_at=at,
            parts=random.randrange(1, 4),
            extra={"direction": "outbound", "type": "SMS"},
        )
        return receipt._replace(raw=b"")

    def write(self, receipt: Receipt) -> Post:
        """The webhook of `receipt`."""
        payload: dict[str, Any] = {
            "id": receipt.message_id,
            "to": [{"phone_number": receipt.recipient, "status": receipt.code}],
            "from": {"phone_number": receipt.sender},
            "parts": receipt.parts,
            **receipt.extra,
        }
        if receipt.price is not None:
            payload["cost"] = {"amount": f"{receipt.price:f}", "currency": "USD"}
        event = "message.sent" if receipt.code == "sent" else "message.finalized"
        at = receipt.reported_at
        data = {
            "event_type": event,
            "occurred_at": at.isoformat() if at else None,
            "payload": payload,
        }
        return Post("POST", b"", json.dumps({"data": data}).encode(), "application/json")
