"""The query parameters of each operation."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache, partial
from typing import Annotated, Any, Literal, TypeVar, get_origin
from urllib.parse import parse_qsl

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)

from receiptd.forward.filters import Filter
from receiptd.receipt import Kind, State
from receiptd.store.messages import MessageFilter
from receiptd.store.queries import ReceiptFilter, RejectionFilter
from receiptd.web.api import shapes
from receiptd.web.api.validation_errors import MOST_ERRORS, findings, summary, unknown
from receiptd.web.api.values import (
    Cursor,
    Identifier,
    Limit,
    Moment,
    Phone,
    Reason,
    Several,
    Text,
    Verdict,
    Whole,
    YesOrNo,
    one_of,
)
from receiptd.web.problem import Problem

MOST_PARAMETERS = 100
"""Parameters in one query."""

MOST_STRANGE = 10
"""Unknown parameters that are named of one request."""


_RECEIPT = tuple(shapes.Receipt.model_fields)
_REJECTED = tuple(shapes.RejectedPost.model_fields)
_MESSAGE = tuple(shapes.Message.model_fields)

ReceiptField = Annotated[
    str,
    AfterValidator(partial(one_of, _RECEIPT)),
    WithJsonSchema({"type": "string", "enum": [*_RECEIPT]}),
]
RejectedField = Annotated[
    str,
    AfterValidator(partial(one_of, _REJECTED)),
    WithJsonSchema({"type": "string", "enum": [*_REJECTED]}),
]
MessageField = Annotated[
    str,
    AfterValidator(partial(one_of, _MESSAGE)),
    WithJsonSchema({"type": "string", "enum": [*_MESSAGE]}),
]


class Query(BaseModel):
    """The query parameters of an operation: a list where one may come several times."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_enum_values=True, defer_build=True)


class Paging(Query):
    """What all lists take."""

    limit: Limit = Field(
        default=100,
        description="The most items on a page. There may be fewer, also none, where finding "
        "them takes long: only a `next` of null says that there is nothing more.",
    )
    cursor: Cursor | None = Field(
        default=None, description="Where the page begins: as `next` says it."
    )


class _WithRaw(Query):
    raw: YesOrNo = Field(default=True, description="Whether the post as it came is shown.")


_FIELDS = "Show these fields alone: several times, or with commas between them."


class ReceiptQuery(_WithRaw):
    """Of `GET receipts/{id}`."""

    fields: Several[ReceiptField] = Field(default=[], description=_FIELDS)


class RejectedPostQuery(_WithRaw):
    """Of `GET rejected/{id}`."""

    fields: Several[RejectedField] = Field(default=[], description=_FIELDS)


class MessageQuery(_WithRaw):
    """Of `GET messages/{provider}/{message_id}`."""


_SINCE = "this time or later, or since so long ago"
_UNTIL = "before this time, or longer ago"


class _Receipts(Query):
    provider: list[Text] = Field(default=[], description="From this provider.")
    endpoint: list[Text] = Field(default=[], description="Taken by the endpoint of this name.")
    kind: list[Kind] = Field(default=[], description="What is reported.")
    state: list[State] = Field(default=[], description="The message's state.")
    verdict: list[Verdict] = Field(
        default=[], description="Whether a registered message explains it."
    )
    code: list[Text] = Field(default=[], description="The provider's own code.")
    recipient: Phone | None = Field(default=None, description="The phone, in any notation.")
    reference: Text | None = Field(default=None, description="The application's own reference.")
    message_id: Identifier | None = Field(
        default=None, description="The provider's identifier of the message, in any case."
    )
    since: Moment | None = Field(default=None, description=f"Received at {_SINCE}.")
    until: Moment | None = Field(default=None, description=f"Received {_UNTIL}.")

    def wanted(self, regions: Collection[str | None]) -> ReceiptFilter:
        """The store's filter; phone numbers may be meant in these regions' national forms."""
        return ReceiptFilter(regions=regions, **_filters(self, _Receipts))


class ReceiptsQuery(_Receipts, Paging, ReceiptQuery):
    """Of `GET receipts`."""

    after: Whole | None = Field(
        default=None,
        description="Those behind the receipt of this id, oldest first; `last` is what to give as "
        "`after` the next time. Ids are in the order in which receipts are stored, so none is "
        "left out: begin with 0. It goes before `cursor`.",
    )


