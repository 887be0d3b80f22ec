"""SeeMe SMS Gateway: its Callback, a GET with a query string.

Source: the vendor's page "SMS Gateway Callback". Inferred: that a POST with the same fields may
come too, and that `timestamp` is the platform's local time (Budapest unless configured). Of the
hour that occurs twice in autumn the first is taken, and a time that spring skips is read with
the offset before the change: the vendor sends no offset that could tell.
"""

from __future__ import annotations

from datetime import datetime
from random import Random
from urllib.parse import urlencode

from receiptd.providers import Code, Invalid, Post, Provider
from receiptd.providers.clocks import wall
from receiptd.providers.torn import torn
from receiptd.providers.values import (
    Lenient,
    code,
    decimal,
    digits,
    identifier,
    iso_time,
    part,
    phone,
)
from receiptd.receipt import Kind, Receipt, State

CODES = {
    "1": Code(State.UNDELIVERABLE, "Undeliverable due other error"),
    "2": Code(State.ENROUTE, "The sending is stopped"),
    "3": Code(State.ENROUTE, "Transmitted to remote SMSC"),
    "4": Code(State.ACCEPTED, "Accepted by remote SMSC"),
    "5": Code(State.REJECTED, "Rejected by the remote SMSC"),
    "6": Code(State.DELIVERED, "Delivered"),
    "7": Code(State.UNDELIVERABLE, "Undeliverable"),
    "8": Code(State.ENROUTE, "Waiting for the target device"),
    "9": Code(State.EXPIRED, "Period of validity has expired"),
    "10": Code(State.UNKNOWN, "Status is missing"),
}

EXAMPLE = "2013-09-01 09:12:29"
"""Of a time as SeeMe writes it."""

_FIELDS = frozenset(
    {"reference", "number", "sender", "code", "message", "price", "timestamp", "mccmnc", "split"}
)


class SeeMe(Provider):
    """The receipts of SeeMe."""

    name = "seeme"
    title = "SeeMe"
    path = "/seeme"
    methods = ("GET", "POST")
    timezone = "Europe/Budapest"
    charset = "iso8859-2"
    codes = CODES

    def read(self, post: Post) -> list[Receipt]:
        """The one receipt of a callback. Our own `reference` is the only identifier that SeeMe
        sends, so it is the message's identifier too."""
        fields = post.fields
        get = fields.get
        lenient = Lenient()
        reference = identifier("reference", get("reference"))
        status = get("code")
        if status is None:
            raise Invalid("code", "code is missing: it must be the status, a number from 1 to 10")
        number = lenient(code, "code", status)
        price, timestamp = get("price"), get("timestamp")
        # The vendor's page shows its example with `&times` turned into a multiplication sign.
        if timestamp is None and (found := torn(fields, "timestamp")) and found[0] == "price":
            _, price, timestamp = found
        recipient = lenient(phone, "number", get("number"))
        reported_at = lenient(iso_time, "timestamp", timestamp, self.endpoint.timezone, EXAMPLE)
        parts = lenient(part, "split", get("split"))
        amount = lenient(decimal, "price", price)
        network = lenient(digits, "mccmnc", get("mccmnc"))
        extra, unread = lenient.rest(fields, _FIELDS)
        return [
            Receipt(
                endpoint=self.endpoint.name,
                provider=self.name,
                kind=Kind.DELIVERY,
                message_id=reference,
                state=self.state(number),
                code=number,
                recipient=recipient,
                reported_at=reported_at,
                raw=post.raw,
                description=get("message") or self.description(number),
                sender=get("sender"),
                reference=reference,
                parts=parts,
                price=amount,
                network=network,
                extra=extra,
                unread=unread,
            )
        ]

    def sample(self, random: Random, at: datetime) -> Receipt:
        """A receipt such as SeeMe sends, most of them of a delivered message."""
        status = random.choice(("6", "6", "6", "6", "6", "6", "4", "3", "7", "9", "1"))
        fields = {
            "reference": f"sms{random.getrandbits(40)}",
            "number": f"3630{random.randrange(1_000_000, 10_000_000)}",
            "sender": random.choice(("Társaság", "36309876543")),
            "code": status,
            "message": CODES[status].text,
            "price": random.choice(("13.90", "14", "27.80")),
            "timestamp": self._written(at),
            "mccmnc": random.choice(("21601", "21630", "21670")),
            "split": str(random.randrange(1, 4)),
        }
        post = Post("GET", urlencode(fields).encode(), charset=self.charset)
        return self.read(post)[0]._replace(raw=b"")

    def write(self, receipt: Receipt) -> Post:
        """The callback of `receipt`, its time to the second."""
        fields = {
            "reference": receipt.message_id,
            "number": receipt.recipient,
            "sender": receipt.sender,
            "code": receipt.code,
            "message": receipt.description,
            "price": None if receipt.price is None else f"{receipt.price:f}",
            "timestamp": self._written(receipt.reported_at),
            "mccmnc": receipt.network,
            "split": receipt.parts,
        }
        sent = [(name, value) for name, value in fields.items() if value is not None]
        query = urlencode([*sent, *receipt.extra.items()], doseq=True)
        return Post("GET", query.encode(), charset=self.charset)

    def _written(self, at: datetime | None) -> str | None:
        zone = self.endpoint.timezone
        return wall(at, zone).isoformat(" ", "seconds") if at else None
