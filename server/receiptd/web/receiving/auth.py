"""Who may post to an endpoint: credentials in the post, a token, HTTP Basic, networks.

All are optional, all that are configured must be met. Secrets compare in constant time, and
each against every valid one, so that neither length of comparison nor order tells anything.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Iterable, Sequence
from hmac import compare_digest
from ipaddress import IPv4Network, IPv6Network, ip_address

from pydantic import SecretStr

from receiptd.config import Endpoint
from receiptd.receipt import Outcome, Verdict

TOKEN_FIELD = "token"  # noqa: S105
"""The query parameter that carries an endpoint's token."""


class Gate:
    """What one endpoint asks of whoever posts to it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._username = endpoint.username.strip().encode() if endpoint.username else None
        self._pins = _secrets(endpoint.pin)
        self._tokens = _secrets(endpoint.token)
        self._basic = (
            [
                endpoint.basic.username.encode() + b":" + password
                for password in _secrets(endpoint.basic.password)
            ]
            if endpoint.basic
            else []
        )
        self._networks = tuple(endpoint.networks)
        self.asks_basic = bool(self._basic)
        self.asks_token = bool(self._tokens)
        self.asks_request = bool(self._tokens or self._basic or self._networks)
        """Whether it asks for anything beside what is in a post."""

    def admit(self, peer: str | None, tokens: Sequence[str], authorization: str) -> Verdict | None:
        """None for a request that may pass, else why it may not.

        :param peer: the address the request comes from; None for a Unix socket.
        :param tokens: what came as the endpoint's token, in the query or in the path.
        :param authorization: the header's value, empty where it did not come.
        """
        if self._networks and not _within(peer, self._networks):
            return _refused(f"the address {peer} is in none of the endpoint's networks")
        if self._tokens:
            valid = [_equals_one(_encoded(token), self._tokens) for token in tokens]
            if not any(valid):
                given = "wrong" if tokens else "missing"
                return _refused(
                    f"the token is {given}: it belongs into the URL, behind the path "
                    f"or as {TOKEN_FIELD}=..."
                )
        if self._basic and not _equals_one(_basic(authorization), self._basic):
            given = "wrong" if authorization else "missing"
            return _refused(f"the HTTP Basic credentials are {given}")
        return None

    def admits_token(self, tokens: Sequence[str]) -> bool:
        """Whether one of `tokens` is the endpoint's."""
        return any(_equals_one(_encoded(token), self._tokens) for token in tokens)

    def login(self, username: str | None, pin: str | None) -> bool:
        """Whether the credentials in a post are the endpoint's."""
        if self._username is None and not self._pins:
            return True
        name_ok = self._username is None or compare_digest(
            _encoded((username or "").strip()), self._username
        )
        pin_ok = not self._pins or _equals_one(_encoded((pin or "").strip()), self._pins)
        return name_ok and pin_ok


def _secrets(secrets: Iterable[SecretStr]) -> list[bytes]:
    values = (secret.get_secret_value().strip() for secret in secrets)
    return [value.encode() for value in values if value]


def _encoded(text: str) -> bytes:
    """`text` as it compares; it may hold halves of characters, which no secret does."""
    return text.encode(errors="replace")


def _equals_one(given: bytes, secrets: Sequence[bytes]) -> bool:
    equal = [compare_digest(given, secret) for secret in secrets]
    return any(equal)


def _basic(authorization: str) -> bytes:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _within(peer: str | None, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    try:
        address = ip_address((peer or "").partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in networks)


def _refused(text: str) -> Verdict:
    return Verdict(Outcome.UNAUTHORIZED, text)
