"""The tables of the configuration: each key with its type, its default and what it is for.

The descriptions and examples are the documentation: `receiptd init` writes them into a file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network
from typing import Annotated, Any, Literal, Self
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StrictBool,
    StrictFloat,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from receiptd import providers
from receiptd.config.errors import Finding, Misfit, expected, findings
from receiptd.config.forward import Forward, misfits
from receiptd.duration import duration
from receiptd.providers.values import zone
from receiptd.receipt import State

ENV_PREFIX = "RECEIPTD_"
ENV_DELIMITER = "__"
"""What environment variables begin with, and what stands between a table and its key."""

_RESERVED = ("/api", "/metrics", "/healthz", "/readyz")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _one_or_many(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _given(secrets: list[SecretStr]) -> list[SecretStr]:
    """Those that are not empty: an empty credential is none."""
    return [secret for secret in secrets if secret.get_secret_value().strip()]


def _network(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return ip_network(value)
    except ValueError:
        pass
    try:
        meant = ip_interface(value).network
    except ValueError:
        raise ValueError(
            f"{value!r} is no IP network: expected one such as 192.0.2.0/24 or 2001:db8::/32"
        ) from None
    raise ValueError(f"{value!r} names an address and not a network: did you mean {str(meant)!r}?")


def _span(value: object) -> timedelta | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ValueError(f'expected a duration in quotes, such as "180d", not {value!r}')
    span = duration(value)
    if not span:
        raise ValueError(f"{value!r} is no time at all: leave it out to keep all for ever")
    return span


Secrets = Annotated[list[SecretStr], BeforeValidator(_one_or_many), AfterValidator(_given)]
"""One secret, or several that are valid at once so that one can be changed without a gap."""

Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]


def _proxy(value: object) -> object:
    if value == "unix":
        return value
    if not isinstance(value, str):
        raise ValueError("expected text in quotes")
    return _network(value)


Proxy = Annotated[IPv4Network | IPv6Network | Literal["unix"], BeforeValidator(_proxy)]


def _endpoint_descriptions(value: list[str]) -> list[str]:
    """
    :raises ValueError: where one is no Twisted endpoint description, with the one that was meant.
    """
    for each in value:
        found = re.fullmatch(r"(?:(\[.*\]|\*|localhost|[^:]*\.[^:]*|):)?(\d+)", each)
        if found:
            host = (found[1] or "").strip("[]*").replace(":", "\\:")
            meant = f"tcp:{found[2]}" + (f":interface={host}" if host else "")
            raise ValueError(
                f"{each!r} is no Twisted endpoint description: did you mean {meant!r}?"
            )
        if not re.match(r"[A-Za-z][\w+-]*:", each):
            raise ValueError(
                f"{each!r} is no Twisted endpoint description: expected one such as "
                "'tcp:8080' or 'tcp:8080:interface=127.0.0.1'"
            )
    return value


Descriptions = Annotated[
    list[str], BeforeValidator(_one_or_many), AfterValidator(_endpoint_descriptions)
]
"""Where to listen, in Twisted's words."""


class Tls(_Table):
    """`[server.tls]`: where TLS is spoken, and with which certificate."""

    certificate: str = Field(
        min_length=1,
        description="The file of the certificate and of those above it, in PEM: certbot calls it "
        "fullchain.pem. It is read again as soon as it changes, and so are the others here.",
        examples=["/etc/letsencrypt/live/dlr.example.com/fullchain.pem"],
    )
    key: str | None = Field(
        default=None,
        description="The file of its private key, in PEM and without a passphrase. Without it the "
        "key is looked for in the certificate's file.",
        examples=["/etc/letsencrypt/live/dlr.example.com/privkey.pem"],
    )
    listen: Descriptions = Field(
        default=["tcp:8443"],
        min_length=1,
        description="Where TLS is spoken, beside what [server] listens on: Twisted endpoint "
        "descriptions as there, of plain sockets.",
        examples=[["tcp:443"]],
    )
    client_ca: str | None = Field(
        default=None,
        description="A file of certificates in PEM. With it clients must have a certificate that "
        "one of these has issued.",
        examples=["/etc/receiptd/clients.pem"],
    )
    minimum: Literal["TLSv1.2", "TLSv1.3"] = Field(
        default="TLSv1.2",
        description="The oldest version of TLS that is spoken.",
        examples=["TLSv1.3"],
    )

    @field_validator("listen")
    @classmethod
    def _plain(cls, value: list[str]) -> list[str]:
        for each in value:
            if each.startswith(("ssl:", "tls:")):
                raise ValueError(f"{each!r} speaks TLS by itself: expected one such as 'tcp:8443'")
        return value


