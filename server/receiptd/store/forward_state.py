"""How far each destination has come: read and written by its sender, by the commands and the API.

A sender holds the destination's lease, which counts by the database's clock. Whatever it writes
counts only while that is so: a lease that is lost costs repetitions, never an event.

Whoever gives an order (pause, seek, retry, ...) changes the tables and `orders`, by which the
sender sees that it has to read them again.

Longer than 300 lines because all SQL of forwarding is here, and each statement stands with the
reason for its form.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
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
    events,
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


# --- Orders


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
