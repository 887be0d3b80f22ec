"""Forgetting a person in the tables of forwarding.

An event is a number, a type and the ids of what it is about: nothing personal. So the events stay,
and the log of events has no gap; they are about nothing any more, and no destination is told of
them. What waits for a destination about the person goes, also a dead letter. The sender is told
by `orders` to read its tables again, as with every order.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, exists, func, or_, select, update

from receiptd.forget.rows import Whom
from receiptd.store.event_tables import forward_destinations, forward_parked, forward_replays
from receiptd.store.schema import messages, receipts

_destination = forward_destinations.c
_parked = forward_parked.c


def _about(of_receipts: Collection[int], of_messages: Collection[int]) -> ColumnElement[bool]:
    # What is about somebody else's receipt stays, though it names a message that goes.
    return or_(
        _parked.receipt_id.in_(list(of_receipts)),
        _parked.receipt_id.is_(None) & _parked.message_ref.in_(list(of_messages)),
    )


def count(
    connection: Connection, of_receipts: Collection[int] = (), of_messages: Collection[int] = ()
) -> int:
    """How much waits, or is a dead letter, about these."""
    statement = select(func.count()).select_from(forward_parked)
    found: int = connection.execute(statement.where(_about(of_receipts, of_messages))).scalar_one()
    return found


def drop(
    connection: Connection, of_receipts: Collection[int] = (), of_messages: Collection[int] = ()
) -> int:
    """Delete what waits, or is a dead letter, about these; returns how much that was."""
    return _drop(connection, _about(of_receipts, of_messages))


def drop_orphans(connection: Connection) -> int:
    """Delete what waits about what is not there any more: a sender may have put off an event
    while what it is about was deleted."""
    receipt = exists().where(receipts.c.id == _parked.receipt_id)
    message = exists().where(messages.c.id == _parked.message_ref)
    return _drop(
        connection,
        or_(
            _parked.receipt_id.is_not(None) & ~receipt,
            _parked.receipt_id.is_(None) & _parked.message_ref.is_not(None) & ~message,
        ),
    )


def _drop(connection: Connection, condition: ColumnElement[bool]) -> int:
    found = connection.execute(
        select(_parked.destination, _parked.event_id).where(condition)
    ).all()
    if found:
        connection.execute(delete(forward_parked).where(condition))
        _order(connection, {row.destination for row in found})
    return len(found)


def _order(connection: Connection, names: Collection[str]) -> None:
    connection.execute(
        update(forward_destinations)
        .where(_destination.name.in_(sorted(names)))
        .values(orders=_destination.orders + 1)
    )


def mentions(connection: Connection, whom: Whom) -> list[Any]:
    """Statements that blank what destinations have answered, and what else people read there, as
    far as it mentions the person."""
    person = whom.person
    found: list[Any] = []
    for row in connection.execute(select(forward_parked)).mappings():
        changes = {
            name: person.blanked_text(row[name])
            for name in ("error", "answer", "lanes")
            if person.within(row[name])
        }
        if changes:
            found.append(
                update(forward_parked)
                .where(
                    _parked.destination == row["destination"], _parked.event_id == row["event_id"]
                )
                .values(**changes)
            )
            found.append(
                update(forward_destinations)
                .where(_destination.name == row["destination"])
                .values(orders=_destination.orders + 1)
            )
    for table, names in (
        (forward_destinations, ("last_error", "reason")),
        (forward_replays, ("wanted",)),
    ):
        key = next(iter(table.primary_key))
        for row in connection.execute(select(table)).mappings():
            changes = {
                name: person.blanked_text(row[name]) for name in names if person.within(row[name])
            }
            if changes:
                found.append(update(table).where(key == row[key.name]).values(**changes))
    return found
