"""Vonage (Nexmo): delivery receipts of its SMS API, by GET, as a form or as JSON.

Source: Vonage's pages "Delivery receipts", "Signing messages" and on retries, its PHP library
with the requests it is tested with, and the open-source gateway courier. `msisdn` is the phone,
and `to` our sender. `message-timestamp` is taken for the time (UTC, said of inbound messages):
the zone of `scts` was seen to vary. A literal `null` is no value. From memory: that prices are
in EUR.

Requests without an identifier are probes: answered, and ignored. What is answered 4xx, Vonage
may never send again: with `refuse_status = 503` nothing is lost while a secret is being
changed. A token belongs into the path, and not into the query, which Vonage signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from random import Random
from typing import Literal
from urllib.parse import urlencode

from pydantic import Field

from receiptd.providers import (
    Code,
    Ignored,
    Invalid,
    Item,
    Post,
    ProviderOptions,
    Secrets,
    SignedProvider,
)
from receiptd.providers.json_body import as_text
from receiptd.providers.signatures import check, form_pairs, require, vonage
from receiptd.providers.signed import signing_option
from receiptd.providers.sources import Look
from receiptd.providers.values import Lenient, decimal, digits, identifier, iso_time, phone, word
from receiptd.receipt import Kind, Receipt, State

CODES = {
    "accepted": Code(State.ACCEPTED, "Accepted"),
    "buffered": Code(State.ENROUTE, "Buffered"),
    "delivered": Code(State.DELIVERED, "Delivered"),
    "expired": Code(State.EXPIRED, "Expired"),
    "failed": Code(State.UNDELIVERABLE, "Failed"),
    "rejected": Code(State.REJECTED, "Rejected"),
    "deleted": Code(State.DELETED, "Moved to another gateway"),
    "unknown": Code(State.UNKNOWN, "Unknown"),
}
ERRORS = {
    "1": "unknown",
    "2": "absent subscriber, temporarily",
    "3": "absent subscriber, permanently",
    "4": "call barred by the user",
    "5": "portability error",
    "6": "rejected as spam",
    "7": "handset busy",
    "8": "network error",
    "9": "illegal number",
    "10": "illegal message",
    "11": "unroutable",
    "12": "destination unreachable",
    "13": "subscriber age restriction",
    "14": "blocked by the carrier",
    "15": "insufficient prepaid credit",
    "16": "gateway quota exceeded",
    "50": "entity filter",
    "51": "header filter",
    "52": "content filter",
    "53": "consent filter",
    "54": "regulation error",
    "99": "general error",
}
_KNOWN = frozenset(
    {
        *("messageid", "msisdn", "to", "status", "network-code", "price", "client-ref"),
        *("message-timestamp", "sig", "nonce", "timestamp", "api-key"),
    }
)


class VonageOptions(ProviderOptions):
    """The configuration keys of a Vonage endpoint."""

    signature_secret: Secrets = signing_option(
        "The account's signature secret",
        "their `sig`, which Vonage's support must switch on for webhooks",
        "a-long-signature-secret",
    )
    signature_method: Literal["md5hash", "md5", "sha1", "sha256", "sha512"] = Field(
        default="md5hash",
        description="The signature method in the account's settings: md5hash, or an HMAC by md5, "
        "sha1, sha256 or sha512.",
        examples=["sha256"],
    )


class Vonage(SignedProvider):
    """The delivery receipts of Vonage's SMS API."""

    name = "vonage"
    title = "Vonage SMS API"
    path = "/vonage"
    methods = ("POST", "GET")
    secrets = frozenset({"api-key", "sig"})
    signed_by = "signature_secret"
    Options = VonageOptions
    codes = CODES

    @property
    def _method(self) -> str:
        options = self.endpoint.options
        return options.signature_method if isinstance(options, VonageOptions) else "md5hash"

    def check_signature(self, post: Post, secrets: Sequence[bytes]) -> None:
        """Check `sig`."""
        pairs = _parameters(post)
        given = [value for name, value in pairs if name == "sig"]
        require(given[0] if given else "", "sig (a parameter, and no header)")
        check(
            [given[0].lower()],
            [vonage(secret, pairs, self._method) for secret in secrets],
        )

    def with_signature(self, post: Post, secret: bytes) -> Post:
        """With `sig`, and the time and the nonce that it covers."""
        pairs = [
            *_parameters(post),
            ("timestamp", str(int(post.received_at))),
            ("nonce", "2d1e0f34-9a8b-4c7d-8e6f-5a4b3c2d1e0f"),
        ]
        sig = vonage(secret, pairs, self._method)
        return post.changed(body=urlencode([*pairs, ("sig", sig)]).encode())

    def read(self, post: Post) -> Sequence[Item]:
        """The one receipt, or inbound message, of a post; a probe is ignored."""
        get, extra = _look(post)
        message_id = get("messageId")
        if message_id is None:
            if get("status") is not None:
                raise Invalid("messageId", "messageId is missing: it must name the message")
            return [Ignored("a request without messageId: a probe of the URL")]
        code = word("status", get("status"))
        inbound = code is None
        lenient = Lenient()
        error = word("err-code", get("err-code"))
        phone_name, ours_name = ("to", "msisdn") if inbound else ("msisdn", "to")
        return [
            self.receipt(
                post,
                kind=Kind.REPLY if inbound else Kind.DELIVERY,
                code=code.lower() if code else None,
                error=error,
                lenient=lenient,
                message_id=identifier("messageId", message_id),
                description=ERRORS.get(error) if error else None,
                recipient=lenient(phone, phone_name, get(phone_name)),
                sender=get(ours_name),
                reference=get("client-ref"),
                reported_at=lenient(
                    iso_time, "message-timestamp", get("message-timestamp"), self.endpoint.timezone
                ),
                price=lenient(decimal, "price", get("price")),
                network=lenient(digits, "network-code", get("network-code")),
                text=get("text") if inbound else None,
                extra={
                    name: value
                    for name, value in extra.items()
                    if value not in ("", "null") and not (inbound and name == "text")
                },
            )
        ]

    def sample(self, random: Random, at: datetime) -> Receipt:
        """A receipt such as Vonage sends, most of them of a delivered message."""
        status = random.choice(("delivered",) * 6 + ("accepted", "buffered", "failed", "expired"))
        fields = {
            "msisdn": f"4477009{random.randrange(100_000):05}",
            "to": random.choice(("Acme & Co", "447700900000")),
            "network-code": "23410",
            "messageId": f"{random.getrandbits(64):016X}",
            "price": "0.03330000",
            "status": status,
            "scts": at.strftime("%y%m%d%H%M"),
            "err-code": "1" if status == "failed" else "0",
            "client-ref": f"order={random.randrange(10**6)}",
            "message-timestamp": at.strftime("%Y-%m-%d %H:%M:%S"),
        }
        (receipt,) = self.read(_form(fields))
        assert isinstance(receipt, Receipt)
        return receipt._replace(raw=b"")

    def write(self, receipt: Receipt) -> Post:
        """The form post of `receipt`."""
        at = receipt.reported_at
        fields = {
            "msisdn": receipt.recipient,
            "to": receipt.sender,
            "network-code": receipt.network,
            "messageId": receipt.message_id,
            "price": None if receipt.price is None else f"{receipt.price:f}",
            "status": receipt.code,
            "client-ref": receipt.reference,
            "message-timestamp": at.strftime("%Y-%m-%d %H:%M:%S") if at else None,
            **receipt.extra,
        }
        return _form({name: str(value) for name, value in fields.items() if value is not None})


