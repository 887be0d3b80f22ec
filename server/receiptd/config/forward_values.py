"""The values of `[[forward]]`: how they are read, and what is wrong with them."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, SecretStr

from receiptd.config.errors import expected
from receiptd.config.kinds import one_or_many
from receiptd.duration import duration
from receiptd.receipt import Outcome

VERDICTS = (Outcome.ACCEPTED, Outcome.UNKNOWN_MESSAGE, Outcome.WRONG_RECIPIENT)
"""The verdicts that a stored receipt can have."""


def _span(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError(f'expected a duration in quotes, such as "15s", not {value!r}')
    span = duration(value)
    if not span:
        raise ValueError(f"{value!r} is no time at all")
    return span


def words_of(known: Iterable[str], what: str) -> AfterValidator:
    """Checks words of a filter."""
    names = [str(each) for each in known]

    def check(value: list[str]) -> list[str]:
        for each in value:
            if each not in names:
                raise ValueError(f"{each!r} is no {what}: {expected(each, names)}")
        return value

    return AfterValidator(check)


def check_secrets(value: list[SecretStr]) -> list[SecretStr]:
    """
    :raises ValueError: where one is no base64; which one is said by its number alone.
    """
    for number, secret in enumerate(value, 1):
        try:
            key = secret_key(secret)
        except ValueError:
            key = b""
        if not key:
            which = f"secret {number} is" if len(value) > 1 else "is"
            raise ValueError(
                f"{which} no base64, with or without whsec_ in front. To make one: "
                'echo "whsec_$(openssl rand -base64 32)"'
            )
    return value


def secret_key(secret: SecretStr) -> bytes:
    """The key that signs.

    :raises ValueError: where `secret` is no base64.
    """
    text = secret.get_secret_value().strip().removeprefix("whsec_")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


_OURS = ("host", "content-length", "content-type", "transfer-encoding", "connection")


def check_headers(value: dict[str, SecretStr]) -> dict[str, SecretStr]:
    """
    :raises ValueError: where one cannot be sent, or is set by receiptd itself.
    """
    for name, secret in value.items():
        # RFC 9110, sections 5.1 and 5.5
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", name):
            raise ValueError(f"{name[:100]!r} is no name of a header")
        text = secret.get_secret_value()
        if len(text) > 8192 or not re.fullmatch(r"[\x20-\x7e\t]*", text):
            raise ValueError(
                f"the value of {name} cannot be sent: expected printable ASCII, at most 8192 "
                "characters"
            )
        if name.lower() in _OURS or name.lower().startswith("webhook-"):
            raise ValueError(f"{name} is set by receiptd itself: leave it out")
    return value


def check_name(value: str) -> str:
    """
    :raises ValueError: where a destination cannot be called so.
    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,62})", value):
        raise ValueError(
            f"{value[:80]!r} is no name: expected small letters, digits and hyphens, such as "
            "'app', at most 63"
        )
    return value


Span = Annotated[timedelta, BeforeValidator(_span)]
Words = Annotated[list[str], BeforeValidator(one_or_many)]
Name = Annotated[str, AfterValidator(check_name)]
Secrets = Annotated[list[SecretStr], BeforeValidator(one_or_many), AfterValidator(check_secrets)]
Headers = Annotated[dict[str, SecretStr], AfterValidator(check_headers)]
