"""Codes that open the console once: `receiptd console` makes one, the server reads it.

A code is signed with an API token, which both know, so nothing has to be told to the server
before. That it opens the console only once is the server's part: see `console/spent.py`.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import sha256
from secrets import token_urlsafe
from typing import NamedTuple

from itsdangerous import BadData, URLSafeTimedSerializer

from receiptd.config import ApiToken

SECONDS = 60
"""How long a code is good for."""

SHORTEST_TOKEN = 20
"""Characters of a token that codes are signed with. A code stays in a browser's history: whoever
finds it there can try tokens against its signature, as many as they like."""

LONGEST = 300
"""Characters of a code; those that are made have about a hundred."""


class Code(NamedTuple):
    """A code that is good."""

    token: ApiToken
    """By which it was signed: the session gets its scopes."""
    nonce: str
    """Tells it from all others."""


def signing_key(token: ApiToken, purpose: str) -> bytes:
    """A key that only who knows the token can make; for each purpose another one."""
    secret = token.token.get_secret_value().encode()
    return hmac.digest(secret, b"receiptd console: " + purpose.encode(), "sha256")


def serializer(token: ApiToken, purpose: str) -> URLSafeTimedSerializer:
    """Signs and reads texts that say when they were signed."""
    return URLSafeTimedSerializer(
        signing_key(token, purpose),
        salt=purpose,
        signer_kwargs={"key_derivation": "hmac", "digest_method": sha256},
    )


def make(token: ApiToken) -> str:
    """A new code."""
    return str(serializer(token, "code").dumps(token_urlsafe(16)))


def read(code: str, tokens: Sequence[ApiToken]) -> Code | None:
    """The code, if one of `tokens` has signed it within the last `SECONDS`."""
    if len(code) > LONGEST:
        return None
    for token in tokens:
        if len(token.token.get_secret_value()) < SHORTEST_TOKEN:
            continue
        try:
            nonce = serializer(token, "code").loads(code, max_age=SECONDS)
        except BadData:
            continue
        return Code(token, str(nonce))
    return None


def signer(tokens: Sequence[ApiToken]) -> ApiToken | None:
    """The token that a link is best signed with: one that may do everything, if there is one;
    None where no token is long enough."""
    long = [each for each in tokens if len(each.token.get_secret_value()) >= SHORTEST_TOKEN]
    return min(long, key=lambda each: -len(set(each.scopes)), default=None)
