"""What a destination is told: events, as JSON has them, and as they travel together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

TYPES = ("receipt.stored", "receipt.adopted", "message.state")
"""By `events.type`, which begins with 1."""


class Event(NamedTuple):
    """One thing to tell."""

    id: int
    type: str
    at: datetime
    """When it happened: aware, UTC."""
    receipt: Mapping[str, Any] | None
    """As the API gives it, without `raw`."""
    message: Mapping[str, Any] | None
    """As the API gives it, without its receipts: what it was at that moment."""
    lanes: tuple[str, ...]
    """The messages that it is about: its events keep their order within each of them."""
    raw: bytes | None = None
    """The provider's post; only where it is asked for."""
    message_ref: int | None = None
    """The row of `messages` that it is about."""

    @property
    def receipt_id(self) -> int | None:
        """The number of its receipt."""
        return self.receipt["id"] if self.receipt is not None else None


class Delivery(NamedTuple):
    """What is sent at once."""

    store: str
    """The name of the database, which is part of every event's name."""
    events: tuple[Event, ...]
    attempt: int = 1
    replay: int | None = None
    """The number of the replay that it is part of."""
    batched: bool = False
    """Whether it travels as a list, though it may be of one event."""

    @property
    def name(self) -> str:
        """The same whenever these events are sent together: an event's own name, or one made of
        theirs."""
        if not self.batched:
            return event_name(self.store, self.events[0].id)
        ids = ",".join(str(each.id) for each in self.events)
        digest = sha256(ids.encode()).hexdigest()[:16]
        return f"batch_{self.store}_{self.events[0].id}_{digest}"


def event_name(store: str, number: int) -> str:
    """What an event is called, here and for ever."""
    return f"evt_{store}_{number}"


def iso(at: datetime) -> str:
    """`at` (aware, UTC) as JSON has it."""
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def data_json(event: Event, *, raw: bool) -> dict[str, Any]:
    """What an event is about."""
    receipt = event.receipt
    if receipt is not None and raw:
        from base64 import b64encode

        receipt = {**receipt, "raw": b64encode(event.raw or b"").decode("ascii")}
    return {"receipt": receipt, "message": event.message}


def event_json(event: Event, *, raw: bool = False) -> dict[str, Any]:
    """An event as it travels.

    :param raw: whether the provider's post goes along, in base64.
    """
    return {"type": event.type, "timestamp": iso(event.at), "data": data_json(event, raw=raw)}


def encoded(value: Mapping[str, Any] | Sequence[Any]) -> bytes:
    """`value` as JSON."""
    # A half of a surrogate pair stays an escape, which JSON has for it.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")
