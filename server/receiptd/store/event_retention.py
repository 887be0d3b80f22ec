"""What retention has to leave, since a destination has not been told of it yet.

Behind the position of the destination that is furthest back every event is needed, and of those
before it the ones that are parked or dead letters. The conditions are for statements that delete,
so that they hold in the very transaction.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, exists, func, literal_column, select

from receiptd.store.event_tables import STORED, events, forward_destinations, forward_parked
from receiptd.store.schema import messages, receipts

_LARGEST: ColumnElement[int] = literal_column(str(2**62))


def _position() -> ColumnElement[int]:
    """The event up to which all destinations are told; NULL where there is none."""
    return select(func.min(forward_destinations.c.position)).scalar_subquery()


def event_is_free() -> ColumnElement[bool]:
    """Whether nobody needs an event any more."""
    parked = exists().where(forward_parked.c.event_id == events.c.id)
    return (events.c.id <= func.coalesce(_position(), _LARGEST)) & ~parked


def receipt_is_free() -> ColumnElement[bool]:
    """Whether nobody needs a receipt any more."""
    first = (
        select(events.c.receipt_id)
        .where(events.c.id > _position(), events.c.type == STORED)
        .order_by(events.c.id)
        .limit(1)
        .scalar_subquery()
    )
    # As the partial index says it, so that it is used.
    adopted = exists().where(
        literal_column("events.type = 2"),
        events.c.receipt_id == receipts.c.id,
        events.c.id > _position(),
    )
    parked = exists().where(forward_parked.c.receipt_id == receipts.c.id)
    return (receipts.c.id < func.coalesce(first, _LARGEST)) & ~adopted & ~parked


def message_is_free() -> ColumnElement[bool]:
    """Whether nobody needs a message any more."""
    state = exists().where(
        literal_column("events.type = 3"),
        events.c.message_ref == messages.c.id,
        events.c.id > _position(),
    )
    parked = exists().where(forward_parked.c.message_ref == messages.c.id)
    return ~state & ~parked
