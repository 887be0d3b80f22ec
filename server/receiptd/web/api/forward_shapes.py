"""What the API answers with about forwarding, for its OpenAPI document."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from receiptd.forward.events import TYPES

Type = Annotated[str, WithJsonSchema({"type": "string", "enum": list(TYPES)})]


class _Shape(BaseModel):
    """All keys are always there."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


class EventData(_Shape):
    """What an event is about."""

    receipt: dict[str, Any] | None = Field(
        description="The receipt without `raw`; null for message.state, and where store.keep or "
        "`receiptd forget` has deleted it since."
    )
    message: dict[str, Any] | None = Field(
        description="The message to this recipient as it was then, without its receipts; null "
        "where none is registered."
    )


class Event(_Shape):
    """One thing to tell, as destinations are told it."""

    number: int = Field(description="In the order of the commits, without a gap: for `after`.")
    id: str = Field(description="The webhook-id under which destinations are told it.")
    type: Type
    timestamp: datetime
    data: EventData


class Events(_Shape):
    """Events, oldest first."""

    items: list[Event]
    last: int = Field(description="The number of the last one: what to go on behind.")
    next: str | None = Field(description="The next page; null where nothing more is there now.")


class ForwardDestination(_Shape):
    """How a destination is."""

    name: str
    state: str = Field(description="sending, failing, paused or stopped.")
    reason: str | None = Field(description="Why it is paused.")
    configured: bool
    waiting: int = Field(
        description="Events that are not dealt with; of what was not looked at, those that its "
        "filters leave out count as well."
    )
    oldest_at: datetime | None
    lag_seconds: float
    sent: int
    dead: int
    last_sent_at: datetime | None
    last_error: str | None
    last_error_at: datetime | None


class ForwardDestinations(_Shape):
    """All destinations."""

    items: list[ForwardDestination]


class DeadLetter(_Shape):
    """An event that a destination has not taken."""

    destination: str
    event: int
    receipt: int | None
    died_at: datetime | None
    first_failed_at: datetime | None
    attempts: int
    holds: bool = Field(description="Whether its message waits for it (on_dead = hold).")
    error: str | None
    answer: str | None = Field(description="What the destination last answered.")


class DeadLetters(_Shape):
    """Dead letters of a destination, by event."""

    items: list[DeadLetter]
    next: str | None


class Replay(_Shape):
    """Something that is told again."""

    id: int
    destination: str
    created_at: datetime
    ended_at: datetime | None
    wanted: dict[str, Any]
    status: str = Field(description="running, done or cancelled.")
    position: int
    until: int
    rate: float
    sent: int
    failed: int


class Replays(_Shape):
    """The replays of a destination, oldest first."""

    items: list[Replay]


class Ordered(_Shape):
    """What an order has changed."""

    destination: str
    text: str
    count: int | None = Field(description="How many dead letters it was about.")
    position: int | None = Field(description="The event behind which it goes on.")
    replay: int | None = Field(description="The number of the replay.")


class Tried(_Shape):
    """What became of a made-up event."""

    taken: bool
    error: str | None
    answer: str | None
