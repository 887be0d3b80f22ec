"""Signatures that providers put on their posts: how each vendor makes one, and how one is checked.

A vendor's function computes the signature that a secret gives, so that the same words check a
post and sign a simulated one. All secrets that are valid and all URLs under which a provider may
know an endpoint are tried, and each comparison takes the same time whatever was sent.

Sources: the vendors' own libraries and pages; each function names its own.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from receiptd.providers.fields import Unverified

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LONGEST_SIGNATURE = 8192
"""Characters; a longer header is no signature of anybody's."""
LONGEST_TIME = 12
"""Digits of a time in seconds."""

ALGORITHMS = ("sha256", "sha512", "sha384", "sha1", "md5")
"""What a keyed hash may be made with."""


def matches(given: Iterable[str], expected: Iterable[str]) -> bool:
    """Whether one of the signatures `given` is one of those `expected`; takes as long where the
    first pair is equal as where none is."""
    known = [each.encode() for each in expected]
    equal = [
        hmac.compare_digest(each.encode(errors="replace"), right)
        for each in given
        for right in known
    ]
    return any(equal)


def require(given: str, header: str) -> str:
    """The value of a header that must be there.

    :raises Unverified: where it is missing, or longer than any signature.
    """
    if not given:
        raise Unverified(f"the signature is missing: the header {header} must carry it")
    if len(given) > LONGEST_SIGNATURE:
        raise Unverified(f"the header {header} has {len(given)} characters: that is no signature")
    return given


def check(given: Iterable[str], expected: Iterable[str]) -> None:
    """As `matches`.

    :raises Unverified: where none is equal.
    """
    if not matches(given, expected):
        raise Unverified("the signature is wrong: is the secret, or the public URL, another one?")


def check_time(stamp: str, now: float, tolerance: float | None) -> None:
    """That a signed time is near enough to now.

    :param stamp: seconds since 1970, as text.
    :param now: the same, of the clock here.
    :param tolerance: seconds, before and after; None: any time will do.
    :raises Unverified: where it is not.
    """
    if tolerance is None:
        return
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= LONGEST_TIME):
        raise Unverified("the time of the signature is missing or is no number of seconds")
    seconds = abs(now - int(stamp))
    if seconds > tolerance:
        raise Unverified(
            f"the signature is {seconds:.0f} seconds away from now, and {tolerance:.0f} are "
            "allowed: is it a replay, or is a clock wrong?"
        )


def keyed_hash(secret: bytes, message: bytes, algorithm: str = "sha256") -> bytes:
    """HMAC (RFC 2104)."""
    return hmac.new(secret, message, algorithm).digest()


def in_base64(digest: bytes) -> str:
    """A hash as most vendors write it."""
    return b64encode(digest).decode("ascii")


def in_hex(digest: bytes) -> str:
    """A hash as the others do, in lower case."""
    return digest.hex()


def form_pairs(raw: bytes) -> list[tuple[str, str]]:
    """The names and values of a form or a query as a signature covers them: decoded, nothing
    trimmed, empty values included."""
    return parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True, errors="replace")


def with_and_without_port(url: str) -> list[str]:
    """`url` as given, without its port, and with one: vendors' servers do not agree with
    themselves on which they sign (twilio-python's request_validator says so)."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    try:
        port = parts.port
    except ValueError:
        return [url]
    port = port or {"https": 443, "http": 80}.get(parts.scheme)
    bare = urlunsplit(parts._replace(netloc=host))
    ported = urlunsplit(parts._replace(netloc=f"{host}:{port}"))
    return list(dict.fromkeys((url, bare, ported)))


def twilio(secret: bytes, url: str, pairs: Iterable[tuple[str, str]]) -> str:
    """`X-Twilio-Signature` (Twilio's page "Security"; twilio-python's request_validator).

    :param pairs: the form's fields; nothing for a body that is no form.
    """
    fields: dict[str, set[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, set()).add(value)
    signed = url + "".join(
        name + value for name in sorted(fields) for value in sorted(fields[name])
    )
    return in_base64(keyed_hash(secret, signed.encode(), "sha1"))


def twilio_body_is_hashed(url: str, body: bytes) -> bool:
    """Whether the `bodySHA256` of a URL is the body's: so Twilio covers one that is no form."""
    given = [
        value for name, value in form_pairs(urlsplit(url).query.encode()) if name == "bodySHA256"
    ]
    return matches(given, [hashlib.sha256(body).hexdigest()])


