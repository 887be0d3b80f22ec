"""Who is asking, where a trusted proxy stands before the server: its forwarding headers, read
strictly.

`X-Forwarded-For` is a list that each proxy appends its client's address to; `Forwarded`
(RFC 7239) says the same with names. What stands left of what a trusted proxy has written anybody
can have made up. So they are read from the right, as long as the address is another trusted
proxy's: the first that is none is who asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Literal, NamedTuple

UNIX: Literal["unix"] = "unix"
"""Stands in the list of trusted proxies for whoever connects to a Unix socket."""

UNKNOWN = "unknown"
"""Who asks where the headers do not agree on it, or cannot be read: somebody who is in no network.
Not the proxy's own address: whoever can make a header unreadable could else take it on."""

MOST_HOPS = 20
"""Proxies that a request may have come through; of a longer list the right end is read."""

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_PAIR = re.compile(rf"({_NAME})=({_NAME}|{_QUOTED})")
"""`forwarded-pair` of RFC 7239, section 4: no space around the equals sign."""
_COMMA = re.compile(r"[ \t]*,[ \t]*")
_NODE = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<ipv4>[0-9.]+))(?::[0-9]{1,5})?", re.ASCII)
"""An address with or without a port, as RFC 7239, section 6, writes it; its `unknown` and its
obfuscated identifiers name nobody that could be in a network."""


class Asker(NamedTuple):
    """Who asks, and how."""

    address: str | None
    """None: whoever is behind a Unix socket; or `UNKNOWN`."""
    scheme: str | None
    """What the proxy was asked by, `http` or `https`; None where it does not say."""


class Proxies:
    """The proxies whose word counts."""

    def __init__(self, trusted: Iterable[IPv4Network | IPv6Network | Literal["unix"]]) -> None:
        trusted = list(trusted)
        self._networks = [each for each in trusted if not isinstance(each, str)]
        self._unix = UNIX in trusted
        self.trusts = lru_cache(1024)(self._trusts)

    def _trusts(self, address: str | None) -> bool:
        """Whether `address`, None for a Unix socket, is a trusted proxy's."""
        if address is None:
            return self._unix
        try:
            found = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        plain = getattr(found, "ipv4_mapped", None) or found
        return any(plain in network for network in self._networks)

    def asker(
        self,
        peer: str | None,
        forwarded_for: Sequence[bytes],
        forwarded: Sequence[bytes],
        forwarded_proto: Sequence[bytes],
    ) -> Asker:
        """Who asks, given the connection's peer and all values of the three headers.

        What is no address leaves the address of the proxy that said it. It is `UNKNOWN` where
        `Forwarded` breaks its grammar, and where two headers name different addresses: a proxy
        that writes one passes the other on as its client sent it.
        """
        if not self.trusts(peer):
            return Asker(peer, None)
        found = []
        scheme = _scheme(forwarded_proto)
        if forwarded_for:
            found.append(self._nearest(peer, [_node(each) for each in _list(forwarded_for)])[0])
        if forwarded:
            elements = _elements(forwarded)
            hops = [UNKNOWN if each is _BROKEN else _node(each.get("for")) for each in elements]
            address, index = self._nearest(peer, hops)
            found.append(address)
            if index is not None and (said := elements[index].get("proto", "").lower()):
                said_scheme = said if said in ("http", "https") else None
                if scheme and said_scheme != scheme:
                    said_scheme = None
                scheme = said_scheme
        if len(set(found)) > 1:
            return Asker(UNKNOWN, scheme)
        return Asker(found[0] if found else peer, scheme)

    def _nearest(
        self, peer: str | None, hops: Sequence[str | None]
    ) -> tuple[str | None, int | None]:
        """The rightmost of `hops` that is no trusted proxy, else the leftmost; and its place."""
        address, index = peer, None
        for place in range(len(hops) - 1, max(len(hops) - MOST_HOPS, 0) - 1, -1):
            hop = hops[place]
            if hop is None:
                break
            address, index = hop, place
            if not self.trusts(hop):
                break
        return address, index


def _text(values: Sequence[bytes]) -> str:
    """Several lines of a header are one list (RFC 9110, section 5.3)."""
    return ",".join(value.decode("iso8859-1") for value in values)


def _list(values: Sequence[bytes]) -> list[str]:
    return [each.strip(" \t") for each in _text(values).split(",")]


def _scheme(values: Sequence[bytes]) -> str | None:
    """What the nearest proxy says: the last of the list, where there are several."""
    last = _list(values)[-1].lower() if values else None
    return last if last in ("http", "https") else None


def _node(text: str | None) -> str | None:
    """The address in `text`, with or without port and brackets, as `ipaddress` writes it; an
    IPv4 address that is written as an IPv6 one is the IPv4 one. None for anything else."""
    if not text or len(text) > 60:
        return None
    found = _NODE.fullmatch(text)
    try:
        # X-Forwarded-For has IPv6 addresses also without brackets, and then without port.
        address = ip_address((found["ipv6"] or found["ipv4"]) if found else text)
    except ValueError:
        return None
    if getattr(address, "scope_id", None):
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


_BROKEN: dict[str, str] = {}
"""Stands for a line of `Forwarded` that breaks the grammar."""


def _elements(values: Sequence[bytes]) -> list[dict[str, str]]:
    """The elements of all lines of `Forwarded`, each by parameter in lower case. One that breaks
    the grammar is `_BROKEN`, and nothing to the others: they may be of another proxy."""
    return [each for value in values for each in _elements_of(value.decode("iso8859-1"))]


def _elements_of(line: str) -> list[dict[str, str]]:
    elements: list[dict[str, str]] = [{}]
    place = 0
    while place <= len(line):
        pair = _PAIR.match(line, place)
        if pair:
            name, value = pair[1].lower(), pair[2]
            if name in elements[-1]:
                break  # RFC 7239, section 4: once in an element
            if value.startswith('"'):
                value = re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)
            elements[-1][name] = value
            place = pair.end()
        if place == len(line):
            return elements
        if line[place] == ";" and pair:
            place += 1
            continue
        gap = _COMMA.match(line, place)
        if gap is None:
            break
        elements.append({})
        place = gap.end()
    return [_BROKEN]
