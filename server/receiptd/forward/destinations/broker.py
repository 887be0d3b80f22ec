"""What the brokers have in common: their URLs, what a message says, and the keys of TLS."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from pydantic import Field

from receiptd.config.errors import Finding, Misfit
from receiptd.forward.destinations import Destination
from receiptd.forward.events import Delivery, Event
from receiptd.receipt import match_key

if TYPE_CHECKING:
    from receiptd.config.forward import Forward


class TlsOptions(Destination.Options):
    """The keys that all brokers have."""

    ca: str | None = Field(
        default=None,
        min_length=1,
        description="A file of certificates in PEM: of the authorities that may vouch for the "
        "broker, instead of the system's.",
    )
    certificate: str | None = Field(
        default=None,
        min_length=1,
        description="The file of a certificate that the broker asks for, in PEM.",
    )
    key: str | None = Field(
        default=None,
        min_length=1,
        description="The file of its private key, where that is another one.",
    )


class Address(NamedTuple):
    """What a broker's URL says."""

    hosts: tuple[tuple[str, int], ...]
    user: str | None
    password: str | None
    path: str
    """Without the slash before it; still percent-encoded."""


def read_url(url: str, port: int, *, several: bool = False) -> Address:
    """Read `scheme://user:password@host:port/path`.

    :param port: of a host that names none.
    :param several: whether several hosts may stand there, with commas between them.
    :raises ValueError: saying what is wrong; it shows nothing of the credentials.
    """
    if not (url.isascii() and url.isprintable() and " " not in url):
        raise ValueError("has characters that a URL cannot have: percent-encode them")
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        raise ValueError("takes nothing behind ? or #: what can be chosen has keys of its own")
    credentials, at, hosts = parts.netloc.rpartition("@")
    if "@" in credentials:
        raise ValueError("has two @: name the credentials once, and write an @ in them as %40")
    user, colon, password = credentials.partition(":")
    found = tuple(_host(each, port) for each in hosts.split(","))
    if len(found) > 1 and not several:
        raise ValueError("names several hosts: expected one")
    return Address(
        found,
        unquote(user) if at else None,
        unquote(password) if colon else None,
        parts.path.removeprefix("/"),
    )