class Server(_Table):
    """`[server]`: where receiptd listens and what it calls itself."""

    listen: Descriptions = Field(
        default=["tcp:8080:interface=127.0.0.1"],
        min_length=1,
        description="Where to listen: Twisted endpoint descriptions, one or a list of them. "
        "tcp:8080 is port 8080 of every address of this machine, tcp:8080:interface=127.0.0.1 "
        "is for this machine alone, ssl:8443:privateKey=key.pem:certKey=cert.pem speaks HTTPS, "
        "unix:/run/receiptd.sock is a socket for a proxy on this machine.",
        examples=[["tcp:8080"]],
    )
    public_url: str | None = Field(
        default=None,
        description="What providers reach this server under. The served WSDL names it; without "
        "it the WSDL names the Host that it was asked for at.",
        examples=["https://dlr.example.com"],
    )
    max_body: StrictInt = Field(
        default=65536,
        ge=1024,
        le=16 * 1024 * 1024,
        description="The largest body of a post, in bytes. A larger one is answered 413.",
        examples=[131072],
    )
    max_headers: StrictInt = Field(
        default=100,
        ge=10,
        le=10_000,
        description="The most header lines of a request. One with more is answered 431.",
        examples=[50],
    )
    max_header_bytes: StrictInt = Field(
        default=16384,
        ge=1024,
        le=1024 * 1024,
        description="The largest header of a request, in bytes, its first line included. A larger "
        "one is answered 431.",
        examples=[32768],
    )
    request_seconds: StrictInt = Field(
        default=30,
        ge=1,
        description="For how many seconds a request may take to come in whole, from its first "
        "byte on. A slower one is answered 408.",
        examples=[10],
    )
    idle_seconds: StrictInt = Field(
        default=60,
        ge=1,
        description="After how many seconds without a request a connection is closed.",
        examples=[300],
    )
    connections: StrictInt = Field(
        default=10_000,
        ge=1,
        description="How many connections may be open, in each process. For a further one, one "
        "that waits is closed; where none does, the further one is answered 503 and Retry-After.",
        examples=[1000],
    )
    connections_per_address: StrictInt = Field(
        default=0,
        ge=0,
        description="How many connections from one address may be open, in each process; 0: as "
        "many as in all. IPv6 addresses count by their /64. Further ones are answered 503 and "
        "Retry-After. Trusted proxies are exempt.",
        examples=[100],
    )
    requests_per_second: StrictInt = Field(
        default=0,
        ge=0,
        description="How many requests per second each endpoint takes, in each process; 0: as "
        "many as come. Further ones are answered 429 and Retry-After. An endpoint may have a "
        "limit of its own.",
        examples=[1000],
    )
    trusted_proxies: Annotated[list[Proxy], BeforeValidator(_one_or_many)] = Field(
        default=[],
        description='The addresses and networks of the proxies before this server; "unix" is '
        "whoever connects to a Unix socket. What such a proxy says in X-Forwarded-For, Forwarded "
        "and X-Forwarded-Proto counts: for an endpoint's networks, in the log and in the WSDL. "
        "Of others these headers are ignored.",
        examples=[["127.0.0.1", "::1"]],
    )
    tls: Tls | None = Field(
        default=None,
        description="TLS, also called HTTPS: served once there is a certificate.",
    )

    workers: StrictInt = Field(
        default=1,
        ge=1,
        le=256,
        description="How many processes serve. With several, a supervisor starts them on the same "
        "sockets, and again where one dies. One takes thousands of receipts per second.",
        examples=[4],
    )
    stop_timeout: StrictFloat = Field(
        default=10,
        ge=0,
        le=3600,
        description="How many seconds the server may take to answer and store what has come, once "
        "it is told to stop.",
        examples=[30],
    )
    user: str | None = Field(
        default=None,
        description="The user to serve as. receiptd is then started as root, listens, and becomes "
        "this user before it opens the database. As root it need not run otherwise.",
        examples=["receiptd"],
    )
    group: str | None = Field(
        default=None,
        description="The group to serve as, if it is another than the user's own.",
        examples=["receiptd"],
    )
    allow_readable_config: StrictBool = Field(
        default=False,
        description="Whether receiptd starts although this file holds secrets and every user can "
        "read it.",
        examples=[True],
    )

    @field_validator("public_url")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if not value:
            return None
        if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
            raise ValueError(
                "expected an absolute URL without query, such as https://dlr.example.com"
            )
        return value.rstrip("/")


