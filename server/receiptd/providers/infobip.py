"""Infobip: delivery reports, up to 2,000 in a post, and inbound messages of the same form.

Source: Infobip's pages on SMS delivery reports, statuses and error codes, its Java library, and
an older manual (for the identifiers of the group ACCEPTED and some others). Not found: how its
HMAC is made, and what it makes of a 4xx; use `basic` or a token in the path.

`code` is the identifier of the status. "Delivered to operator" (2) is final for Infobip and
DELIVERED here, though no handset has confirmed it: `codes` can change that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from random import Random
from typing import Any
from uuid import UUID

from receiptd.providers import Code, Ignored, Invalid, Item, Post, Provider
from receiptd.providers.json_body import flattened
from receiptd.providers.sources import Look, in_json
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

GROUPS = {
    "0": Code(State.ACCEPTED, "Accepted"),
    "1": Code(State.ENROUTE, "Pending"),
    "2": Code(State.UNDELIVERABLE, "Undeliverable"),
    "3": Code(State.DELIVERED, "Delivered"),
    "4": Code(State.EXPIRED, "Expired"),
    "5": Code(State.REJECTED, "Rejected"),
}
_NAMES = {
    "ACCEPTED": "0",
    "PENDING": "1",
    "UNDELIVERABLE": "2",
    "DELIVERED": "3",
    "EXPIRED": "4",
    "REJECTED": "5",
}
CODES = {
    "0": Code(State.ACCEPTED, "Message accepted"),
    "1": Code(State.ENROUTE, "Pending: time violation"),
    "2": Code(State.DELIVERED, "Delivered to operator"),
    "3": Code(State.ENROUTE, "Pending: waiting for delivery"),
    "4": Code(State.REJECTED, "Undeliverable: rejected by the operator"),
    "5": Code(State.DELIVERED, "Delivered to handset"),
    "6": Code(State.REJECTED, "Rejected: network"),
    "7": Code(State.ENROUTE, "Pending: en route"),
    "8": Code(State.REJECTED, "Rejected: prefix missing"),
    "9": Code(State.UNDELIVERABLE, "Undeliverable: not delivered"),
    "10": Code(State.REJECTED, "Rejected: do not disturb"),
    "11": Code(State.REJECTED, "Rejected: source"),
    "12": Code(State.REJECTED, "Rejected: not enough credits"),
    "13": Code(State.REJECTED, "Rejected: sender"),
    "14": Code(State.REJECTED, "Rejected: destination"),
    "15": Code(State.EXPIRED, "Expired"),
    "16": Code(State.REJECTED, "Rejected: not reachable"),
    "17": Code(State.REJECTED, "Rejected: prepaid package expired"),
    "18": Code(State.REJECTED, "Rejected: destination not registered"),
    "19": Code(State.REJECTED, "Rejected: route not available"),
    "20": Code(State.REJECTED, "Rejected: flooding filter"),
    "21": Code(State.REJECTED, "Rejected: system error"),
    "22": Code(State.EXPIRED, "Expired: unknown"),
    "23": Code(State.REJECTED, "Rejected: duplicate message identifier"),
    "24": Code(State.REJECTED, "Rejected: invalid user data header"),
    "25": Code(State.REJECTED, "Rejected: message too long"),
    "26": Code(State.ENROUTE, "Pending: accepted"),
    "29": Code(State.EXPIRED, "Expired: no receipt"),
}
_KNOWN = frozenset(
    {
        *("messageId", "to", "sender", "from", "doneAt", "receivedAt", "messageCount"),
        *("smsCount", "mccMnc", "price.pricePerMessage", "callbackData", "text"),
        *("status.id", "status.description"),
    }
)


class Infobip(Provider):
    """The delivery reports of Infobip."""

    name = "infobip"
    title = "Infobip"
    path = "/infobip"
    codes = CODES

    def read(self, post: Post) -> Sequence[Item]:
        """A receipt for each of the `results`."""
        if post.body[:64].lstrip().startswith(b"<"):
            raise Invalid(
                "body", "the body is XML: have Infobip send JSON, by contentType application/json"
            )
        root = post.json()
        results = root.get("results") if isinstance(root, dict) else None
        if not isinstance(results, list):
            raise Invalid("results", "results is missing: it must be the list of the reports")
        if not results:
            return [Ignored("a post without results")]
        return self.each(
            results,
            lambda item: self._read(post, item),
            lambda item: {**root, "results": [item]},
        )

    def _read(self, post: Post, item: Any) -> Receipt:
        if not isinstance(item, dict):
            raise Invalid("results", "an item of results is no object")
        get, lenient = in_json(item), Lenient()
        inbound = "status" not in item and get("receivedAt") is not None
        code = word("status.id", get("status.id"))
        time_name = "receivedAt" if inbound else "doneAt"
        extra = flattened(item)
        return self.receipt(
            post,
            kind=Kind.REPLY if inbound else Kind.DELIVERY,
            code=code,
            lenient=lenient,
            state=self._state(get, code),
            message_id=identifier("messageId", get("messageId")),
            description=get("status.description"),
            recipient=lenient(phone, "to", get("to")),
            sender=get("sender") or get("from"),
            reference=get("callbackData"),
            reported_at=lenient(iso_time, time_name, get(time_name), self.endpoint.timezone),
            parts=lenient(part, "messageCount", get("messageCount") or get("smsCount")),
            price=lenient(decimal, "price.pricePerMessage", get("price.pricePerMessage")),
            network=lenient(digits, "mccMnc", get("mccMnc")),
            text=get("text") if inbound else None,
            extra={name: value for name, value in extra.items() if name not in _KNOWN},
        )

    def _state(self, get: Look, code: str | None) -> State:
        """By the status, else by its group; what is configured for either goes first."""
        error = get("error.id")
        group = get("status.groupId") or _NAMES.get((get("status.groupName") or "").upper())
        for key in (f"{code}/{error}", code, get("status.name"), get("status.groupName")):
            if key and key in self.endpoint.codes:
                return self.endpoint.codes[key]
        if code in self.codes:
            return self.codes[code].state
        return GROUPS[group].state if group in GROUPS else State.UNKNOWN

    def sample(self, random: Random, at: datetime) -> Receipt:
        """A report such as Infobip sends, most of them of a delivered message."""
        code = random.choice(("5",) * 6 + ("2", "9", "15", "4", "7"))
        report = {
            "messageId": f"{random.getrandbits(64):016x}",
            "to": f"4477009{random.randrange(100_000):05}",
            "sender": "Acme",
            "doneAt": _written(at),
            "messageCount": str(random.randrange(1, 4)),
            "mccMnc": "23410",
            "bulkId": str(UUID(int=random.getrandbits(128))),
            "status": {"id": code, "description": CODES[code].text},
        }
        return self._read(_post(report), report)._replace(raw=b"")

    def write(self, receipt: Receipt) -> Post:
        """A post with the one report of `receipt`."""
        report: dict[str, Any] = {
            "messageId": receipt.message_id,
            "to": receipt.recipient,
            "sender": receipt.sender,
            "doneAt": _written(receipt.reported_at) if receipt.reported_at else None,
            "messageCount": receipt.parts,
            "mccMnc": receipt.network,
            "callbackData": receipt.reference,
            "status": {"id": receipt.code, "description": receipt.description},
            **receipt.extra,
        }
        if receipt.price is not None:
            report["price"] = {"pricePerMessage": f"{receipt.price:f}"}
        return _post(report)


def _written(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}+0000"


def _post(report: dict[str, Any]) -> Post:
    return Post("POST", b"", json.dumps({"results": [report]}).encode(), "application/json")
