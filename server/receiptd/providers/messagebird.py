"""MessageBird (now Bird): status reports of its SMS API.

Source: MessageBird's support pages, its Python library with its examples of signatures, and the
open-source gateway courier. Not found: retries and networks. Reports come only for messages
that were sent with a `reference`.

An identifier stands for all recipients of a message. Bird's newer products ("channels", and
what is signed by Standard Webhooks) are for the generic provider: their posts could not be
seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from random import Random
from urllib.parse import urlencode

from receiptd.providers import (
    Code,
    Invalid,
    Post,
    ProviderOptions,
    Reply,
    Secrets,
    SignedProvider,
    Unverified,
)
from receiptd.providers.signatures import require
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
from receiptd.providers.web_tokens import check_hash, check_period, claims, made
from receiptd.receipt import Receipt, State, Verdict

CODES = {
    "scheduled": Code(State.ENROUTE, "Scheduled"),
    "sent": Code(State.ENROUTE, "Sent"),
    "buffered": Code(State.ENROUTE, "Buffered"),
    "delivered": Code(State.DELIVERED, "Delivered"),
    "expired": Code(State.EXPIRED, "Expired"),
    "delivery_failed": Code(State.UNDELIVERABLE, "Delivery failed"),
    "delivery_failed/103": Code(State.REJECTED, "The recipient has unsubscribed"),
}
HEADER = "messagebird-signature-jwt"
LEEWAY = 1
"""Seconds, as in the vendor's library; a token is valid for 60."""
_KNOWN = frozenset(
    {
        *("id", "reference", "recipient", "status", "statusreason", "statusdatetime", "mccmnc"),
        *("messagepartcount", "price[amount]"),
    }
)


class MessageBirdOptions(ProviderOptions):
    """The configuration keys of a MessageBird endpoint."""

    signing_key: Secrets = signing_option(
        "The account's signing key", "their MessageBird-Signature-JWT", "a-long-signing-key"
    )


class MessageBird(SignedProvider):
    """The status reports of MessageBird."""

    name = "messagebird"
    title = "MessageBird (Bird)"
    path = "/messagebird"
    methods = ("GET", "POST")
    signs_url = True
    signed_by = "signing_key"
    Options = MessageBirdOptions
    codes = CODES

    def check_signature(self, post: Post, secrets: Sequence[bytes]) -> None:
        """Check `MessageBird-Signature-JWT`."""
        token = require(post.headers.get(HEADER, ""), "MessageBird-Signature-JWT")
        claimed = claims(
            token,
            secrets,
            algorithms=("HS256", "HS384", "HS512"),
            required=("iss", "nbf", "exp", "url_hash"),
        )
        if claimed["iss"] != "MessageBird":
            raise Unverified("the signature is of another issuer than MessageBird")
        check_hash(claimed["url_hash"], [url.encode() for url in post.urls], "URL")
        if post.body or "payload_hash" in claimed:
            check_hash(claimed.get("payload_hash"), [post.body] if post.body else [], "body")
        check_period(claimed, post.received_at, LEEWAY)

    def with_signature(self, post: Post, secret: bytes) -> Post:
        """With a JSON Web Token, valid for a minute."""
        now = int(post.received_at)
        claimed = {
            "iss": "MessageBird",
            "nbf": now,
            "exp": now + 60,
            "url_hash": sha256(post.urls[0].encode()).hexdigest(),
        }
        if post.body:
            claimed["payload_hash"] = sha256(post.body).hexdigest()
        return post.changed(headers={"MessageBird-Signature-JWT": made(claimed, secret)})

    def read(self, post: Post) -> list[Receipt]:
        """The one receipt of a report."""
        fields = post.fields
        get = fields.get
        lenient = Lenient()
        code = word("status", get("status"))
        if code is None:
            raise Invalid("status", "status is missing: it must be the message's state")
        return [
            self.receipt(
                post,
                code=code.lower(),
                error=get("statusErrorCode"),
                lenient=lenient,
                message_id=identifier("id", get("id")),
                description=get("statusReason"),
                recipient=lenient(phone, "recipient", get("recipient")),
                reference=get("reference"),
                reported_at=lenient(
                    iso_time, "statusDatetime", get("statusDatetime"), self.endpoint.timezone
                ),
                parts=lenient(part, "messagePartCount", get("messagePartCount")),
                price=lenient(decimal, "price[amount]", get("price[amount]")),
                network=lenient(digits, "mccmnc", get("mccmnc")),
                extra=fields.rest(_KNOWN),
            )
        ]

    def answer(self, receipts: Sequence[Receipt], verdicts: Sequence[Verdict]) -> Reply:
        """`OK`, which MessageBird wants for what is inbound."""
        return Reply(200, b"OK")

    def sample(self, random: Random, at: datetime) -> Receipt:
        """A report such as MessageBird sends, most of them of a delivered message."""
        code = random.choice(("delivered",) * 6 + ("sent", "buffered", "expired"))
        fields = {
            "id": f"{random.getrandbits(128):032x}",
            "reference": f"order-{random.randrange(10**6)}",
            "recipient": f"4477009{random.randrange(100_000):05}",
            "status": code,
            "statusDatetime": at.replace(microsecond=0).isoformat(),
            "mccmnc": "23410",
            "messagePartCount": str(random.randrange(1, 4)),
            "price[amount]": "0.035",
            "price[currency]": "EUR",
        }
        return self.read(Post("GET", urlencode(fields).encode()))[0]._replace(raw=b"")

    def write(self, receipt: Receipt) -> Post:
        """The report of `receipt`."""
        at = receipt.reported_at
        fields = {
            "id": receipt.message_id,
            "reference": receipt.reference,
            "recipient": receipt.recipient,
            "status": receipt.code,
            "statusReason": receipt.description,
            "statusDatetime": at.isoformat() if at else None,
            "mccmnc": receipt.network,
            "messagePartCount": receipt.parts,
            "price[amount]": None if receipt.price is None else f"{receipt.price:f}",
            **receipt.extra,
        }
        query = urlencode({name: value for name, value in fields.items() if value is not None})
        return Post("GET", query.encode())
