"""Sinch SMS (REST, "XMS"): delivery reports by recipient and by batch, and inbound messages.

Source: Sinch's pages "Webhooks" and "Delivery reports", its Python and Java libraries.
Inferred: that `operator` is the network where it is digits. From memory: that Sinch must switch
signatures on for SMS. Whether a retry is signed anew is not known, so a signature's age is not
looked at.

A batch has one identifier for all its recipients. A report of the type `full` has lists of
recipients by status, and becomes a receipt for each. One of the type `summary` has none: it is
ignored, unless it is of a single message. What is answered 4xx, Sinch never sends again: with
`refuse_status = 503` nothing is lost while a secret is being changed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from random import Random
from typing import Any

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
from receiptd.providers.json_body import as_text, flattened
from receiptd.providers.signatures import check, require, sinch
from receiptd.providers.signed import signing_option
from receiptd.providers.sources import in_json
from receiptd.providers.values import Lenient, identifier, iso_time, part, phone, word
from receiptd.receipt import Kind, Receipt, State

CODES = {
    "queued": Code(State.ENROUTE, "Queued"),
    "dispatched": Code(State.ACCEPTED, "Accepted by the SMSC"),
    "aborted": Code(State.REJECTED, "Aborted before the SMSC"),
    "cancelled": Code(State.DELETED, "Cancelled"),
    "rejected": Code(State.REJECTED, "Rejected by the SMSC"),
    "deleted": Code(State.DELETED, "Deleted by a remote SMSC"),
    "delivered": Code(State.DELIVERED, "Delivered"),
    "failed": Code(State.UNDELIVERABLE, "Failed"),
    "expired": Code(State.EXPIRED, "Expired"),
    "unknown": Code(State.UNKNOWN, "No receipt, or one that cannot be read"),
}
HEADER = "x-sinch-webhook-signature"
_KNOWN = frozenset(
    {
        *("batch_id", "recipient", "status", "at", "applied_originator", "client_reference"),
        *("number_of_message_parts", "type", "to", "from", "body", "received_at", "id"),
    }
)


class SinchOptions(ProviderOptions):
    """The configuration keys of a Sinch endpoint."""

    secret: Secrets = signing_option(
        "The secret that callbacks are signed with",
        "their x-sinch-webhook-signature",
        "a-long-random-text",
    )


class Sinch(SignedProvider):
    """The delivery reports of Sinch."""

    name = "sinch"
    title = "Sinch SMS"
    path = "/sinch"
    signed_by = "secret"
    Options = SinchOptions
    codes = CODES

    def check_signature(self, post: Post, secrets: Sequence[bytes]) -> None:
        """Check `x-sinch-webhook-signature`."""
        get = post.headers.get
        given = require(get(HEADER, ""), HEADER)
        if get(f"{HEADER}-algorithm", "HmacSHA256").lower() != "hmacsha256":
            raise Unverified("the signature is made by another algorithm than HmacSHA256")
        nonce, stamp = get(f"{HEADER}-nonce", ""), get(f"{HEADER}-timestamp", "")
        check([given], [sinch(secret, post.body, nonce, stamp) for secret in secrets])

    def with_signature(self, post: Post, secret: bytes) -> Post:
        """With the four headers of Sinch's signature."""
        nonce, stamp = "01JK0A1B2C3D4E5F6G7H8J9KMN", str(int(post.received_at))
        return post.changed(
            headers={
                HEADER: sinch(secret, post.body, nonce, stamp),
                f"{HEADER}-nonce": nonce,
                f"{HEADER}-timestamp": stamp,
                f"{HEADER}-algorithm": "HmacSHA256",
            }
        )

    def read(self, post: Post) -> Sequence[Item]:
        """The receipt, or receipts, or the inbound message, of a callback."""
        root = post.json()
        if not isinstance(root, dict):
            raise Invalid("body", "the body is no object: it must be a report")
        kind = in_json(root)("type") or ""
        if kind.startswith("recipient_delivery_report"):
            return [self._recipient(post, root)]
        if kind.startswith("delivery_report"):
            return self._batch(post, root)
        if kind.startswith("mo_"):
            return [self._inbound(post, root)]
        return [Ignored(f"a callback of the type {kind[:40]!r}")]

    def _recipient(self, post: Post, root: dict[str, Any]) -> Receipt:
        get, lenient = in_json(root), Lenient()
        operator = get("operator")
        return self._report(
            post,
            root,
            root,
            lenient=lenient,
            recipient=lenient(phone, "recipient", get("recipient")),
            reported_at=lenient(iso_time, "at", get("at"), self.endpoint.timezone),
            parts=lenient(part, "number_of_message_parts", get("number_of_message_parts")),
            sender=get("applied_originator"),
            network=operator if operator and operator.isdigit() and len(operator) < 8 else None,
        )

    def _batch(self, post: Post, root: dict[str, Any]) -> Sequence[Item]:
        statuses = root.get("statuses")
        if not isinstance(statuses, list) or not statuses:
            raise Invalid("statuses", "statuses is missing: it must be a list of states")

        def read(status: Any) -> Item | Sequence[Item]:
            if not isinstance(status, dict):
                raise Invalid("statuses", "an item of statuses is no object")
            recipients = status.get("recipients")
            if isinstance(recipients, list):
                # The list, that may be long, is not in each receipt again.
                alone = {name: each for name, each in status.items() if name != "recipients"}
                return self.each(
                    recipients,
                    lambda each: self._one(post, root, alone, each),
                    lambda each: {**root, "statuses": [{**alone, "recipients": [each]}]},
                )
            if in_json(root)("total_message_count") == "1":
                return self._report(post, root, status)
            return Ignored("a summary of a batch, without recipients")

        return self.each(statuses, read, lambda status: {**root, "statuses": [status]})

    def _one(
        self, post: Post, root: dict[str, Any], status: dict[str, Any], recipient: Any
    ) -> Receipt:
        number = as_text(recipient)
        if number is None:
            raise Invalid("recipients", "an item of recipients is no phone number")
        lenient = Lenient()
        to = lenient(phone, "recipients", number)
        return self._report(post, root, status, lenient=lenient, recipient=to)

    def _report(
        self, post: Post, root: dict[str, Any], status: dict[str, Any], **fields: Any
    ) -> Receipt:
        get = in_json(status)
        word_ = word("status", get("status"))
        if word_ is None:
            raise Invalid("status", "status is missing: it must be the message's state")
        others = {name: each for name, each in root.items() if name != "statuses"}
        extra = flattened(others) | flattened(status)
        return self.receipt(
            post,
            code=word_.lower(),
            error=get("code"),
            message_id=identifier("batch_id", in_json(root)("batch_id")),
            reference=in_json(root)("client_reference"),
            extra={name: value for name, value in extra.items() if name not in _KNOWN},
            **fields,
        )

    def _inbound(self, post: Post, root: dict[str, Any]) -> Receipt:
        get, lenient = in_json(root), Lenient()
        extra = flattened(root)
        return self.receipt(
            post,
            kind=Kind.REPLY,
            code=None,
            lenient=lenient,
            message_id=identifier("id", get("id")),
            recipient=lenient(phone, "to", get("to")),
            sender=get("from"),
            text=get("body"),
            reference=get("client_reference"),
            reported_at=lenient(
                iso_time, "received_at", get("received_at"), self.endpoint.timezone
            ),
            extra={name: value for name, value in extra.items() if name not in _KNOWN},
        )

    def sample(self, random: Random, at: datetime) -> Receipt:
        """A report such as Sinch sends, most of them of a delivered message."""
        status = random.choice(("Delivered",) * 6 + ("Dispatched", "Failed", "Expired"))
        root = {
            "type": "recipient_delivery_report_sms",
            "batch_id": f"{random.getrandbits(100):026X}",
            "recipient": f"4477009{random.randrange(100_000):05}",
            "code": "0" if status == "Delivered" else "403",
            "status": status,
            "at": _written(at),
            "client_reference": f"order-{random.randrange(10**6)}",
            "number_of_message_parts": str(random.randrange(1, 4)),
        }
        return self._recipient(_post(root), root)._replace(raw=b"")

    def write(self, receipt: Receipt) -> Post:
        """The report of `receipt`."""
        root = {
            "type": "recipient_delivery_report_sms",
            "batch_id": receipt.message_id,
            "recipient": receipt.recipient,
            "status": (receipt.code or "").capitalize(),
            "at": _written(receipt.reported_at) if receipt.reported_at else None,
            "client_reference": receipt.reference,
            "number_of_message_parts": receipt.parts,
            "applied_originator": receipt.sender,
            **receipt.extra,
        }
        return _post({name: value for name, value in root.items() if value is not None})


def _written(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"


def _post(root: dict[str, Any]) -> Post:
    return Post("POST", b"", json.dumps(root).encode(), "application/json")
