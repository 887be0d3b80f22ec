"""Orders to senders, by the commands and the API: pause, seek, retry and so on.

Whoever gives one changes the tables and `orders`, by which the sender sees that it has to read
them again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select, update

from receiptd.store.event_tables import (
    event_log,
    events,
    forward_destinations,
    forward_parked,
    forward_replays,
)

_destination = forward_destinations.c
_parked = forward_parked.c
_replay = forward_replays.c


class NoDestination(Exception):
    """There is none of that name."""


def check(connection: Connection, name: str) -> None:
    """:raises NoDestination: where there is none of that name."""
    if connection.execute(select(1).where(_destination.name == name)).first() is None:
        raise NoDestination(name)


def _order(connection: Connection, name: str, **values: Any) -> None:
    changed = connection.execute(
        update(forward_destinations)
        .where(_destination.name == name)
        .values(orders=_destination.orders + 1, **values)
    ).rowcount
    if not changed:
        raise NoDestination(name)


def pause(connection: Connection, name: str, reason: str) -> None:
    """Send nothing more until `resume`.

    :raises NoDestination: as all orders do.
    """
    _order(connection, name, paused=True, reason=reason)


def resume(connection: Connection, name: str) -> None:
    """Go on."""
    _order(connection, name, paused=False, reason=None)


def seek(connection: Connection, name: str, since: datetime | None) -> int:
    """Go on with what happened at `since` (aware) or later, None: with what comes from now on.
    Returns the new position. What is parked of before stays; what is parked of behind it is read
    again from the log."""
    last: int = connection.execute(select(event_log.c.last)).scalar_one()
    position = last if since is None else _before(connection, since, last)
    _order(connection, name, position=position, seeks=_destination.seeks + 1)
    connection.execute(
        delete(forward_parked).where(
            _parked.destination == name,
            _parked.event_id > position,
            _parked.status.in_(["retry", "behind"]),
        )
    )
    return position


def _before(connection: Connection, since: datetime, last: int) -> int:
    """The event behind which the first one is that happened at `since` or later. Ids are in the
    order of time but for a clock that was set back, and for what came by way of the spool."""
    low = connection.execute(select(func.min(events.c.id))).scalar()
    if low is None:
        return last
    low, high = int(low) - 1, last
    # The first event at or after a number, by halving: the log may hold millions.
    while high - low > 1000:
        middle = (low + high) // 2
        at = connection.execute(
            select(events.c.at).where(events.c.id >= middle).order_by(events.c.id).limit(1)
        ).scalar()
        if at is None or at >= since:
            high = middle
        else:
            low = middle
    found = connection.execute(
        select(func.min(events.c.id)).where(events.c.id > low, events.c.at >= since)
    ).scalar()
    return int(found) - 1 if found is not None else last


def forget(connection: Connection, name: str) -> None:
    """Forget a destination: its place, its dead letters, its replays."""
    if not connection.execute(
        delete(forward_destinations).where(_destination.name == name)
    ).rowcount:
        raise NoDestination(name)
    connection.execute(delete(forward_parked).where(_parked.destination == name))
    connection.execute(delete(forward_replays).where(_replay.destination == name))


class DeadFilter(NamedTuple):
    """Which dead letters are meant: those that fit all that is set."""

    ids: Collection[int] = ()
    since: datetime | None = None
    """Died at this time (aware) or later."""
    error: str | None = None
    """In whose error this text occurs."""


def _dead(name: str | None, wanted: DeadFilter) -> list[ColumnElement[bool]]:
    conditions = [_parked.status == "dead"]
    if name is not None:
        conditions.append(_parked.destination == name)
    if wanted.ids:
        conditions.append(_parked.event_id.in_(list(wanted.ids)))
    if wanted.since is not None:
        conditions.append(_parked.died_at >= wanted.since)
    if wanted.error is not None:
        conditions.append(_parked.error.contains(wanted.error, autoescape=True))
    return conditions


def dead(
    connection: Connection,
    name: str | None,
    wanted: DeadFilter,
    *,
    limit: int,
    after: tuple[str, int] | None = None,
) -> list[Mapping[str, Any]]:
    """Dead letters, by destination and event.

    :param after: begin behind this destination and event.
    """
    statement = select(forward_parked).where(*_dead(name, wanted))
    if after is not None:
        statement = statement.where(
            or_(
                _parked.destination > after[0],
                (_parked.destination == after[0]) & (_parked.event_id > after[1]),
            )
        )
    statement = statement.order_by(_parked.destination, _parked.event_id).limit(limit)
    return [dict(row) for row in connection.execute(statement).mappings()]


TURN = 500
"""Dead letters that an order changes at once: it is repeated until it changes fewer."""


def _some_dead(connection: Connection, name: str, wanted: DeadFilter) -> ColumnElement[bool]:
    _order(connection, name)
    numbers = connection.scalars(
        select(_parked.event_id).where(*_dead(name, wanted)).order_by(_parked.event_id).limit(TURN)
    )
    return (_parked.destination == name) & _parked.event_id.in_(list(numbers))


def retry(connection: Connection, name: str, wanted: DeadFilter) -> int:
    """Send dead letters once more, from the beginning of their schedule; how many, at most
    `TURN`."""
    values = {
        "failures": 0,
        "first_failed_at": None,
        "next_at": datetime.now(UTC),
        "died_at": None,
    }
    some = _some_dead(connection, name, wanted)
    held = connection.execute(
        update(forward_parked)
        .where(some, _parked.holds)
        .values(status="retry", holds=False, **values)
    ).rowcount
    return (
        held
        + connection.execute(
            update(forward_parked)
            .where(some, _parked.status == "dead")
            .values(status="again", **values)
        ).rowcount
    )


def discard(connection: Connection, name: str, wanted: DeadFilter) -> int:
    """Forget dead letters; how many, at most `TURN`. Where they held their lanes, these go on."""
    some = _some_dead(connection, name, wanted)
    return connection.execute(delete(forward_parked).where(some)).rowcount


def begin_replay(
    connection: Connection,
    name: str,
    wanted: Mapping[str, Any],
    position: int,
    until: int,
    rate: float,
) -> int:
    """Tell again the events behind `position` up to `until` that fit; the replay's number.

    :param wanted: what `forward.filters` reads, as JSON has it.
    :param rate: events per second, 0: as many as are taken.
    """
    _order(connection, name)
    statement = forward_replays.insert().values(
        destination=name,
        created_at=datetime.now(UTC),
        wanted=json.dumps(wanted),
        position=position,
        until=until,
        rate=rate,
        sent=0,
        failed=0,
        status="running",
    )
    key = connection.execute(statement).inserted_primary_key
    assert key is not None
    return int(key[0])


def cancel_replay(connection: Connection, name: str, number: int) -> bool:
    """End a replay; whether it was running."""
    _order(connection, name)
    return bool(
        connection.execute(
            update(forward_replays)
            .where(_replay.destination == name, _replay.id == number, _replay.status == "running")
            .values(status="cancelled", ended_at=datetime.now(UTC))
        ).rowcount
    )


def span(
    connection: Connection, since: datetime | None, until: datetime | None
) -> tuple[int, int]:
    """The events of a time: the one before the first, and the last."""
    last: int = connection.execute(select(event_log.c.last)).scalar_one()
    start = _before(connection, since, last) if since is not None else 0
    return start, _before(connection, until, last) if until is not None else last