def _host(text: str, port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        given = parts.port
    except ValueError as error:
        raise ValueError(f"is no URL: {error}") from None
    if not parts.hostname:
        raise ValueError("has no host")
    if given == 0:
        raise ValueError("is no URL: there is no port 0")
    return parts.hostname, given or port


def check_common(
    config: Forward, *, port: int, clear: str | None, several: bool = False, networks: bool = False
) -> Address:
    """Check what all brokers have in common; what the URL says.

    :param clear: how TLS would be spoken, where it is not.
    :param networks: whether it can be held to networks.
    :raises Misfit: where keys do not fit a broker.
    """
    misfits: list[Finding] = [
        ((key,), "is for webhooks alone: leave it out")
        for key in ("secret", "method", "expect_body")
        if getattr(config, key)
    ]
    if config.format in ("form", "url"):
        misfits.append((("format",), f'"{config.format}" is for webhooks alone: expected "json"'))
    if config.networks and not networks:
        text = "its library connects by itself and cannot be held to networks: leave it out"
        misfits.append((("networks",), text))
    if misfits:
        raise Misfit(misfits)
    try:
        address = read_url(config.url, port, several=several)
    except ValueError as error:
        raise Misfit([(("url",), str(error))]) from None
    options: TlsOptions = config.options
    if clear is not None:
        _check_no_tls(options, clear)
    if options.key and not options.certificate:
        raise Misfit([(("key",), "is of a certificate: name that too, as certificate")])
    try:
        context(options)
    except ValueError as error:
        key, _, text = str(error).partition(": ")
        raise Misfit([((key,), text)]) from None
    return address


def _check_no_tls(options: TlsOptions, remedy: str) -> None:
    for key in ("ca", "certificate", "key"):
        if getattr(options, key):
            raise Misfit([((key,), f"is for TLS alone, which is not spoken: {remedy}")])


def context(options: TlsOptions) -> ssl.SSLContext:
    """TLS that checks the broker's certificate and name.

    :raises ValueError: naming the key whose file is no good.
    """
    try:
        found = ssl.create_default_context(cafile=options.ca)
    except (OSError, ValueError) as error:
        raise ValueError(f"ca: cannot be read: {options.ca}: {_reason(error)}") from None
    if options.certificate:
        try:
            # Without a password of ours it would be asked for on the terminal.
            found.load_cert_chain(options.certificate, options.key, password=lambda: b"")
        except (OSError, ValueError) as error:
            files = " and ".join(filter(None, (options.certificate, options.key)))
            raise ValueError(f"certificate: cannot be read: {files}: {_reason(error)}") from None
    return found


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return "no certificate in PEM, or not one that goes with its key"
    return getattr(error, "strerror", None) or str(error)


def local(address: Address) -> bool:
    """Whether it is on this machine, so that nothing passes a network."""
    return all(
        host in ("localhost", "::1") or host.startswith("127.") for host, _ in address.hosts
    )


def in_the_clear(address: Address) -> Sequence[str]:
    """The warning of a connection without TLS; none where it stays on this machine."""
    if local(address):
        return ()
    more = "and the password " if address.user is not None else ""
    return (f"it is not encrypted: phone numbers {more}pass the network in the clear",)


class Message(NamedTuple):
    """One event, as a broker is given it."""

    id: str
    """The event's name: the same whenever it is sent."""
    type: str
    content_type: str
    body: bytes
    headers: Mapping[str, str]


def messages(config: Forward, delivery: Delivery) -> list[Message]:
    """A message for each event of `delivery`."""
    from receiptd.forward.destinations.formats import one_event
    from receiptd.forward.events import event_name

    headers = {name: value.get_secret_value() for name, value in config.headers.items()}
    if delivery.attempt > 1:
        headers["receiptd-attempt"] = str(delivery.attempt)
    if delivery.replay is not None:
        headers["receiptd-replay"] = str(delivery.replay)
    return [
        Message(
            event_name(delivery.store, event.id),
            event.type,
            *one_event(config, delivery.store, event),
            headers,
        )
        for event in delivery.events
    ]


FIELDS = ("type", "provider", "endpoint", "kind", "state", "verdict", "message_id")
"""What a template may name, in braces."""


def check_template(template: str) -> None:
    """
    :raises ValueError: where a field is named that there is not, or a brace stands alone.
    """
    for name in re.findall(r"\{([^{}]*)\}", template):
        if name not in FIELDS:
            expected = ", ".join(f"{{{each}}}" for each in FIELDS)
            raise ValueError(f"{{{name[:40]}}} is no field: expected one of {expected}")
    if re.search(r"[{}]", re.sub(r"\{[^{}]*\}", "", template)):
        raise ValueError("has a brace that nothing belongs to: fields are written as {provider}")


def fill(template: str, event: Event) -> str:
    """`template` with what `event` says in place of its fields. Of a message's state the kind is
    `message`. What is not a letter, a digit, `-` or `_` becomes `_`, but for the dot in a type:
    dots separate words."""

    def value(found: re.Match[str]) -> str:
        if found[1] == "type":
            return event.type
        about: Mapping[str, Any] = event.receipt or event.message or {}
        text = about.get(found[1])
        if found[1] == "kind" and event.receipt is None:
            text = "message"
        return re.sub(r"[^A-Za-z0-9_-]", "_", str(text or "_"))

    return re.sub(r"\{([^{}]*)\}", value, template)


def key_of(event: Event) -> str | None:
    """Its message, by provider and identifier as it compares; None where it names none."""
    about = event.message or event.receipt
    if about is None or not about["message_id"]:
        return None
    return f"{about['provider']} {match_key(about['message_id'])}"


def shown(error: object, address: Address) -> str:
    """What a library says of an error, in one line that shows no password."""
    text = " ".join(str(error).split())
    secrets: Sequence[str] = [address.password] if address.password else []
    if address.user and not address.password:
        secrets = [address.user]  # a token
    for secret in secrets:
        text = text.replace(secret, "…")
    return text[:300] or type(error).__name__
