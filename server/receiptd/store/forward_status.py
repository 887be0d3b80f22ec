"""How the destinations are: for the commands, the API and the metrics."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from receiptd.store.event_tables import (
    event_log,
    events,
    forward_destinations,
    forward_parked,
)
from receiptd.store.forward_state import now

_destination = forward_destinations.c
_parked = forward_parked.c


class Status(NamedTuple):
    """How a destination is."""

    name: str
    state: str
    """`sending`, `paused`, `failing` (its circuit breaker is open) or `stopped` (no sender)."""
    reason: str | None
    position: int
    waiting: int
    """Events that are not dealt with; of those that were not looked at, those that its filters
    leave out count as well."""
    oldest_at: datetime | None
    """When the oldest of them happened."""
    parked: int
    dead: int
    sent: int
    last_sent_at: datetime | None
    last_error: str | None
    last_error_at: datetime | None


def statuses(connection: Connection, names: Collection[str] | None = None) -> list[Status]:
    """How the destinations are, by name; what is asked for costs the same whatever waits."""
    statement = select(
        forward_destinations, (_destination.lease_until > now(connection)).label("held")
    )
    if names is not None:
        statement = statement.where(_destination.name.in_(list(names)))
    last = connection.execute(select(event_log.c.last)).scalar_one()
    counts: dict[str, dict[str, int]] = {}
    for name, status, count in connection.execute(
        select(_parked.destination, _parked.status, func.count()).group_by(
            _parked.destination, _parked.status
        )
    ):
        counts.setdefault(name, {})[status] = count
    oldest_parked = {
        row[0]: row[1]
        for row in connection.execute(
            select(_parked.destination, func.min(_parked.event_id))
            .where(_parked.status != "dead")
            .group_by(_parked.destination)
        )
    }
    found = []
    for row in connection.execute(statement.order_by(_destination.name)):
        of = counts.get(row.name, {})
        dead = of.get("dead", 0)
        waits = sum(of.values()) - dead
        oldest = oldest_parked.get(row.name)
        if oldest is None and row.position < last:
            oldest = row.position + 1
        at = None
        if oldest is not None:
            at = connection.execute(
                select(events.c.at).where(events.c.id >= oldest).order_by(events.c.id).limit(1)
            ).scalar()
        state = "stopped"
        if row.paused:
            state = "paused"
        elif row.held:
            state = "failing" if row.breaker_open else "sending"
        found.append(
            Status(
                row.name,
                state,
                row.reason,
                row.position,
                last - row.position + waits,
                at,
                waits,
                dead,
                row.sent,
                row.last_sent_at,
                row.last_error,
                row.last_error_at,
            )
        )
    return found