class Store(_Table):
    """`[store]`: where receipts are kept."""

    url: str = Field(
        default="sqlite:///receiptd.db",
        description="The database. sqlite:///FILE is a file beneath the working directory, "
        "sqlite:////FOLDER/FILE one at an absolute path; for PostgreSQL it is "
        "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE.",
        examples=["sqlite:////var/lib/receiptd/receipts.db"],
    )
    migrate: StrictBool = Field(
        default=True,
        description="Whether the server brings the database up to date when it starts. "
        "With false that is left to `receiptd db upgrade`.",
        examples=[False],
    )
    queue: StrictInt = Field(
        default=10_000,
        ge=1,
        description="How many posts may wait for the database. Further ones are answered 503 "
        "and Retry-After.",
        examples=[20_000],
    )
    spool: str | None = Field(
        default=None,
        description="The folder where posts are kept, on disk and acknowledged, while the "
        "database does not answer; they are stored when it does again. Without it that is a "
        "folder beside SQLite's file, such as receiptd.db-spool, and for PostgreSQL "
        "receiptd-spool in the working directory. Each database needs one of its own; on "
        "another disk than the database's it also helps when that is full.",
        examples=["/var/lib/receiptd/spool"],
    )
    spool_limit: StrictInt = Field(
        default=1024 * 1024 * 1024,
        ge=1024 * 1024,
        description="How many bytes the files in that folder may have together. Posts beyond "
        "it are answered 503 and Retry-After.",
        examples=[4 * 1024 * 1024 * 1024],
    )
    rejected_count: StrictInt = Field(
        default=1000,
        ge=0,
        description="How many posts of each endpoint that were understood but carried nonsense "
        "are kept, to be read with `receiptd rejected list`.",
        examples=[5000],
    )
    rejected_days: StrictInt = Field(
        default=30,
        ge=1,
        description="For how many days a rejected post is kept.",
        examples=[90],
    )
    unreadable_count: StrictInt = Field(
        default=100,
        ge=0,
        description="How many posts of each endpoint are kept that could not be read, and as "
        "many that could not be authenticated.",
        examples=[50],
    )
    keep: Annotated[timedelta | None, BeforeValidator(_span)] = Field(
        default=None,
        description="For how long receipts are kept, such as 90d or 26w, in s, m, h, d or w. "
        "The server deletes older ones, every hour and a few at a time, and with them the "
        "messages that are final and have no receipt left. What is said above of rejected posts "
        "holds as well.",
        examples=["180d"],
    )

    @field_validator("url")
    @classmethod
    def _durable(cls, value: str) -> str:
        if value and ":" not in value:
            raise ValueError(f"{value!r} is no URL: did you mean 'sqlite:///{value}'?")
        if not re.match(r"(sqlite|postgresql)(\+psycopg|\+pysqlite)?://", value):
            raise ValueError(
                "expected sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
            )
        if re.fullmatch(r"sqlite(\+pysqlite)?://(/(:memory:)?)?(\?.*)?", value):
            raise ValueError(
                "a database in memory would lose receipts: name a file, "
                "such as sqlite:///receiptd.db"
            )
        if re.match(r"sqlite(\+pysqlite)?://[^/]", value):
            raise ValueError(
                "expected three slashes before a file, as in sqlite:///receiptd.db, and four "
                "before an absolute path, as in sqlite:////var/lib/receiptd/receipts.db"
            )
        return value


class Logging(_Table):
    """`[log]`: where the log goes and what it looks like."""

    format: Literal["plain", "json"] = Field(
        default="plain",
        description='"plain" lines are for people, "json" ones, an object each, for programs: a '
        "receipt's has time, level, request_id, endpoint, provider, kind, message_id, state, "
        "verdict, milliseconds, recipient and peer.",
        examples=["json"],
    )
    level: Literal["debug", "info", "warn", "error"] = Field(
        default="info",
        description="What is important enough: each receipt is info, a post that was not taken "
        "is warn, one that could not be stored is error.",
        examples=["warn"],
    )
    file: str | None = Field(
        default=None,
        description="The file that the log is appended to. One that was moved away, as logrotate "
        "does, is made anew within a second. Without it the log goes to standard error.",
        examples=["/var/log/receiptd.log"],
    )
    mask_recipients: StrictBool = Field(
        default=False,
        description="Whether lines show only the last four digits of a receipt's recipient.",
        examples=[True],
    )