def _form(fields: dict[str, str]) -> Post:
    body = urlencode(fields).encode()
    return Post("POST", b"", body, "application/x-www-form-urlencoded")


def _parameters(post: Post) -> list[tuple[str, str]]:
    """What a signature covers: the query of a GET, a form's fields, an object's members."""
    if post.method == "GET":
        return form_pairs(post.query)
    if not post.is_json:
        return form_pairs(post.body)
    root = post.json()
    members = root.items() if isinstance(root, dict) else ()
    return [
        (name, value if isinstance(value, str) else as_text(value) or "")
        for name, value in members
    ]


def _look(post: Post) -> tuple[Look, dict[str, object]]:
    """Looks in a post however it is written, and what stands in it beside the known fields."""
    if not post.is_json:
        fields = post.fields

        def look(name: str) -> str | None:
            value = fields.get(name)
            return None if value == "null" else value

        return look, fields.rest(_KNOWN)
    root = post.json()
    if not isinstance(root, dict):
        raise Invalid("body", "the body is no object: it must be a receipt")
    values = {name.casefold(): as_text(value) for name, value in root.items()}
    extra = {
        name: value
        for name, value in ((name, as_text(value)) for name, value in root.items())
        if value is not None and name.casefold() not in _KNOWN
    }
    return (lambda name: values.get(name.casefold())), dict(extra)
