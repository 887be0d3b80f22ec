"""The tables `[[endpoint]]` of the configuration: each is a path for one provider's posts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)

from receiptd import providers
from receiptd.config.endpoint_values import absolute_urls, country, states, url_path, zone_name
from receiptd.config.errors import Finding, Misfit, expected, findings
from receiptd.config.kinds import Network, Secrets, Table, one_or_many
from receiptd.config.server import LARGEST_BODY
from receiptd.providers.clocks import zone
from receiptd.receipt import State


class Basic(Table):
    """`basic` of an endpoint: HTTP Basic credentials."""

    username: str = Field(description="The username.", examples=["dlr"])
    password: Secrets = Field(
        description="The password, or a list of valid ones.", examples=["a-password"]
    )


class Endpoint(BaseModel):
    """`[[endpoint]]`: a path that takes one provider's posts.

    Keys beyond the ones here are the provider's own (its `Options`).
    """

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)

    provider: str = Field(
        description="The provider that posts here: one of the names above.",
        examples=["csoft"],
    )
    path: Annotated[str, AfterValidator(url_path)] = Field(
        description="The path of the URL that is registered with the provider.",
        examples=["/soap"],
    )
    name: str = Field(
        default="",
        description="The endpoint's name in receipts, logs and metrics. Receipts keep the name "
        "under which they came.",
        examples=["soap"],
    )
    username: str | None = Field(
        default=None,
        description="The username that a post must carry, for a provider whose posts do.",
        examples=["ANOther.61234"],
    )
    pin: Secrets = Field(
        default=[],
        description="The PIN that a post must carry, or a list of valid ones, so that you can "
        "change the PIN without losing a receipt.",
        examples=["BLUE.music"],
    )
    token: Secrets = Field(
        default=[],
        description="A secret in the URL, for providers that have no credentials of their own: "
        "https://HOST/PATH?token=TOKEN or https://HOST/PATH/TOKEN. May be a list.",
        examples=["a-long-random-text"],
    )
    basic: Basic | None = Field(
        default=None,
        description="HTTP Basic credentials, for a provider that takes a URL with them, such "
        "as https://USERNAME:PASSWORD@HOST/PATH. `password` may be a list.",
        examples=[{"username": "dlr", "password": "a-password"}],
    )
    networks: Annotated[list[Network], BeforeValidator(one_or_many)] = Field(
        default=[],
        description="The networks that posts may come from. Behind a proxy every post comes "
        "from the proxy's address, unless trusted_proxies in [server] has it.",
        examples=[["192.0.2.0/24", "2001:db8::/32"]],
    )
    timezone: Annotated[str | None, AfterValidator(zone_name)] = Field(
        default=None,
        description="The time zone of times without an offset, if it is not the provider's "
        "usual one.",
        examples=["Europe/Rome"],
    )
    region: Annotated[str | None, AfterValidator(country)] = Field(
        default=None,
        description="The country whose national forms of phone numbers the endpoint reads, if "
        "it is not the provider's usual one.",
        examples=["GB"],
    )
    public_url: Annotated[
        list[str], BeforeValidator(one_or_many), AfterValidator(absolute_urls)
    ] = Field(
        default=[],
        description="What stands before the path in the URL that is registered with the "
        "provider, if it is not public_url of [server]. Where a signature covers the URL, the "
        "server checks it against this. May be a list, such as one with a port and one "
        "without.",
        examples=["https://dlr.example.com"],
    )
    refuse_status: Literal[400, 401, 403, 503] = Field(
        default=403,
        description="The status that answers a post with a missing or wrong signature. Some "
        "providers never send again after a 4xx: use 503 while you change a secret, and "
        "nothing is lost.",
        examples=[503],
    )
    requests_per_second: StrictInt | None = Field(
        default=None,
        ge=0,
        description="How many requests per second the endpoint takes, in each process; 0: no "
        "limit. The server answers further ones with 429 and Retry-After.",
        examples=[200],
    )
    max_body: StrictInt | None = Field(
        default=None,
        ge=1024,
        le=LARGEST_BODY,
        description="The largest body of a post to this endpoint, in bytes: more than that of "
        "[server], as for batches, or less. A larger one is answered 413.",
        examples=[4 * 1024 * 1024],
    )
    match: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Whether receipts are checked against the messages that the application "
        'registered: "always", "never", or "auto": once any message of the provider is '
        "registered.",
        examples=["always"],
    )
    codes: Annotated[dict[str, State], BeforeValidator(states)] = Field(
        default={},
        description="States of codes that the provider's table lacks or that you want "
        f"otherwise. The states are {', '.join(State)}.",
        examples=[{"99": "UNDELIVERABLE"}],
    )

    @field_validator("provider")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in providers.load():
            raise ValueError(
                f"no provider is called {value!r}: {expected(value, providers.names())}"
            )
        return value

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not value.isprintable() or value != value.strip() or len(value) > 100:
            raise ValueError("expected at most 100 printable characters without space around them")
        return value

    @field_validator("username")
    @classmethod
    def _username(cls, value: str | None) -> str | None:
        return (value.strip() or None) if value is not None else None

    @field_validator("pin")
    @classmethod
    def _pins(cls, value: list[SecretStr]) -> list[SecretStr]:
        return [SecretStr(pin.get_secret_value().strip()) for pin in value]

    @field_validator("basic")
    @classmethod
    def _complete(cls, value: Basic | None) -> Basic | None:
        if value is None or value.password:
            return value
        if not value.username:
            return None
        raise ValueError("the password is empty: expected one, or no `basic` at all")

    @model_validator(mode="after")
    def _settle(self) -> Self:
        kind = providers.load()[self.provider]
        misfits = list(_misfit_options(kind, self.model_extra or {}))
        if not kind.in_body_credentials:
            misfits += [
                ((key,), f"{self.provider} posts carry none: use token, basic or networks")
                for key in ("username", "pin")
                if getattr(self, key)
            ]
        if misfits:
            raise Misfit(misfits)
        if not self.name:
            object.__setattr__(self, "name", self.path.strip("/"))
        return self

    @property
    def authenticated(self) -> bool:
        """Whether a post must prove anything at all."""
        return (
            bool(self.username or self.pin or self.token or self.basic or self.networks)
            or self.bind().signed
        )

    @property
    def asks_for(self) -> str:
        """What a post must prove, in words, without the secrets."""
        asked = []
        if self.username or self.pin:
            parts = (("username", self.username), ("PIN", self.pin))
            asked.append(" and ".join(name for name, value in parts if value))
        if self.token:
            asked.append("token in the URL")
        if self.basic:
            asked.append("HTTP Basic credentials")
        if self.bind().signed:
            asked.append("a signature")
        if self.networks:
            asked.append("an address in " + ", ".join(map(str, self.networks)))
        return "; ".join(asked) or "nothing"

    @property
    def called(self) -> str:
        """What receipts and registered messages call the provider: its name, unless it is a
        generic one that is given another."""
        return self.bind().name

    @property
    def options(self) -> BaseModel:
        """The provider's own keys."""
        kind = providers.load()[self.provider]
        return kind.Options.model_validate(self.model_extra or {})

    @property
    def phone_region(self) -> str | None:
        """The country by whose national forms phone numbers are read; None: E.164 alone."""
        return self.region or providers.load()[self.provider].region

    def bind(self, public_url: str | None = None) -> providers.Provider:
        """The provider's module, bound to this endpoint.

        :param public_url: of the server, for an endpoint that has none of its own.
        """
        kind = providers.load()[self.provider]
        return kind(
            providers.Endpoint(
                name=self.name,
                timezone=zone(self.timezone or kind.timezone),
                codes=self.codes,
                options=self.options,
                public_urls=tuple(self.public_url or ([public_url] if public_url else [])),
            )
        )


def _misfit_options(kind: type[providers.Provider], given: Mapping[str, Any]) -> Iterator[Finding]:
    """What is wrong with the keys of an endpoint that are its provider's own."""
    known = endpoint_keys(kind)
    for key in given:
        if key not in known:
            yield (key,), f"unknown key: {expected(key, known)}"
    try:
        kind.Options.model_validate({key: given[key] for key in given if key in known})
    except ValidationError as error:
        yield from findings(error)


def endpoint_keys(kind: type[providers.Provider] | None) -> list[str]:
    """The keys that an endpoint of a provider may have; of an unknown one, those of all."""
    own = kind.Options.model_fields.items() if kind else ()
    return [*Endpoint.model_fields, *(field.alias or name for name, field in own)]


def default_endpoints() -> list[Endpoint]:
    return [
        Endpoint(provider=name, path=kind.path)
        for name, kind in providers.load().items()
        if kind.by_default
    ]
