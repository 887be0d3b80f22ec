"""Under what a receipt or a message is counted in the statistics: depends on its row alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from receiptd.receipt import Kind, State
from receiptd.store.delivery_times import bucket


class Finished(NamedTuple):
    """What a finished message is counted under."""

    hour: object
    provider: str
    network: str
    state: str
    bucket: int


def hour_of(at: Any) -> Any:
    """The hour of a time as the database has it: ISO text on SQLite, else a datetime in UTC."""
    if isinstance(at, str):
        return at[:13] + ":00:00.000000Z"
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def finished(row: Any) -> Finished | None:
    """What a row of `messages` is counted under; None as long as it is not finished. It depends on
    nothing but the row, so that what was counted can be taken back."""
    if not row.final:
        return None
    return finished_as(row, State(row.state), row.state_at, row.network)


def finished_as(row: Any, state: State, state_at: Any, network: str | None) -> Finished:
    """What `finished` says once the row is final and has this state, since then, and network."""
    ended = state_at if state.final else row.gave_up_at
    begun = row.sent_at or row.registered_at
    return Finished(
        hour_of(row.registered_at),
        row.provider,
        network or "",
        state.value,
        bucket(_read(begun), _read(ended)) if ended is not None else 0,
    )


def _read(at: str | datetime) -> datetime:
    return datetime.fromisoformat(at) if isinstance(at, str) else at


def phone_of(kind: str, recipient_key: str | None, sender_key: str | None) -> str | None:
    """The number of the phone: that of whom a message went to, or who replied."""
    return sender_key if kind == Kind.REPLY else recipient_key