class StreamQuery(_Receipts):
    """Of `GET receipts/stream`."""

    types: list[Literal["receipt.stored", "receipt.adopted", "message.state"]] = Field(
        default=[],
        description="Events of these types instead of receipts: as `GET events` gives them, under "
        "their numbers. Of the filters `recipient`, `reference`, `since` and `until` are for "
        "receipts alone.",
    )
    after: Whole | None = Field(
        default=None,
        description="Begin behind the receipt of this id, with `types` behind the event of this "
        "number; the header Last-Event-ID goes before. Without either, what comes from now on.",
    )

    def events(self) -> Filter:
        """Which events are wanted, where `types` asks for some.

        :raises Problem: 422 where a filter is not for events.
        """
        for name in ("recipient", "reference", "since", "until"):
            if getattr(self, name) is not None:
                raise Problem(422, f"{name}: is for receipts alone: leave it or types out")
        return Filter(
            types=self.types,
            providers=self.provider,
            endpoints=self.endpoint,
            kinds=self.kind,
            states=self.state,
            verdicts=self.verdict,
            message=self.message_id,
        )


class MessagesQuery(Paging):
    """Of `GET messages`."""

    provider: list[Text] = Field(default=[], description="Sent through this provider.")
    state: list[State] = Field(default=[], description="The message's state.")
    final: YesOrNo | None = Field(default=None, description="Whether the state is final.")
    recipient: Phone | None = Field(default=None, description="The phone, in any notation.")
    reference: Text | None = Field(default=None, description="The application's own reference.")
    message_id: Identifier | None = Field(
        default=None, description="The provider's identifier, in any case."
    )
    since: Moment | None = Field(default=None, description=f"Registered at {_SINCE}.")
    until: Moment | None = Field(default=None, description=f"Registered {_UNTIL}.")
    fields: Several[MessageField] = Field(default=[], description=_FIELDS)

    def wanted(self, regions: Collection[str | None]) -> MessageFilter:
        """The store's filter; phone numbers may be meant in these regions' national forms."""
        return MessageFilter(regions=regions, **_filters(self, MessagesQuery))


class RejectedQuery(Paging, RejectedPostQuery):
    """Of `GET rejected`."""

    provider: list[Text] = Field(default=[], description="Of this provider.")
    endpoint: list[Text] = Field(default=[], description="Sent to the endpoint of this name.")
    reason: list[Reason] = Field(default=[], description="Why it was not taken.")
    since: Moment | None = Field(default=None, description=f"Received at {_SINCE}.")
    until: Moment | None = Field(default=None, description=f"Received {_UNTIL}.")

    def wanted(self, _regions: Collection[str | None]) -> RejectionFilter:
        """The store's filter."""
        return RejectionFilter(**_filters(self, RejectedQuery))


ListQuery = ReceiptsQuery | MessagesQuery | RejectedQuery


_NOT_FILTERS = frozenset({*Paging.model_fields, "fields", "raw", "after"})


def _filters(query: Query, model: type[Query]) -> dict[str, Any]:
    return {name: getattr(query, name) for name in model.model_fields if name not in _NOT_FILTERS}


Q = TypeVar("Q", bound=Query)


def read_query(model: type[Q], query: bytes) -> Q:
    """The parameters of a request.

    :param query: what stands behind the question mark.
    :raises Problem: 400 where it cannot be read; 422 naming each parameter that is unknown, no
        good, or there twice.
    """
    if query.count(b"&") >= MOST_PARAMETERS:
        raise Problem(400, f"the query has more than {MOST_PARAMETERS} parameters")
    try:
        pairs = parse_qsl(query.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise Problem(400, "the query is no UTF-8") from None
    given: dict[str, Any] = {}
    repeated = []
    strange: dict[str, str] = {}
    lists = _lists(model)
    for name, value in pairs:
        if name not in model.model_fields:
            if len(strange) < MOST_STRANGE and name not in strange:
                strange[name] = unknown(name, list(model.model_fields))
        elif name in lists:
            given.setdefault(name, []).append(value)
        elif name in given:
            repeated.append((name, "is there more than once"))
        else:
            given[name] = value
    try:
        found = model.model_validate(given)
    except ValidationError as error:
        wrong = [(str(path[0]), text) for path, text in findings(error)]
    else:
        if not repeated and not strange:
            return found
        wrong = []
    raise refused(list(dict.fromkeys([*repeated, *strange.items(), *wrong])))


def refused(wrong: Sequence[tuple[str, str]]) -> Problem:
    """422 for these parameters, each with what is wrong with it."""
    errors = [{"parameter": name, "detail": text} for name, text in wrong]
    return Problem(422, summary(wrong), errors=errors[:MOST_ERRORS])


@cache
def _lists(model: type[Query]) -> frozenset[str]:
    return frozenset(
        name for name, field in model.model_fields.items() if get_origin(field.annotation) is list
    )
