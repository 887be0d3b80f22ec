"""JSON Web Tokens (RFC 7519) that providers sign their posts with."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from receiptd.providers.fields import Unverified
from receiptd.providers.signatures import matches


def claims(
    token: str,
    secrets: Iterable[bytes],
    *,
    algorithms: Sequence[str] = ("HS256",),
    required: Collection[str] = (),
) -> Mapping[str, Any]:
    """What a JSON Web Token (RFC 7519) claims, its signature checked; its times are not.

    :raises Unverified: where no secret fits, or a claim that is required is missing.
    """
    import jwt

    # The time is checked against the post's own, and a tolerance that the configuration gives.
    options: Any = {
        "require": list(required),
        **dict.fromkeys(("verify_exp", "verify_nbf", "verify_iat", "verify_aud"), False),
    }
    reason = "no secret is configured"
    for secret in secrets:
        try:
            with warnings.catch_warnings():
                # How long a secret is, is the vendor's affair.
                warnings.simplefilter("ignore")
                return jwt.decode(token, secret, algorithms=list(algorithms), options=options)
        except (jwt.InvalidTokenError, ValueError, RecursionError) as error:
            reason = str(error)
    raise Unverified(f"the signature is wrong: the JSON Web Token is not valid: {reason}")


def made(claimed: Mapping[str, Any], secret: bytes) -> str:
    """The token of these claims, by HS256; to sign what is simulated."""
    import jwt

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return jwt.encode(dict(claimed), secret, algorithm="HS256")


def check_hash(claimed: object, contents: Iterable[bytes], what: str) -> None:
    """That a claim is the SHA-256, in hex, of one of `contents`.

    :raises Unverified: where it is not.
    """
    given = claimed if isinstance(claimed, str) else ""
    if not matches([given.lower()], [hashlib.sha256(each).hexdigest() for each in contents]):
        raise Unverified(f"the signature is of another {what}")


def check_period(claimed: Mapping[str, Any], now: float, leeway: float) -> None:
    """That now is between a token's `nbf` and `exp`.

    :raises Unverified: where it is not, or where one is no number.
    """
    begins, ends = claimed.get("nbf"), claimed.get("exp")
    if not isinstance(begins, (int, float)) or not isinstance(ends, (int, float)):
        raise Unverified("the signature's nbf or exp is no number")
    if now < begins - leeway or now > ends + leeway:
        raise Unverified("the signature is not valid at this time: is it a replay?")
