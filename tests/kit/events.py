"""Events to be sent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from receiptd.forward.events import Event
from receiptd.forward.trial import made_up

NOW = datetime(2026, 11, 25, 13, 13, 18, 571100, tzinfo=UTC)

RECEIPT = {
    **(made_up().receipt or {}),
    "id": 7,
    "provider": "csoft",
    "endpoint": "soap",
    "message_id": "4A2E 3C10/ü",
    "recipient": "+447700912345",
    "sender": "Shop & Co",
    "code": "0",
    "description": "Delivered",
    "reported_at": "2009-06-09T10:52:00Z",
}
MESSAGE = {
    "provider": "csoft",
    "message_id": "A",
    "state": "DELIVERED",
    "final": True,
    "state_at": "2009-06-09T10:52:00Z",
    "recipient": "447700912345",
    "sender": None,
    "reference": "order-1",
    "parts": None,
    "delivered": 1,
    "price": None,
    "registered_at": "2009-06-09T10:50:00Z",
}


def event(number: int = 5, **more: Any) -> Event:
    """One, in which `more` is other than usual."""
    fields: dict[str, Any] = {
        "type": "receipt.stored",
        "at": NOW,
        "receipt": RECEIPT,
        "message": None,
        "lanes": (),
        "raw": b"<post>",
    } | more
    return Event(number, **fields)
