"""Plivo: message status callbacks.

Source: Plivo's pages "Message status callbacks" and on the stages of a message, its Python and
Go libraries, and the open-source gateway courier. Inferred: that times are UTC. Not found:
error codes, retries and networks of messaging. The signatures V1 and V2, which do not cover the
fields, are not taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from random import Random
from urllib.parse import urlencode
from uuid import UUID

from receiptd.providers import Code, Post, ProviderOptions, Secrets, SignedProvider, Unverified
from receiptd.providers.signatures import LONGEST_SIGNATURE, check, form_pairs, plivo_v3
from receiptd.providers.signed import signing_option
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
from receiptd.receipt import Kind, Receipt, State

CODES = {
    "queued": Code(State.ENROUTE, "Queued"),
    "sent": Code(State.ENROUTE, "Handed to the carrier"),
    "delivered": Code(State.DELIVERED, "Delivered"),
    "read": Code(State.DELIVERED, "Read"),
    "failed": Code(State.REJECTED, "Not taken by the carrier"),
    "undelivered": Code(State.UNDELIVERABLE, "Undelivered"),
    "rejected": Code(State.REJECTED, "Rejected"),
}
HEADERS = ("x-plivo-signature-ma-v3", "x-plivo-signature-v3")
"""Of the main account, and of the (sub)account that owns the number."""
NONCE = "x-plivo-signature-v3-nonce"
TIMES = ("DeliveryReportTime", "SentTime", "QueuedTime", "MessageTime")
_KNOWN = frozenset(
    {
        *("messageuuid", "status", "to", "from", "units", "totalamount", "mcc", "mnc"),
        *("deliveryreporttime", "senttime", "queuedtime", "messagetime"),
    }
)


class PlivoOptions(ProviderOptions):
    """The configuration keys of a Plivo endpoint."""

    auth_token: Secrets = signing_option(
        "The auth token of the account",
        "their signature V3",
        "a-long-auth-token",
        "Also a list, with those of its subaccounts.",
    )


class Plivo(SignedProvider):
    """The status callbacks of Plivo."""

    name = "plivo"
    title = "Plivo"
    path = "/plivo"
    methods = ("POST", "GET")
    signs_url = True
    signed_by = "auth_token"
    Options = PlivoOptions
    codes = CODES

    def check_signature(self, post: Post, secrets: Sequence[bytes]) -> None:
        """Check the signature V3."""
        given = ",".join(filter(None, (post.headers.get(name) for name in HEADERS)))
        nonce = post.headers.get(NONCE, "")
        if not given or not nonce or len(given) > LONGEST_SIGNATURE:
            raise Unverified(
                "the signature is missing: the header X-Plivo-Signature-Ma-V3 or "
                "X-Plivo-Signature-V3 must carry it, and X-Plivo-Signature-V3-Nonce its nonce"
            )
        pairs = form_pairs(post.body)
        check(
            (each.strip() for each in given.split(",")),
            [
                plivo_v3(token, post.method, url, pairs, nonce)
                for token in secrets
                for url in post.urls
            ],
        )

    def with_signature(self, post: Post, secret: bytes) -> Post:
        """With the main account's signature."""
        nonce = "12345678901234567890"
        made = plivo_v3(secret, post.method, post.urls[0], form_pairs(post.body), nonce)
        return post.changed(
            headers={"X-Plivo-Signature-Ma-V3": made, "X-Plivo-Signature-V3-Nonce": nonce}
        )

    def read(self, post: Post) -> list[Receipt]:
        """The one receipt, or inbound message, of a callback."""
        fields = post.fields
        get = fields.get
        status = word("Status", get("Status"))
        status = status.lower() if status else None
        inbound = status is None and get("Text") is not None
        lenient = Lenient()
        error = word("ErrorCode", get("ErrorCode"))
        time_name = next((name for name in TIMES if get(name)), TIMES[0])
        extra = fields.rest(_KNOWN | {"text"} if inbound else _KNOWN)
        return [
            self.receipt(
                post,
                kind=Kind.REPLY if inbound else Kind.DELIVERY,
                code=status,
                error=error,
                lenient=lenient,
                message_id=identifier("MessageUUID", get("MessageUUID")),
                recipient=lenient(phone, "To", get("To")),
                sender=get("From"),
                reported_at=lenient(iso_time, time_name, get(time_name), self.endpoint.timezone),
                parts=lenient(part, "Units", get("Units")),
                price=lenient(decimal, "TotalAmount", get("TotalAmount")),
                network=lenient(digits, "MCC", f"{get('MCC') or ''}{get('MNC') or ''}" or None),
                text=get("Text") if inbound else None,
                extra=extra,
            )
        ]

    def sample(self, random: Random, at: datetime) -> Receipt:
        """A callback such as Plivo sends, most of them of a delivered message."""
        status = random.choice(("delivered",) * 6 + ("sent", "undelivered", "failed", "queued"))
        fields = {
            "MessageUUID": str(UUID(int=random.getrandbits(128))),
            "Status": status,
            "To": f"4477009{random.randrange(100_000):05}",
            "From": "12025550143",
            "Type": "sms",
            "Units": str(random.randrange(1, 4)),
            "TotalAmount": random.choice(("0.00350", "0.00700")),
            "MCC": "234",
            "MNC": random.choice(("10", "15", "30")),
            "Sequence": "1",
            "DeliveryReportTime": _written(at),
        }
        if status in ("undelivered", "failed"):
            fields["ErrorCode"] = "450"
        return self.read(_form(fields))[0]._replace(raw=b"")

    def write(self, receipt: Receipt) -> Post:
        """The callback of `receipt`."""
        fields = {
            "MessageUUID": receipt.message_id,
            "Status": receipt.code,
            "To": receipt.recipient,
            "From": receipt.sender,
            "Units": receipt.parts,
            "TotalAmount": None if receipt.price is None else f"{receipt.price:f}",
            "MCC": receipt.network and receipt.network[:3],
            "MNC": receipt.network and receipt.network[3:],
            "DeliveryReportTime": _written(receipt.reported_at) if receipt.reported_at else None,
            **receipt.extra,
        }
        return _form({name: str(value) for name, value in fields.items() if value is not None})


def _written(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")


def _form(fields: dict[str, str]) -> Post:
    body = urlencode(fields).encode()
    return Post("POST", b"", body, "application/x-www-form-urlencoded")