class ApiToken(_Table):
    """`[[api.token]]`: a bearer token of the HTTP API and of /metrics."""

    token: SecretStr = Field(
        description="The token, as a request carries it: Authorization: Bearer TOKEN. "
        "To make one: openssl rand -hex 32",
        examples=["a-long-random-text"],
    )
    name: str = Field(
        min_length=1,
        max_length=100,
        description="Whose token it is, for the log.",
        examples=["billing"],
    )
    scopes: list[Literal["read", "write"]] = Field(
        default=["read"],
        min_length=1,
        description='What it is good for: "read" for what is stored and for /metrics, "write" '
        "for registering messages. Neither includes the other.",
        examples=[["read", "write"]],
    )

    @field_validator("token")
    @classmethod
    def _sendable(cls, value: SecretStr) -> SecretStr:
        # RFC 6750, section 2.1: what a header can carry as a bearer token
        if not re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", value.get_secret_value()):
            raise ValueError("expected letters, digits and . _ ~ + / - only, and at least one")
        return value


class Api(_Table):
    """`[api]`: who may use the HTTP API."""

    token: list[ApiToken] = Field(
        default=[],
        description="Who may use the HTTP API and /metrics: whoever has one of these tokens. As "
        "long as there is none, only requests from this machine itself are answered, and none "
        "that came through a proxy.",
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        misfits: list[Finding] = []
        for what, secret in (("name", False), ("token", True)):
            seen: dict[object, int] = {}
            for number, token in enumerate(self.token):
                value = getattr(token, what)
                if value in seen:
                    shown = "" if secret else f" {value!r}"
                    text = (
                        f"token {seen[value] + 1} has the {what}{shown} already: "
                        f"each needs its own"
                    )
                    misfits.append((("token", number, what), text))
                seen.setdefault(value, number)
        if misfits:
            raise Misfit(misfits)
        return self


class Basic(_Table):
    """`basic` of an endpoint: HTTP Basic credentials."""

    username: str = Field(description="The username.", examples=["dlr"])
    password: Secrets = Field(
        description="The password, or a list of those that are valid.", examples=["a-password"]
    )


class Endpoint(BaseModel):
    """`[[endpoint]]`: a path that takes one provider's posts.

    Keys beyond the ones here are the provider's own (its `Options`).
    """

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)

    provider: str = Field(
        description="Whose posts come here: one of the names above.",
        examples=["csoft"],
    )
    path: str = Field(
        description="The path of the URL that is registered with the provider.",
        examples=["/soap"],
    )
    name: str = Field(
        default="",
        description="What the endpoint is called in receipts, logs and metrics. Receipts keep "
        "the name that they came under.",
        examples=["soap"],
    )
    username: str | None = Field(
        default=None,
        description="The username that a post must carry, for a provider whose posts do.",
        examples=["ANOther.61234"],
    )
    pin: Secrets = Field(
        default=[],
        description="The PIN that a post must carry. A list is of those that are valid at once, "
        "so that a PIN can be changed without losing a receipt.",
        examples=["BLUE.music"],
    )
    token: Secrets = Field(
        default=[],
        description="A secret in the URL, for providers that have no credentials of their own: "
        "as https://HOST/PATH?token=TOKEN or as https://HOST/PATH/TOKEN. Also a list.",
        examples=["a-long-random-text"],
    )
    basic: Basic | None = Field(
        default=None,
        description="Credentials of HTTP Basic, for a provider that takes a URL with them, such "
        "as https://USERNAME:PASSWORD@HOST/PATH. `password` may be a list as well.",
        examples=[{"username": "dlr", "password": "a-password"}],
    )
    networks: Annotated[list[Network], BeforeValidator(_one_or_many)] = Field(
        default=[],
        description="The networks that posts may come from. Behind a proxy that is the proxy's "
        "own address, unless it is one of trusted_proxies in [server].",
        examples=[["192.0.2.0/24", "2001:db8::/32"]],
    )
    timezone: str | None = Field(
        default=None,
        description="The time zone of times that come without an offset, if it is another than "
        "the provider's usual one.",
        examples=["Europe/Rome"],
    )
    region: str | None = Field(
        default=None,
        description="The country by whose national forms phone numbers are read, if it is "
        "another than the provider's usual one.",
        examples=["GB"],
    )
    requests_per_second: StrictInt | None = Field(
        default=None,
        ge=0,
        description="How many requests per second the endpoint takes, in each process; 0: as many "
        "as come. Further ones are answered 429 and Retry-After.",
        examples=[200],
    )
    match: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Whether receipts are checked against the messages that the application "
        'registered: "always", "never", or "auto": once any message of the provider is '
        "registered.",
        examples=["always"],
    )
    codes: dict[str, State] = Field(
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

    @field_validator("path")
    @classmethod
    def _path(cls, value: str) -> str:
        if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", value) or {".", ".."} & set(value.split("/")):
            raise ValueError(
                f"{value!r} is no path such as /soap: expected a slash, then letters, digits and "
                ". _ ~ - between slashes"
            )
        for reserved in _RESERVED:
            if value == reserved or value.startswith(reserved + "/"):
                raise ValueError(f"{reserved} is receiptd's own: choose another path")
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

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str | None) -> str | None:
        if not value:
            return None
        try:
            zone(value)
        except ValueError as error:
            near = difflib.get_close_matches(value, available_timezones(), 1)
            if not near:
                raise
            raise ValueError(
                f"no time zone is called {value!r}: did you mean {near[0]!r}?"
            ) from error
        return value

    @field_validator("region")
    @classmethod
    def _country(cls, value: str | None) -> str | None:
        if not value:
            return None
        from phonenumbers import SUPPORTED_REGIONS

        if value not in SUPPORTED_REGIONS:
            meant = {"UK": "GB", "EN": "GB"}.get(value.upper(), value.upper())
            raise ValueError(
                f"{value!r} is no country code of ISO 3166: "
                + (f"did you mean {meant!r}?" if meant in SUPPORTED_REGIONS else "such as 'US'")
            )
        return value

    @field_validator("codes", mode="before")
    @classmethod
    def _states(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        wrong = [
            ((code,), f"{state!r} is no state: {expected(str(state).upper(), list(State))}")
            for code, state in value.items()
            if str(state).upper() not in State.__members__
        ]
        if wrong:
            raise Misfit(wrong)
        return {str(code): str(state).upper() for code, state in value.items()}

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
        return bool(self.username or self.pin or self.token or self.basic or self.networks)

    @property
    def phone_region(self) -> str | None:
        """The country by whose national forms phone numbers are read; None: E.164 alone."""
        return self.region or providers.load()[self.provider].region

    def bind(self) -> providers.Provider:
        """The provider's module, bound to this endpoint."""
        kind = providers.load()[self.provider]
        return kind(
            providers.Endpoint(
                name=self.name,
                timezone=zone(self.timezone or kind.timezone),
                codes=self.codes,
                options=kind.Options.model_validate(self.model_extra or {}),
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


def _default_endpoints() -> list[Endpoint]:
    return [Endpoint(provider=name, path=kind.path) for name, kind in providers.load().items()]


class Config(BaseSettings):
    """The whole configuration. Made directly it is what the arguments say; `load` reads the
    file and the environment."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    server: Server = Server()
    store: Store = Store()
    log: Logging = Logging()
    api: Api = Api()
    endpoint: list[Endpoint] = Field(default_factory=_default_endpoints, min_length=1)
    forward: list[Forward] = []

    @property
    def regions(self) -> dict[str, str | None]:
        """By whose national forms each provider's recipients are read: as at its first
        endpoint."""
        found: dict[str, str | None] = {}
        for endpoint in self.endpoint:
            found.setdefault(endpoint.provider, endpoint.phone_region)
        return found

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The arguments alone: `load` merges what they are made of, so as to know of each key
        where it came from."""
        return (init_settings,)

    @model_validator(mode="after")
    def _no_clash(self) -> Self:
        found: list[Finding] = []
        for what in ("path", "name"):
            seen: dict[str, int] = {}
            for number, endpoint in enumerate(self.endpoint):
                value = getattr(endpoint, what)
                if value in seen:
                    text = (
                        f"endpoint {seen[value] + 1} has the {what} {value!r} already: "
                        f"each needs its own"
                    )
                    found.append((("endpoint", number, what), text))
                seen.setdefault(value, number)
        found += misfits(self.forward, [each.name for each in self.endpoint])
        if found:
            raise Misfit(found)
        return self


TABLES: dict[str, type[BaseModel]] = {
    name: field.annotation
    for name, field in Config.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}
"""The tables of the file, by name; the list of endpoints is none."""
