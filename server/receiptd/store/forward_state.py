"""How far each destination has come: read and written by its sender.

A sender holds the destination's lease, which counts by the database's clock. Whatever it writes
counts only while that is so: a lease that is lost costs repetitions, never an event.

What others ask is in `forward_status`, what they order in `forward_orders`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    cast,
    delete,
    func,
    literal_column,
    or_,
    select,
    update,
)

from receiptd.store.event_tables import (
    event_log,
    forward_destinations,
    forward_parked,
    forward_replays,
)

_destination = forward_destinations.c
_parked = forward_parked.c
_replay = forward_replays.c


class Place(NamedTuple):
    """What a sender goes by."""

    position: int
    paused: bool
    lease: int
    orders: int
    seeks: int


class Parked(NamedTuple):
    """A row of `forward_parked`, but for the destination."""

    event_id: int
    status: str
    """`retry`, `behind`, `again` (a dead letter to be sent once more) or `dead`."""
    holds: bool
    lanes: tuple[str, ...]
    receipt_id: int | None
    message_ref: int | None
    failures: int
    attempts: int
    first_failed_at: datetime | None
    next_at: datetime | None
    died_at: datetime | None
    error: str | None
    answer: str | None


class Progress(NamedTuple):
    """What a sender has to write."""

    position: int
    parked: Sequence[Parked] = ()
    done: Sequence[int] = ()
    """Events that were parked and are dealt with."""
    sent: int = 0
    """Events that were taken since the last time."""
    error: tuple[str, datetime] | None = None
    breaker_open: bool = False
    pause: str | None = None
    """Why it is to be paused."""
    last_sent: datetime | None = None
    replays: Sequence[tuple[int, int, int, int, bool]] = ()
    """Of each replay: its number, its position, sent and failed since, whether it is over."""


def now(connection: Connection) -> ColumnElement[float]:
    """The database's clock, in seconds since 1970."""
    if connection.dialect.name == "postgresql":
        return cast(func.extract("epoch", func.clock_timestamp()), Float)
    return literal_column("((julianday('now') - 2440587.5) * 86400.0)", Float)


def register(
    connection: Connection, names: Iterable[str], position: int | None = None
) -> list[str]:
    """Have these destinations begin, where they have not: with what comes from now on. Returns
    the names of those that are new.

    :param position: begin behind this event instead.
    """
    upsert = import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert
    added = []
    for name in names:
        row = {
            "name": name,
            "position": select(event_log.c.last).scalar_subquery()
            if position is None
            else position,
            "paused": False,
            "lease": 0,
            "lease_until": 0.0,
            "breaker_open": False,
            "sent": 0,
            "orders": 0,
            "seeks": 0,
        }
        statement = upsert(forward_destinations).values(row).on_conflict_do_nothing()
        if connection.execute(statement).rowcount:
            added.append(name)
    return added


def take_lease(connection: Connection, name: str, owner: str, seconds: float) -> Place | None:
    """Take the lease of a destination that nobody has, or that has run out; None where another
    one has it. The lease is a new one each time."""
    clock = now(connection)
    taken = connection.execute(
        update(forward_destinations)
        .where(_destination.name == name, _destination.lease_until < clock)
        .values(owner=owner, lease=_destination.lease + 1, lease_until=clock + seconds)
    )
    return _place(connection, name) if taken.rowcount else None


def _place(connection: Connection, name: str) -> Place:
    columns = [forward_destinations.c[each] for each in Place._fields]
    row = connection.execute(select(*columns).where(_destination.name == name)).one()
    return Place._make(row)._replace(paused=bool(row.paused))


def lease_is_free(connection: Connection, name: str) -> bool:
    """Whether `take_lease` may succeed, or the destination has not begun."""
    free = connection.execute(
        select(_destination.lease_until < now(connection)).where(_destination.name == name)
    ).scalar()
    return free is None or bool(free)


class Written(NamedTuple):
    """What became of a sender's progress."""

    done: bool
    """False where the position is another one by now, or the lease: nothing was written."""
    place: Place | None
    """What the sender goes by from now on; None where the lease is not its own any more."""