def vonage(secret: bytes, pairs: Iterable[tuple[str, str]], method: str = "md5hash") -> str:
    """`sig` of the SMS API (Nexmo's page "Signing messages"; Vonage's PHP library), in lower case.

    :param pairs: all parameters; a `sig` among them is left out.
    :param method: `md5hash`, or an HMAC's `md5`, `sha1`, `sha256`, `sha512`.
    """
    base = "".join(
        f"&{name}={value.replace('&', '_').replace('=', '_')}"
        for name, value in sorted(pairs)
        if name != "sig"
    ).encode()
    if method == "md5hash":
        return hashlib.md5(base + secret, usedforsecurity=False).hexdigest()
    return in_hex(keyed_hash(secret, base, method))


def sinch(secret: bytes, body: bytes, nonce: str, stamp: str) -> str:
    """`x-sinch-webhook-signature` (Sinch's page "Webhooks" and its libraries)."""
    return in_base64(keyed_hash(secret, b".".join((body, nonce.encode(), stamp.encode()))))


def plivo_v2(secret: bytes, url: str, nonce: str) -> str:
    """`X-Plivo-Signature-V2` (plivo-go's utils): it does not cover the fields."""
    bare = urlunsplit(urlsplit(url)._replace(query="", fragment=""))
    return in_base64(keyed_hash(secret, (bare + nonce).encode()))


def plivo_v3(
    secret: bytes, method: str, url: str, pairs: Iterable[tuple[str, str]], nonce: str
) -> str:
    """`X-Plivo-Signature-V3` and `-Ma-V3` (plivo-python's signature_v3, plivo-go's utils).

    :param pairs: the form's fields; those of a query stand in the URL.
    """
    parts = urlsplit(url)
    asked = form_pairs(parts.query.encode())
    fields = sorted(pairs)
    if method == "GET":
        asked, fields = asked + fields, []
    query = "&".join(f"{name}={value}" for name, value in sorted(asked))
    signed = urlunsplit(parts._replace(query="", fragment=""))
    if query or fields:
        signed += f"?{query}"
    if fields:
        signed += ("." if query else "") + "".join(name + value for name, value in fields)
    return in_base64(keyed_hash(secret, f"{signed}.{nonce}".encode()))


def standard_webhooks(secret: bytes, identifier: str, stamp: str, body: bytes) -> str:
    """One signature of `webhook-signature`, with its version (the specification of Standard
    Webhooks, "Signature scheme").

    :param secret: the key; `standard_webhooks_key` takes it out of `whsec_...`.
    """
    signed = b".".join((identifier.encode(), stamp.encode(), body))
    return f"v1,{in_base64(keyed_hash(secret, signed))}"


def standard_webhooks_key(secret: str) -> bytes:
    """The key that a `whsec_...` stands for.

    :raises ValueError: where the rest is not Base64.
    """
    try:
        return b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise ValueError("expected a secret such as whsec_..., the rest in Base64") from None


def bird(secret: bytes, url: str, stamp: str, body: bytes) -> str:
    """`messagebird-signature` of Bird's channels (Bird's page "Verifying a webhook")."""
    signed = f"{stamp}\n{url}\n".encode() + hashlib.sha256(body).digest()
    return in_base64(keyed_hash(secret, signed))


def ed25519_key(text: str) -> Ed25519PublicKey:
    """A public key of 32 bytes, in Base64 or in hex.

    :raises ValueError: where it is none.
    """
    # Not at the top: reading it takes longer than all else that a command reads.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        raw = bytes.fromhex(text) if len(text) == 64 else b64decode(text, validate=True)
        return Ed25519PublicKey.from_public_bytes(raw)
    except (ValueError, binascii.Error):
        raise ValueError("expected a public key of 32 bytes in Base64") from None


def check_ed25519(keys: Sequence[Ed25519PublicKey], signature: str, signed: bytes) -> None:
    """That `signature` (Base64 of 64 bytes) was made of `signed` with one of `keys`.

    :raises Unverified: where it was not.
    """
    from cryptography.exceptions import InvalidSignature

    try:
        raw = b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        raise Unverified("the signature is not Base64") from None
    for key in keys:
        try:
            key.verify(raw, signed)
        except InvalidSignature:
            continue
        return
    raise Unverified("the signature is wrong: is the public key another one?")
