"""Reading events: with the receipts and messages that they are about, a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, func, select

from receiptd.forward.events import TYPES, Event
from receiptd.store.database.engine import fetch
from receiptd.store.event_tables import event_log, events
from receiptd.store.messages import message_json
from receiptd.store.posts import RAW
from receiptd.store.rows import receipt_json
from receiptd.store.schema import messages, receipts

_SNAPSHOT = ("state", "final", "state_at", "delivered", "parts", "price")
"""What an event keeps of its message."""

_RECEIPT = [column for column in receipts.c if column.name != "raw"]

_MESSAGE = [
    messages.c[name]
    for name in ("provider", "message_id", "message_key", "recipient", "sender", "reference")
] + [messages.c.registered_at, messages.c.sent_at, messages.c.gave_up_at]


class Log(NamedTuple):
    """The log of events as a whole."""

    store: str
    """The name of the database."""
    last: int
    """The newest event."""


def log(connection: Connection) -> Log:
    """What the log of events is called, and how far it goes."""
    row = connection.execute(select(event_log.c.store, event_log.c.last)).one()
    return Log(row.store, row.last)


def newest(connection: Connection) -> int:
    """The newest event; asked for often, so in few words."""
    last: int = fetch(connection, "SELECT last FROM event_log", ())[0][0]
    return last


def first(connection: Connection) -> int | None:
    """The oldest event that is still there; None where none is."""
    found: int | None = connection.execute(select(func.min(events.c.id))).scalar()
    return found


def _select(raw: bool) -> Select[Any]:
    columns: list[Any] = [events]
    columns += [column.label(f"r_{column.name}") for column in _RECEIPT]
    columns += [column.label(f"m_{column.name}") for column in _MESSAGE]
    if raw:
        columns.append(RAW.label("r_raw"))
    return select(*columns).select_from(
        events.outerjoin(receipts, receipts.c.id == events.c.receipt_id).outerjoin(
            messages, messages.c.id == events.c.message_ref
        )
    )


def page(connection: Connection, after: int, limit: int, *, raw: bool = False) -> list[Event]:
    """The events behind `after`, oldest first, no more than `limit`.

    :param raw: whether to read the providers' posts as well.
    """
    statement = _select(raw).where(events.c.id > after).order_by(events.c.id).limit(limit)
    return [_event(row, raw) for row in connection.execute(statement).mappings()]


def by_number(
    connection: Connection, numbers: Sequence[int], *, raw: bool = False
) -> dict[int, Event]:
    """The events of these ids, those that are there."""
    statement = _select(raw).where(events.c.id.in_(list(numbers)))
    return {row["id"]: _event(row, raw) for row in connection.execute(statement).mappings()}


def _event(row: Any, raw: bool) -> Event:
    receipt = message = None
    lanes: dict[str, None] = {}
    if row["r_id"] is not None:
        of_receipt = {name: row[f"r_{name}"] for name in (each.name for each in _RECEIPT)}
        receipt = receipt_json(of_receipt | {"raw": b"", "verdict": row["verdict"]})
        del receipt["raw"]
        provider = of_receipt["provider"]
        for key in (of_receipt["message_key"], of_receipt["linked_key"]):
            if key:
                lanes[f"{provider} {key}"] = None
    if row["m_message_id"] is not None:
        of_message = {each.name: row[f"m_{each.name}"] for each in _MESSAGE}
        if not row["final"] or (of_message["gave_up_at"] or row["at"]) > row["at"]:
            of_message["gave_up_at"] = None  # that was later
        message = message_json(of_message | {name: row[name] for name in _SNAPSHOT})
        lanes[f"{of_message['provider']} {of_message['message_key']}"] = None
    return Event(
        row["id"],
        TYPES[row["type"] - 1],
        row["at"],
        receipt,
        message,
        tuple(lanes),
        row["r_raw"] if raw else None,
        row["message_ref"],
    )
