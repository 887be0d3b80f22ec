"""`forward test`: one made-up event, sent to a destination as it is configured."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from receiptd.config.forward import Forward
from receiptd.forward.destinations import Outcome
from receiptd.forward.events import Delivery, Event, iso


def made_up() -> Event:
    """An event that tells of nothing: its type is `test`, its receipt has the number 0."""
    now = datetime.now(UTC)
    receipt = {
        "id": 0,
        "received_at": iso(now),
        "endpoint": "test",
        "provider": "test",
        "kind": "delivery",
        "message_id": "receiptd-test",
        "state": "DELIVERED",
        "code": None,
        "description": "sent by: receiptd forward test",
        "recipient": None,
        "sender": None,
        "reference": None,
        "reported_at": iso(now),
        "part": None,
        "parts": None,
        "price": None,
        "network": None,
        "text": None,
        "extra": {},
        "verdict": "accepted",
        "repeats": 0,
    }
    return Event(0, "test", now, receipt, None, (), b"")


async def trial(config: Forward, store: str, reactor: Any) -> Outcome:
    """Send it; what became of it.

    :param store: the database's name.
    """
    destination = config.kind(config, reactor)
    await destination.open()
    try:
        event = made_up()
        outcomes = await destination.send(Delivery(store, (event,), batched=config.batch > 1))
        return outcomes[0]
    finally:
        await destination.close()
