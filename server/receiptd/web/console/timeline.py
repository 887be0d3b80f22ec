"""What happened to one message, in order: registered, receipts, states, and who was told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, or_, select

from receiptd.receipt import match_key, spellings
from receiptd.store.event_tables import events, forward_destinations, forward_parked
from receiptd.store.rows import time
from receiptd.store.schema import messages

MOST_STATES = 500
"""Changes of state that are shown of one message."""

MOST_PARKED = 200
"""Events that destinations have not taken, of one message."""

STATE = 3
"""The number of the event type `message.state`."""

_WAITS = {"retry": "will be tried again", "behind": "waits behind an earlier one"}


class Entry(NamedTuple):
    """Something that happened."""

    at: str
    """When, as ISO 8601; it sorts."""
    kind: str
    """`registered`, `receipt` or `state`."""
    of: Mapping[str, Any]


class Told(NamedTuple):
    """What a destination knows of the message."""

    destination: str
    words: str
    bad: bool
    error: str | None
    answer: str | None


class Timeline(NamedTuple):
    """All of it."""

    entries: Sequence[Entry]
    told: Sequence[Told]


def timeline(
    connection: Connection, provider: str, message_id: str, receipts: Sequence[Mapping[str, Any]]
) -> Timeline:
    """The story of a message. In a thread.

    :param receipts: its receipts, oldest first, as JSON has them.
    """
    key = match_key(message_id)
    columns = messages.c
    rows = connection.execute(
        select(columns.id, columns.registered_at, columns.recipient)
        .where(columns.message_key.in_([key, *spellings(key)]), columns.provider == provider)
        .order_by(columns.id)
    ).all()
    phones = {row.id: row.recipient for row in rows}
    entries = [
        Entry(time(row.registered_at) or "", "registered", {"recipient": row.recipient})
        for row in rows
    ]
    changed = (
        connection.execute(
            select(events)
            .where(events.c.message_ref.in_(list(phones)), events.c.type == STATE)
            .order_by(events.c.id)
            .limit(MOST_STATES)
        )
        .mappings()
        .all()
    )
    ends: dict[Any, str] = {}
    for row in changed:
        at = time(row["at"]) or ""
        entries.append(
            Entry(
                at,
                "state",
                {**row, "recipient": phones[row["message_ref"]] if len(phones) > 1 else None},
            )
        )
        if row["final"]:
            ends.setdefault(row["message_ref"], at)
    end = max(ends.values()) if len(ends) == len(phones) else None
    entries += [
        Entry(
            each["received_at"],
            "receipt",
            {**each, "late": end is not None and each["received_at"] > end},
        )
        for each in receipts
    ]
    order = {"registered": 0, "receipt": 1, "state": 2}
    entries.sort(key=lambda each: (each.at, order[each.kind]))
    newest = max((row["id"] for row in changed), default=None)
    return Timeline(entries, _told(connection, list(phones), receipts, newest))


def _told(
    connection: Connection,
    numbers: Sequence[int],
    receipts: Sequence[Mapping[str, Any]],
    newest: int | None,
) -> list[Told]:
    """How each destination stands to the message.

    :param numbers: the message's rows.
    :param newest: the last event about its state; None where there was none.
    """
    parked = forward_parked.c
    of: dict[str, list[Any]] = {}
    for row in connection.execute(
        select(forward_parked)
        .where(
            or_(
                parked.message_ref.in_(numbers),
                parked.receipt_id.in_([each["id"] for each in receipts[-MOST_PARKED:]]),
            )
        )
        .order_by(parked.event_id)
        .limit(MOST_PARKED)
    ):
        of.setdefault(row.destination, []).append(row)
    found = []
    for place in connection.execute(
        select(forward_destinations).order_by(forward_destinations.c.name)
    ):
        for row in of.get(place.name, ()):
            dead = row.status == "dead"
            words = (
                f"given up after {row.attempts} attempts: a dead letter"
                if dead
                else f"{_WAITS.get(row.status, 'waits')}, after {row.attempts} attempts"
            )
            found.append(Told(place.name, words, dead, row.error, row.answer))
        if place.name not in of and newest is not None:
            words = (
                "was told, or does not want to be"
                if place.position >= newest
                else "has not been told yet: earlier events come first"
            )
            found.append(Told(place.name, words, False, None, None))
    return found
