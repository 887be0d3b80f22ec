"""`[[forward]]`: a destination that receipts are handed on to."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)

from receiptd import providers
from receiptd.config.errors import Finding, Misfit, expected, findings
from receiptd.config.forward_values import (
    VERDICTS,
    Headers,
    Name,
    Secrets,
    Span,
    Words,
    secret_key,
    words_of,
)
from receiptd.config.kinds import Network, one_or_many
from receiptd.forward import destinations
from receiptd.forward.events import TYPES
from receiptd.receipt import Kind, State

SHORTEST_KEY = 24
"""Bytes of a secret that Standard Webhooks asks for at least."""

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Forward(BaseModel):
    """`[[forward]]`: a destination. Keys beyond the ones here are those of its kind (its
    `Options`)."""

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)

    name: Name = Field(
        description="What the destination is called: small letters, digits and hyphens. Its place "
        "in what is to be told is kept under this name, and metrics have it as a label.",
        examples=["app"],
    )
    url: str = Field(
        repr=False,  # a broker's may have a password in it
        description="Where events go: https://… is a webhook; amqps://… (RabbitMQ), kafka://… and "
        "tls://… or nats://… (NATS JetStream) are brokers, which have keys of their own.",
        examples=["https://app.example.com/receipts"],
    )
    secret: Secrets = Field(
        default=[],
        description="Signs what is sent, by Standard Webhooks: base64, with whsec_ in "
        "front if you like. Of a list all sign, so that the secret can be changed without a "
        'gap. To make one: echo "whsec_$(openssl rand -base64 32)"',
        examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )
    types: Annotated[Words, words_of(TYPES, "event type")] = Field(
        default=list(TYPES),
        min_length=1,
        description=f"What is told: some of {', '.join(TYPES)}.",
        examples=[["receipt.stored"]],
    )
    providers: Words = Field(
        default=[],
        description="Only what is about messages of these providers.",
        examples=[["csoft"]],
    )
    endpoints: Words = Field(
        default=[],
        description="Only receipts that came to the endpoints of these names. message.state is of "
        "no endpoint, and passes; so it does with `kinds` and `verdicts`.",
        examples=[["soap"]],
    )
    kinds: Annotated[Words, words_of(Kind, "kind of receipt")] = Field(
        default=[],
        description=f"Only receipts of these kinds: {', '.join(Kind)}.",
        examples=[["delivery"]],
    )
    states: Annotated[Words, words_of(State, "state")] = Field(
        default=[],
        description="Only receipts of these states, and messages that come to one of them: "
        f"{', '.join(State)}.",
        examples=[["DELIVERED", "UNDELIVERABLE"]],
    )
    verdicts: Annotated[Words, words_of(VERDICTS, "verdict")] = Field(
        default=[],
        description=f"Only receipts of these verdicts: {', '.join(VERDICTS)}.",
        examples=[["accepted"]],
    )
    final: StrictBool = Field(
        default=False,
        description="Whether only final states are told, of receipts and of messages.",
        examples=[True],
    )
    headers: Headers = Field(
        default={},
        description="Headers that every request has. Their values are secrets, and never shown.",
        examples=[{"Authorization": "Bearer abc"}],
    )
    format: Literal["json", "cloudevents", "form", "url"] = Field(
        default="json",
        description='What a request looks like: "json"; "cloudevents" (structured mode); "form" '
        'fields; "url": what is told stands in the URL, in place of Kannel\'s escapes (%d, %P, '
        "%I and so on).",
        examples=["cloudevents"],
    )
    method: Literal["GET", "POST"] | None = Field(
        default=None,
        description='The method of requests with format = "url", GET unless given; others are '
        "always POST.",
        examples=["POST"],
    )
    expect_body: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="What the answer must say beside its status of 2xx; spaces around do not "
        "count. Jasmin's receivers say ACK/Jasmin.",
        examples=["ACK/Jasmin"],
    )
    raw: StrictBool = Field(
        default=False,
        description="Whether receipts have `raw`: the provider's post, credentials blanked, in "
        "base64.",
        examples=[True],
    )
    batch: StrictInt = Field(
        default=1,
        ge=1,
        le=1000,
        description="The most events in a request. With more than 1 it is always a list of them.",
        examples=[100],
    )
    concurrency: StrictInt = Field(
        default=10,
        ge=1,
        le=100,
        description="Requests that are under way at once.",
        examples=[4],
    )
    per_second: StrictInt = Field(
        default=0,
        ge=0,
        le=100_000,
        description="The most requests that are begun in a second; 0: as many as are taken.",
        examples=[50],
    )
    timeout: Span = Field(
        default=timedelta(seconds=15),
        description="How long a request may take, its answer included.",
        examples=["5s"],
    )
    give_up: Span = Field(
        default=timedelta(days=3),
        description="For how long an event that the application refuses is tried again. Then it "
        "is a dead letter. (While the destination itself fails nothing is given up.)",
        examples=["1d"],
    )
    on_dead: Literal["next", "hold"] = Field(
        default="next",
        description='What follows a dead letter: "next": the other events about its message; '
        '"hold": nothing about it, until somebody retries or discards it.',
        examples=["hold"],
    )
    order: Literal["message", "none"] = Field(
        default="message",
        description='"message": events about one message are sent one after the other, in the '
        'order in which they happened. "none": in any order.',
        examples=["none"],
    )
    networks: Annotated[list[Network], BeforeValidator(one_or_many)] = Field(
        default=[],
        description="Connect only to addresses in these networks, whatever the host's name "
        "resolves to. Without any, to all.",
        examples=[["192.0.2.0/24"]],
    )

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        scheme, colon, _ = value.partition(":")
        if not colon or not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
            raise ValueError("expected a URL such as https://app.example.com/receipts")
        try:
            destinations.find(scheme)
        except destinations.DestinationError as error:
            raise ValueError(str(error)) from None
        return value

    @field_validator("providers")
    @classmethod
    def _providers(cls, value: list[str]) -> list[str]:
        for each in value:
            if each not in providers.load():
                raise ValueError(
                    f"{each!r} is no provider: {expected(each, list(providers.load()))}"
                )
        return value

    @field_validator("timeout")
    @classmethod
    def _short(cls, value: timedelta) -> timedelta:
        if value > timedelta(minutes=10):
            raise ValueError("expected at most 10m")
        return value

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        kind = self.kind
        known = [*Forward.model_fields, *kind.Options.model_fields]
        given = self.model_extra or {}
        misfits: list[Finding] = [
            ((key,), f"unknown key: {expected(key, known)}") for key in given if key not in known
        ]
        try:
            kind.Options.model_validate({key: given[key] for key in given if key in known})
        except ValidationError as error:
            misfits += findings(error)
        if self.batch > kind.most_batched:
            misfits.append((("batch",), f"expected at most {kind.most_batched}, not {self.batch}"))
        if misfits:
            raise Misfit(misfits)
        kind.check(self)
        return self

    @property
    def kind(self) -> type[destinations.Destination]:
        """The kind of destination that its URL names."""
        return destinations.find(self.url.partition(":")[0])

    @property
    def options(self) -> Any:
        """The keys that are its kind's own (its `Options`)."""
        return self.kind.Options.model_validate(self.model_extra or {})

    @property
    def shown_url(self) -> str:
        """`url` for people, without what may be secret in it."""
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}{parts.path}" + ("?…" if parts.query else "")

    def warnings(self) -> Iterator[str]:
        """What whoever configures it should know."""
        start = f"forward {self.name}: "
        host = urlsplit(self.url).hostname or ""
        local = host in _LOOPBACK or host.startswith("127.")
        if self.url.startswith(("http:", "https:")):
            if not self.secret and not local:
                yield (
                    f"{start}without a secret what is sent is not signed: whoever knows the "
                    "application's URL can tell it anything"
                )
            if self.url.startswith("http:") and not local:
                yield f"{start}http: is not encrypted: phone numbers pass the network in the clear"
        for number, each in enumerate(self.secret, 1):
            if len(secret_key(each)) < SHORTEST_KEY:
                yield (
                    f"{start}secret {number} is of {len(secret_key(each))} bytes; Standard "
                    f"Webhooks asks for {SHORTEST_KEY} at least"
                )
        for text in self.kind.check(self):
            yield start + text


def misfits(tables: Sequence[Forward], endpoints: Collection[str]) -> list[Finding]:
    """What is wrong with the destinations together.

    :param endpoints: the names of those that are configured.
    """
    found: list[Finding] = []
    seen: dict[str, int] = {}
    for number, each in enumerate(tables):
        if each.name in seen:
            text = (
                f"destination {seen[each.name] + 1} has the name {each.name!r} already: each "
                "needs its own"
            )
            found.append((("forward", number, "name"), text))
        seen.setdefault(each.name, number)
        for word in each.endpoints:
            if word not in endpoints:
                text = f"{word!r} is no endpoint's name: {expected(word, list(endpoints))}"
                found.append((("forward", number, "endpoints"), text))
    return found