def write(
    connection: Connection, name: str, before: Place, progress: Progress, seconds: float
) -> Written:
    """Write how far a sender has come, and renew its lease.

    :param before: what it went by.
    """
    clock = now(connection)
    values: dict[str, Any] = {
        "position": progress.position,
        "lease_until": clock + seconds,
        "breaker_open": progress.breaker_open,
    }
    if progress.sent:
        values |= {"sent": _destination.sent + progress.sent, "last_sent_at": progress.last_sent}
    if progress.error is not None:
        values |= {"last_error": progress.error[0], "last_error_at": progress.error[1]}
    if progress.pause is not None:
        values |= {"paused": True, "reason": progress.pause, "orders": _destination.orders + 1}
    counts = connection.execute(
        update(forward_destinations)
        .where(
            _destination.name == name,
            _destination.lease == before.lease,
            _destination.seeks == before.seeks,
            _destination.lease_until > 0,
        )
        .values(values)
    ).rowcount
    if not counts:
        kept = connection.execute(
            update(forward_destinations)
            .where(
                _destination.name == name,
                _destination.lease == before.lease,
                _destination.lease_until > 0,
            )
            .values(lease_until=clock + seconds)
        ).rowcount
        return Written(False, _place(connection, name) if kept else None)
    done = list(progress.done)
    for start in range(0, len(done), 500):
        connection.execute(
            delete(forward_parked).where(
                _parked.destination == name, _parked.event_id.in_(done[start : start + 500])
            )
        )
    if progress.parked:
        upsert = import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert
        statement: Any = upsert(forward_parked)
        keys = ("destination", "event_id")
        statement = statement.on_conflict_do_update(
            index_elements=list(keys),
            set_={
                each.name: statement.excluded[each.name]
                for each in forward_parked.c
                if each.name not in keys
            },
        )
        rows = [
            {"destination": name, **each._asdict(), "lanes": json.dumps(each.lanes)}
            for each in progress.parked
        ]
        connection.execute(statement, rows)
    for number, position, sent, failed, over in progress.replays:
        connection.execute(
            update(forward_replays)
            .where(_replay.id == number, _replay.status == "running")
            .values(
                position=position,
                sent=_replay.sent + sent,
                failed=_replay.failed + failed,
                **({"status": "done", "ended_at": datetime.now(UTC)} if over else {}),
            )
        )
    return Written(True, _place(connection, name))


def release(connection: Connection, name: str, lease: int) -> None:
    """Let another one have the lease at once."""
    connection.execute(
        update(forward_destinations)
        .where(_destination.name == name, _destination.lease == lease)
        .values(lease_until=0.0, owner=None)
    )


def parked(connection: Connection, name: str, limit: int) -> list[Parked]:
    """The parked events that keep their lanes waiting, and those behind them, oldest first."""
    statement = (
        select(*_COLUMNS)
        .where(
            _parked.destination == name,
            or_(_parked.status.in_(["retry", "behind"]), _parked.holds),
        )
        .order_by(_parked.event_id)
        .limit(limit)
    )
    return [_read(row) for row in connection.execute(statement)]


def again(connection: Connection, name: str, after: int, limit: int) -> list[Parked]:
    """The dead letters that are to be sent once more, oldest first."""
    statement = (
        select(*_COLUMNS)
        .where(
            _parked.destination == name,
            _parked.status == "again",
            _parked.event_id > after,
        )
        .order_by(_parked.event_id)
        .limit(limit)
    )
    return [_read(row) for row in connection.execute(statement)]


_COLUMNS = [forward_parked.c[name] for name in Parked._fields]


def _read(row: Any) -> Parked:
    return Parked._make(row)._replace(lanes=tuple(json.loads(row.lanes)), holds=bool(row.holds))


def replays(
    connection: Connection, name: str, *, running: bool = False
) -> list[Mapping[str, Any]]:
    """The replays of a destination, oldest first."""
    statement = select(forward_replays).where(_replay.destination == name).order_by(_replay.id)
    if running:
        statement = statement.where(_replay.status == "running")
    return [dict(row) for row in connection.execute(statement).mappings()]
