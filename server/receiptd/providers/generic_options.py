"""The configuration keys of a generic endpoint."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from receiptd.duration import duration
from receiptd.providers.endpoint import Secrets
from receiptd.providers.signatures import ALGORITHMS, ed25519_key, standard_webhooks_key
from receiptd.providers.sources import compiled, names_in, path
from receiptd.receipt import Kind

FIELDS = (
    *("message_id", "code", "error", "description", "recipient", "sender", "reference"),
    *("network", "part", "parts", "price", "text", "linked_id", "reported_at", "kind"),
)
"""What `[endpoint.fields]` may say where to find."""

_PLACES = ("body", "url", "path", "query", "method")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Answer(_Table):
    """`answer` and `refuse`: what a post is answered."""

    status: Annotated[int, Field(ge=200, le=599)] = 200
    body: str = ""
    content_type: str = "text/plain; charset=utf-8"

    @field_validator("status")
    @classmethod
    def _said(cls, value: int) -> int:
        if value == 410 or 300 <= value < 400:
            raise ValueError(
                f"{value} makes providers give the URL up or follow it: expected another status"
            )
        return value


class HeaderToken(_Table):
    """`header_token`: a secret that each post bears in a header."""

    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,100}$")]
    value: Annotated[Secrets, Field(min_length=1)]


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError(f'expected a duration in quotes, such as "5m", not {value!r}')
    return duration(value).total_seconds()


class Signature(_Table):
    """`[endpoint.signature]`: how a post is signed."""

    type: Literal["none", "hmac", "standard-webhooks", "ed25519"]
    algorithm: Literal["sha256", "sha512", "sha384", "sha1", "md5"] = "sha256"
    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,100}$")] = "X-Signature"
    prefix: str = ""
    encoding: Literal["hex", "base64"] = "hex"
    secret: Secrets = []
    public_key: Annotated[
        list[str], BeforeValidator(lambda it: it if isinstance(it, list) else [it])
    ] = []
    signed: str = "{body}"
    timestamp: Annotated[str | None, Field(pattern=r"^header:[A-Za-z0-9-]{1,100}$")] = None
    tolerance: Annotated[float | None, BeforeValidator(_seconds)] = None

    @field_validator("signed")
    @classmethod
    def _places(cls, value: str) -> str:
        pieces = value.replace("}", "{").split("{")
        wrong = [
            each for each in pieces[1::2] if each not in _PLACES and not each.startswith("header:")
        ]
        if wrong or len(pieces) % 2 == 0 or len(value) > 300:
            raise ValueError(
                f"{value!r} is no template: its places may be {{header:NAME}}, "
                + ", ".join(f"{{{place}}}" for place in _PLACES)
            )
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.type == "ed25519":
            for key in self.public_key:
                ed25519_key(key)
            if not self.public_key:
                raise ValueError("an ed25519 signature needs `public_key`, the provider's")
        elif self.type != "none" and not self.secret:
            raise ValueError(f"a signature of the type {self.type} needs `secret`")
        if self.type == "standard-webhooks":
            for secret in self.secret:
                standard_webhooks_key(secret.get_secret_value())
        if (
            self.tolerance is not None
            and self.timestamp is None
            and self.type != ("standard-webhooks")
        ):
            raise ValueError("`tolerance` needs `timestamp`, such as 'header:X-Timestamp'")
        return self


assert set(ALGORITHMS) == {"sha256", "sha512", "sha384", "sha1", "md5"}


class GenericOptions(_Table):
    """A provider that has no module: all of it is configuration."""

    as_: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")] = Field(
        default="generic",
        alias="as",
        description="What receipts and registered messages call the provider.",
        examples=["acme"],
    )
    methods: list[Literal["GET", "POST", "PUT"]] = Field(
        default=["POST"],
        min_length=1,
        description="The methods that the provider uses.",
        examples=[["GET", "POST"]],
    )
    body: Literal["form", "json"] | None = Field(
        default=None,
        description="Whether posts are forms (and queries) or JSON. Default: as each post is.",
        examples=["json"],
    )
    each: str | None = Field(
        default=None,
        description="The path of the list that holds a receipt per item, or [] for a body that "
        "is such a list.",
        examples=["results"],
    )
    fields: dict[str, Any] = Field(
        default={},
        description="Where each value is: a name of a form or a path into JSON; a template of "
        "such names; a list of alternatives. Names: " + ", ".join(FIELDS) + ".",
        examples=[{"message_id": "id", "code": "status.name", "kind": "type"}],
    )
    time: str = Field(
        default="iso",
        description="How times are written: iso, epoch, epoch-ms, smpp (YYMMDDhhmm), or a format "
        "of strptime.",
        examples=["%Y-%m-%d %H:%M:%S"],
    )
    kind: Kind = Field(
        default=Kind.DELIVERY,
        description="What the receipts report: " + ", ".join(Kind) + ".",
        examples=["delivery"],
    )
    kinds: dict[str, Kind] = Field(
        default={},
        description="The kind by the value of `kind` in `fields`. A post with another value is "
        "answered and ignored.",
        examples=[{"message.finalized": "delivery"}],
    )
    drop: list[str] = Field(
        default=[],
        description="Names or paths that are not kept in `extra`.",
        examples=[["requester_ip"]],
    )
    secret: list[str] = Field(
        default=[],
        description="Names of fields that hold a secret: blanked in what is kept.",
        examples=[["apiKey"]],
    )
    answer: Answer = Field(
        default=Answer(),
        description="What a post is answered once it is stored.",
        examples=[{"status": 200, "body": "OK"}],
    )
    refuse: Answer | None = Field(
        default=None,
        description="What a post is answered that is nonsense.",
        examples=[{"status": 400, "body": "no"}],
    )
    signature: Signature | None = Field(
        default=None,
        description="How posts are signed: type is none, hmac, standard-webhooks or ed25519.",
        examples=[{"type": "hmac", "header": "X-Signature", "secret": "a-long-random-text"}],
    )
    header_token: HeaderToken | None = Field(
        default=None,
        description="A secret that each post bears in a header.",
        examples=[{"header": "X-Api-Key", "value": "a-long-random-text"}],
    )

    @field_validator("fields")
    @classmethod
    def _sources(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name, source in value.items():
            if name not in FIELDS:
                raise ValueError(f"unknown field {name!r}: expected one of {', '.join(FIELDS)}")
            try:
                compiled(source)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return value

    @field_validator("each")
    @classmethod
    def _list(cls, value: str | None) -> str | None:
        if value and value != "[]":
            path(value)
        return value or None

    @field_validator("time")
    @classmethod
    def _form(cls, value: str) -> str:
        if value not in ("iso", "epoch", "epoch-ms", "smpp") and "%" not in value:
            raise ValueError(
                f"{value!r} is no form of time: expected iso, epoch, epoch-ms, smpp or a format "
                "such as '%Y-%m-%d %H:%M:%S'"
            )
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.body == "json":
            for source in self.fields.values():
                for name in names_in(source):
                    path(name.removeprefix("$."))
        if self.kinds and "kind" not in self.fields:
            raise ValueError("`kinds` needs `kind` in `fields`: where the value is")
        return self
