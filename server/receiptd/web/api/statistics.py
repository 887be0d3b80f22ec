"""`GET /api/v1/statistics`: its parameters, its shape, and the answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema
from sqlalchemy import Engine

from receiptd.errors import did_you_mean
from receiptd.providers.values import shown
from receiptd.receipt import Kind, State
from receiptd.store.statistics_queries import DIMENSIONS, LABELS, StatisticsFilter, TooMuch
from receiptd.store.statistics_queries import statistics as read_statistics
from receiptd.web.api.bodies import encoded
from receiptd.web.api.known_names import Names
from receiptd.web.api.parameters import Query, refused
from receiptd.web.api.shapes import Shape
from receiptd.web.api.values import Moment, Reason, Text, Verdict

_DAY = timedelta(days=1)


def _by(value: object) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(str(value).split(",")))
    for name in found:
        if name not in DIMENSIONS:
            raise ValueError(f"{shown(name)} is nothing to add up by: {_remedy(name)}")
    return found


def _remedy(name: str) -> str:
    return did_you_mean(name, DIMENSIONS)


_WORDS = "|".join(DIMENSIONS)

By = Annotated[
    tuple[str, ...],
    BeforeValidator(_by),
    WithJsonSchema({"type": "string", "pattern": f"^({_WORDS})(,({_WORDS}))*$"}),
]


class StatisticsQuery(Query):
    """Of `GET statistics`."""

    since: Moment | None = Field(
        default=None,
        description="From the hour of this time on, or since so long ago. Without it, a day.",
    )
    until: Moment | None = Field(
        default=None, description="Hours that begin before this time. Without it, until now."
    )
    by: By | None = Field(
        default=None,
        description="What to add up by: names with commas between them. Without it, the sum.",
    )
    provider: list[Text] = Field(default=[], description="Of this provider.")
    endpoint: list[Text] = Field(default=[], description="Of the endpoint of this name.")
    kind: list[Kind] = Field(default=[], description="What is reported.")
    network: list[Text] = Field(default=[], description="Mobile country code and network code.")
    state: list[State] = Field(default=[], description="The receipt's state, or the message's.")
    code: list[Text] = Field(default=[], description="The provider's own code.")
    verdict: list[Verdict] = Field(
        default=[], description="Whether a registered message explains the receipt."
    )
    reason: list[Reason] = Field(default=[], description="Why a post was rejected.")

    def wanted(self) -> StatisticsFilter:
        """The store's filter."""
        until = self.until or datetime.now(UTC)
        try:
            since = self.since or until - _DAY
        except OverflowError:
            since = until
        only = {name: getattr(self, name) for name in LABELS}
        return StatisticsFilter(
            since=since,
            until=until,
            by=self.by or (),
            only={name: values for name, values in only.items() if values},
        )


def answer(
    engine: Engine, wanted: StatisticsFilter, names: Names, strange: list[tuple[str, str]]
) -> bytes:
    """The body. In a thread.

    :param strange: the names asked for that the configuration does not know.
    :raises Problem: 422 where that would be too much, or nothing has such a name.
    """
    with engine.connect() as connection:
        try:
            found = read_statistics(connection, wanted)
        except TooMuch as error:
            raise refused([("by", str(error))]) from None
    total = found["total"]
    if strange and not any(total[name] for name in ("receipts", "messages", "rejected")):
        raise refused([(parameter, names.unknown(parameter, name)) for parameter, name in strange])
    return encoded(found)


# --- What is answered


_Count = Annotated[int | None, Field(ge=0)]


class Sums(Shape):
    """What was counted. A number is null where it is not counted by what was asked for: messages
    have no endpoint, kind, code or verdict, and rejected posts only an endpoint and a reason."""

    receipts: _Count = Field(description="Receipts that were stored, each once.")
    receipts_delivered: _Count = Field(description="Of kind `sent` or `delivery`: DELIVERED.")
    receipts_failed: _Count = Field(description="The same, with another final state.")
    receipts_pending: _Count = Field(description="The same, without a final state.")
    receipts_mismatched: _Count = Field(description="No registered message explains them.")
    messages: _Count = Field(
        description="Messages that are finished, in the hour of their registration."
    )
    messages_delivered: _Count
    messages_given_up: _Count = Field(description="Finished without a final state.")
    rejected: _Count = Field(description="Posts that were not taken as receipts.")
    delivery_rate: float | None = Field(
        description="From 0 to 1: of finished messages, or where there are none of receipts "
        "with a final state."
    )
    delivery_rate_of: Annotated[
        str | None, WithJsonSchema({"enum": ["messages", "receipts", None]})
    ]
    p50_seconds: float | None = Field(
        description="In what time half of the messages were delivered, within 10 %; of a group "
        "by state, had that state."
    )
    p95_seconds: float | None
    p99_seconds: float | None


class Group(Sums):
    """What was counted of one group, behind what it was added up by."""

    day: str | None = Field(default=None, description="In UTC.")
    hour: datetime | None = Field(default=None, description="Its beginning.")
    endpoint: str | None = None
    provider: str | None = None
    kind: str | None = None
    network: str | None = Field(
        default=None,
        description="As the provider named it; `(other)` where an hour has too many.",
    )
    country: str | None = Field(
        default=None,
        description="Where the provider named no network: by the phone number (ISO 3166).",
    )
    operator: str | None = Field(
        default=None, description="The same: to whom the number was given. Numbers are ported."
    )
    state: str | None = None
    code: str | None = None
    verdict: str | None = None
    reason: str | None = None


class Statistics(Shape):
    """What was counted, hour by hour, whatever was deleted since."""

    since: datetime = Field(description="The first hour.")
    until: datetime
    by: list[str]
    items: list[Group]
    total: Sums
    complete: bool = Field(
        description="False as long as what an older version stored is still being counted."
    )
