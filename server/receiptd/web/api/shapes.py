"""What the API answers with, for its OpenAPI document; `receipt_json` and its like make it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from receiptd.receipt import Kind, State
from receiptd.web.api.values import Reason, Verdict

Price = Annotated[str, WithJsonSchema({"type": "string", "pattern": r"^[+-]?[0-9.E+-]+$"})]
Link = Annotated[str, WithJsonSchema({"type": "string", "format": "uri"})]


class Shape(BaseModel):
    """All keys are always there."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


class Receipt(Shape):
    """One report about one message, as a provider's post said it."""

    id: int = Field(description="Grows in the order in which receipts are stored.")
    received_at: datetime
    endpoint: str = Field(description="The name of the endpoint that took the post.")
    provider: str
    kind: Kind
    message_id: str | None = Field(description="The provider's identifier, as it was sent.")
    state: State
    code: str | None = Field(description="The provider's own code.")
    description: str | None
    recipient: str | None = Field(description="The phone, as it was sent.")
    sender: str | None
    reference: str | None
    reported_at: datetime | None = Field(description="When it happened, as the provider says.")
    part: int | None
    parts: int | None
    price: Price | None
    network: str | None = Field(description="Mobile country code and network code.")
    text: str | None = Field(description="What a subscriber wrote.")
    extra: dict[str, Any] = Field(description="What else was sent.")
    unread: list[str] = Field(
        description="The fields whose values could not be read: they are in `extra` as they came."
    )
    raw: str = Field(description="The post as it came, credentials and tokens blanked.")
    verdict: Verdict = Field(description="Whether a registered message explains it.")
    repeats: int = Field(description="How often the same receipt came again.")


class _State(Shape):
    recipient: str | None
    sender: str | None
    reference: str | None
    parts: int | None = Field(description="How many parts it has, as far as is known.")
    delivered: int = Field(description="How many parts are delivered.")
    state: State
    final: bool = Field(description="Whether no later state is expected.")
    state_at: datetime | None = Field(description="Since when; null as long as nothing is known.")
    price: Price | None
    sent_at: datetime | None = Field(description="When it was sent, as it was registered.")
    gave_up_at: datetime | None = Field(
        description="When it was given up: it has had no final state for `unfinished_after`, and "
        "is final since then. Receipts that come later still count."
    )
    registered_at: datetime


class Recipient(_State):
    """One recipient's state, of a message that has several."""


class Message(_State):
    """A message to one recipient."""

    provider: str
    message_id: str


class MessageWithReceipts(Message):
    """A message with its timeline. Where the identifier has several recipients, the top level
    sums them up."""

    model_config = ConfigDict(
        json_schema_extra=lambda schema: schema["required"].remove("recipients")
    )

    recipients: list[Recipient] = Field(
        description="Where there are several: each with a state of its own."
    )
    receipts: list[Receipt] = Field(
        description="Oldest first: those matched with the message, and those of its identifier "
        "that were matched with none."
    )
    receipts_complete: bool = Field(description="Whether these are all; else the newest.")


class RejectedPost(Shape):
    """A post that was not taken as a receipt."""

    id: int
    received_at: datetime
    endpoint: str
    provider: str
    reason: Reason
    field: str | None = Field(description="The field that was wrong.")
    text: str
    peer: str | None = Field(description="The address that it came from.")
    content_type: str | None
    raw: str = Field(description="The post as it came, credentials and tokens blanked.")


class _Page(Shape):
    next: Link | None = Field(description="The next page; null where nothing more is there.")


class Receipts(_Page):
    """A page of receipts, newest first; with `after`, oldest first."""

    model_config = ConfigDict(
        json_schema_extra=lambda schema: schema["properties"]["last"].pop("default")
    )

    items: list[Receipt]
    last: int = Field(
        default=0,
        description="Where `after` was given: the id up to which receipts were looked at.",
    )


class Messages(_Page):
    """A page of messages, one for each recipient, newest first."""

    items: list[Message]


class RejectedPosts(_Page):
    """A page of rejected posts, newest first."""

    items: list[RejectedPost]


class RetriedReceipt(Shape):
    """A receipt that a rejected post has become."""

    message_id: str | None
    recipient: str | None
    state: State
    verdict: Annotated[
        str,
        WithJsonSchema(
            {
                "type": "string",
                "enum": ["accepted", "duplicate", "unknown-message", "wrong-recipient"],
            }
        ),
    ] = Field(description="`duplicate`: it had been stored already.")
    text: str


class Retried(Shape):
    """What became of a rejected post that was tried again."""

    id: int
    result: Annotated[
        str,
        WithJsonSchema(
            {"type": "string", "enum": ["stored", "partly", "ignored", "rejected"]},
        ),
    ] = Field(
        description="`stored`: it has left the list. `partly`: some of its items have; the others "
        "are on the list, each for itself. `ignored`: it is no receipt and needs to be none; it "
        "stays. `rejected`: it stays."
    )
    text: str = Field(description="Why it, or a part of it, is still rejected.")
    receipts: list[RetriedReceipt]


class Deleted(Shape):
    """What was deleted."""

    id: int


class RegisteredMessage(Shape):
    """What became of a message that was registered."""

    provider: str
    message_id: str
    recipient: str | None
    result: Annotated[
        str,
        WithJsonSchema({"type": "string", "enum": ["registered", "updated", "unchanged"]}),
    ] = Field(description="`unchanged`: it was registered before; `updated`: with other details.")


class Registered(Shape):
    """What became of each message, in the order of the request."""

    items: list[RegisteredMessage]


class Finding(BaseModel):
    """What is wrong with one parameter or one value."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    detail: str
    parameter: str = Field(default="", description="The query parameter's name.")
    pointer: str = Field(default="", description="Where in the body: a JSON pointer (RFC 6901).")


class Problem(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    type: str
    title: str
    status: int
    detail: str = Field(description="What was wrong, with which value, and what to do.")
    errors: list[Finding] = Field(default=[], description="Findings one by one.")
