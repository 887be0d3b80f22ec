"""Where may be connected to, and in words why that failed."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

from twisted.internet import defer, error
from twisted.web.client import ResponseFailed

Network = IPv4Network | IPv6Network


class Forbidden(error.ConnectError):
    """The host's address is in none of the networks that may be connected to."""


def check_address(host: str, networks: Sequence[Network]) -> None:
    """Check the address that was connected to: a name may mean another one by now.

    :param networks: none: all are permitted.
    :raises Forbidden: where it is in none of `networks`.
    """
    if networks:
        found: Any = ip_address(host.partition("%")[0])
        found = getattr(found, "ipv4_mapped", None) or found
        if not any(found in network for network in networks):
            raise Forbidden(f"{host} is in none of the destination's networks")


def describe(problem: BaseException) -> str:
    """What kept an answer from coming, in a sentence for people."""
    reasons = getattr(problem, "reasons", None)
    if reasons:  # of the requests and answers that failed half-way
        inner = reasons[0]
        return describe(getattr(inner, "value", inner))
    if isinstance(problem, error.TimeoutError | defer.TimeoutError | defer.CancelledError):
        return "no answer within the time"
    if isinstance(problem, error.DNSLookupError):
        return f"its host cannot be found: {problem}"
    if isinstance(problem, error.ConnectionRefusedError):
        return "the connection is refused"
    if isinstance(problem, error.ConnectionDone | error.ConnectionLost):
        return "the connection was closed"
    if isinstance(problem, ResponseFailed):
        return "the answer broke off"
    text = str(problem) or type(problem).__name__
    if type(problem).__module__.startswith(("OpenSSL", "service_identity")):
        return f"TLS: {text[:200]}"
    return text[:300]
