"""What the API offers about events and destinations."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from receiptd.config.errors import expected
from receiptd.forward.events import TYPES
from receiptd.receipt import State
from receiptd.web.api import forward_shapes as shapes
from receiptd.web.api.operation import Operation
from receiptd.web.api.parameters import Query
from receiptd.web.api.values import Limit, Moment, Text, Whole, YesOrNo, moment


def _type(value: object) -> object:
    if value not in TYPES:
        raise ValueError(f"{str(value)[:60]!r} is no event type: {expected(str(value), TYPES)}")
    return value


EventType = Annotated[
    str,
    BeforeValidator(_type),
    WithJsonSchema({"type": "string", "enum": list(TYPES)}),
]


def _to(value: object) -> object:
    return None if value == "latest" else moment(value)


Target = Annotated[
    Any,
    BeforeValidator(_to),
    WithJsonSchema(
        {
            "type": "string",
            "anyOf": [
                {"const": "latest"},
                {"format": "date-time"},
                {"pattern": "^([0-9]{1,4}[smhd]|[0-9]{1,3}w)$"},
            ],
        }
    ),
]


def _rate(value: object) -> object:
    try:
        rate = float(str(value))
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 100_000:
        raise ValueError("expected a number from 0 to 100000")
    return rate


class EventsQuery(Query):
    """Of `GET events`."""

    after: Whole = Field(default=0, description="Begin behind the event of this number.")
    limit: Limit = Field(default=100, description="The most events on a page.")
    types: list[EventType] = Field(default=[], description="Of these types alone.")


class DeadQuery(Query):
    """Of `GET dead`."""

    limit: Limit = Field(default=100, description="The most items on a page.")
    after: Whole = Field(default=0, description="Begin behind the event of this number.")
    since: Moment | None = Field(default=None, description="Died at this time or later.")
    error: Text | None = Field(default=None, description="In whose error this text occurs.")


class DeadOrder(Query):
    """Of `POST dead/retry` and `POST dead/discard`."""

    event: list[Whole] = Field(default=[], max_length=90, description="Those of these events.")
    all: YesOrNo = Field(default=False, description="All of them.")
    since: Moment | None = Field(default=None, description="Died at this time or later.")
    error: Text | None = Field(default=None, description="In whose error this text occurs.")


class SeekQuery(Query):
    """Of `POST seek`."""

    to: Target = Field(description="A time, an age, or latest.")


class ReplayOrder(Query):
    """Of `POST replays`."""

    since: Moment = Field(description="What happened at this time or later.")
    until: Moment | None = Field(default=None, description="What happened before this time.")
    provider: list[Text] = Field(default=[], description="Of these providers.")
    state: list[State] = Field(default=[], description="Of these states.")
    types: list[EventType] = Field(default=[], description="Of these event types.")
    message: Text | None = Field(default=None, description="About the message of this identifier.")
    rate: Annotated[
        float,
        BeforeValidator(_rate),
        WithJsonSchema({"type": "number", "minimum": 0, "maximum": 100_000}),
    ] = Field(default=0.0, description="Events per second; 0: as many as are taken.")


_ROOT = "/api/v1/forward"

FORWARD_OPERATIONS = (
    Operation(
        "list_events",
        "GET",
        "/api/v1/events",
        "Ask for events rather than be told them: oldest first, complete and without gaps. Go on "
        "with after=`last`. They are kept for as long as receipts are (store.keep).",
        shapes.Events,
        EventsQuery,
        statuses=(410,),
    ),
    Operation(
        "list_destinations",
        "GET",
        _ROOT,
        "Say how each destination is.",
        shapes.ForwardDestinations,
    ),
    Operation(
        "pause_destination",
        "POST",
        f"{_ROOT}/{{name}}/pause",
        "Send nothing more to a destination; what comes waits.",
        shapes.Ordered,
        scope="write",
        statuses=(404,),
    ),
    Operation(
        "resume_destination",
        "POST",
        f"{_ROOT}/{{name}}/resume",
        "Send to a destination again, beginning with what has waited.",
        shapes.Ordered,
        scope="write",
        statuses=(404,),
    ),
    Operation(
        "seek_destination",
        "POST",
        f"{_ROOT}/{{name}}/seek",
        "Have a destination go on with what happened at a time, or with what comes now.",
        shapes.Ordered,
        SeekQuery,
        scope="write",
        statuses=(404,),
    ),
    Operation(
        "forget_destination",
        "POST",
        f"{_ROOT}/{{name}}/forget",
        "Forget a destination that is not configured any more: its place, its dead letters and "
        "its replays.",
        shapes.Ordered,
        scope="write",
        statuses=(404, 409),
    ),
    Operation(
        "try_destination",
        "POST",
        f"{_ROOT}/{{name}}/test",
        "Send a made-up event, of the type `test`, to a destination.",
        shapes.Tried,
        scope="write",
        statuses=(404,),
    ),
    Operation(
        "list_dead_letters",
        "GET",
        f"{_ROOT}/{{name}}/dead",
        "List what a destination has not taken.",
        shapes.DeadLetters,
        DeadQuery,
        statuses=(404,),
    ),
    Operation(
        "retry_dead_letters",
        "POST",
        f"{_ROOT}/{{name}}/dead/retry",
        "Send dead letters again.",
        shapes.Ordered,
        DeadOrder,
        scope="write",
        statuses=(404,),
    ),
    Operation(
        "discard_dead_letters",
        "POST",
        f"{_ROOT}/{{name}}/dead/discard",
        "Give dead letters up for good; their receipts stay stored.",
        shapes.Ordered,
        DeadOrder,
        scope="write",
        statuses=(404,),
    ),
    Operation(
        "list_replays",
        "GET",
        f"{_ROOT}/{{name}}/replays",
        "List what a destination was told again.",
        shapes.Replays,
        statuses=(404,),
    ),
    Operation(
        "begin_replay",
        "POST",
        f"{_ROOT}/{{name}}/replays",
        "Tell a destination again what has happened, under the same ids.",
        shapes.Ordered,
        ReplayOrder,
        scope="write",
        statuses=(404,),
    ),
    Operation(
        "cancel_replay",
        "POST",
        f"{_ROOT}/{{name}}/replays/{{id}}/cancel",
        "End a replay.",
        shapes.Ordered,
        scope="write",
        statuses=(404,),
    ),
)
