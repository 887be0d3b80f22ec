"""Vonage's Messages API: status webhooks, version 1, and the older version 0.

Source: Vonage's pages "Messages status callbacks" and "Signed webhooks", its Python library and
the specification of version 0. From memory, and read liberally: `error.title` and `destination`
and `sms` of version 1. Inferred: what the errors of a `rejected` mean for the state.

Each post bears a JSON Web Token; Vonage says that now and then one comes without through a
fault of its own, and comes again signed where it is answered 5xx: so that is what is answered.
How old a token may be nobody says, and a retry may be a day old: its age is not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from random import Random
from typing import Any
from uuid import UUID

from receiptd.providers import (
    Code,
    Ignored,
    Invalid,
    Item,
    Post,
    ProviderOptions,
    Secrets,
    SignedProvider,
    Unverified,
)
from receiptd.providers.json_body import flattened
from receiptd.providers.signed import signing_option
from receiptd.providers.sources import in_json
from receiptd.providers.values import (
    Lenient,
    decimal,
    digits,
    identifier,
    iso_time,
    part,
    phone,
    word,
)
from receiptd.providers.web_tokens import check_hash, claims, made
from receiptd.receipt import Kind, Receipt, State

CODES = {
    "submitted": Code(State.ENROUTE, "Handed to the carrier"),
    "delivered": Code(State.DELIVERED, "Delivered"),
    "read": Code(State.DELIVERED, "Read"),
    "rejected": Code(State.REJECTED, "Rejected"),
    "undeliverable": Code(State.UNDELIVERABLE, "Undeliverable"),
    **{
        f"rejected/{error}": Code(State.UNDELIVERABLE, text)
        for error, text in (
            ("1180", "Absent subscriber, temporarily"),
            ("1190", "Absent subscriber, permanently"),
            ("1220", "Illegal number or handset"),
            ("1230", "Destination unreachable"),
        )
    },
}
_KNOWN = frozenset(
    {
        *("message_uuid", "to", "to.number", "from", "from.number", "status", "timestamp"),
        *("client_ref", "usage.price", "destination.network_code", "sms.count_total", "text"),
    }
)


class VonageMessagesOptions(ProviderOptions):
    """The configuration keys of an endpoint of Vonage's Messages API."""

    signature_secret: Secrets = signing_option(
        "The account's signature secret",
        "the JSON Web Token in their Authorization",
        "a-long-signature-secret",
    )


class VonageMessages(SignedProvider):
    """The status webhooks of Vonage's Messages API."""

    name = "vonage-messages"
    title = "Vonage Messages API"
    path = "/vonage-messages"
    signed_by = "signature_secret"
    Options = VonageMessagesOptions
    codes = CODES

    def check_signature(self, post: Post, secrets: Sequence[bytes]) -> None:
        """Check the JSON Web Token."""
        scheme, _, token = post.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unverified(
                "the signature is missing: Authorization must carry it, as Bearer", status=503
            )
        claimed = claims(token.strip(), secrets, required=("iat", "payload_hash"))
        check_hash(claimed["payload_hash"], [post.body], "body")

    def with_signature(self, post: Post, secret: bytes) -> Post:
        """With a JSON Web Token."""
        claimed = {
            "iss": "Vonage",
            "iat": int(post.received_at),
            "payload_hash": sha256(post.body).hexdigest(),
        }
        return post.changed(headers={"Authorization": f"Bearer {made(claimed, secret)}"})

    def read(self, post: Post) -> Sequence[Item]:
        """The one receipt, or inbound message, of a webhook."""
        root = post.json()
        if not isinstance(root, dict):
            raise Invalid("body", "the body is no object: it must be a status")
        get = in_json(root)
        if get("message_uuid") is None:
            return [Ignored("a post without message_uuid")]
        code = word("status", get("status"))
        inbound = code is None
        lenient = Lenient()
        error = get("error.title") or get("error.code")
        extra = {name: value for name, value in flattened(root).items() if name not in _KNOWN}
        return [
            self.receipt(
                post,
                kind=Kind.REPLY if inbound else Kind.DELIVERY,
                code=code.lower() if code else None,
                error=error,
                lenient=lenient,
                message_id=identifier("message_uuid", get("message_uuid")),
                description=get("error.detail") or get("error.reason"),
                recipient=lenient(phone, "to", get("to.number") or get("to")),
                sender=get("from.number") or get("from"),
                reference=get("client_ref"),
                reported_at=lenient(
                    iso_time, "timestamp", get("timestamp"), self.endpoint.timezone
                ),
                parts=lenient(part, "sms.count_total", get("sms.count_total")),
                price=lenient(decimal, "usage.price", get("usage.price")),
                network=lenient(digits, "network_code", get("destination.network_code")),
                text=get("text") if inbound else None,
                extra=extra,
            )
        ]

    def sample(self, random: Random, at: datetime) -> Receipt:
        """A webhook such as Vonage sends, most of them of a delivered message."""
        code = random.choice(("delivered",) * 6 + ("submitted", "rejected", "undeliverable"))
        receipt = self.receipt(
            Post("POST"),
            code=code,
            message_id=str(UUID(int=random.getrandbits(128))),
            recipient=f"4477009{random.randrange(100_000):05}",
            sender="Acme",
            reference=f"order-{random.randrange(10**6)}",
            reported_at=at.replace(microsecond=at.microsecond // 1000 * 1000),
            parts=random.randrange(1, 4),
            network="23410",
            extra={"channel": "sms"},
        )
        return receipt._replace(raw=b"")

    def write(self, receipt: Receipt) -> Post:
        """The webhook of `receipt`."""
        at = receipt.reported_at
        root: dict[str, Any] = {
            "message_uuid": receipt.message_id,
            "to": receipt.recipient,
            "from": receipt.sender,
            "status": receipt.code,
            "client_ref": receipt.reference,
            "timestamp": (f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z" if at else None),
            "destination": {"network_code": receipt.network},
            "sms": {"count_total": None if receipt.parts is None else str(receipt.parts)},
            **receipt.extra,
        }
        if receipt.price is not None:
            root["usage"] = {"price": f"{receipt.price:f}", "currency": "EUR"}
        return Post("POST", b"", json.dumps(root).encode(), "application/json")
