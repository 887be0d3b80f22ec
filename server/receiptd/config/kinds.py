"""The kinds of values that the configuration has: secrets, networks, durations, listeners."""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from receiptd.duration import duration
from receiptd.providers.endpoint import Secrets

__all__ = ["Descriptions", "Network", "Proxy", "Secrets", "Table", "one_or_many", "span"]


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def one_or_many(value: object) -> object:
    return value if isinstance(value, list) else [value]


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


def span(value: object) -> timedelta | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ValueError(f'expected a duration in quotes, such as "180d", not {value!r}')
    found = duration(value)
    if not found:
        raise ValueError(f"{value!r} is no time at all: leave it out to keep all for ever")
    return found


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
    list[str], BeforeValidator(one_or_many), AfterValidator(_endpoint_descriptions)
]
"""Where to listen, in Twisted's words."""
