"""What a message that is registered may say: one rule for the API, for files and for commands.

Each function takes a value and gives back what is registered. The text of the `ValueError` that
it raises goes on behind the value's name.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime

from receiptd.errors import did_you_mean
from receiptd.providers.post import Invalid
from receiptd.providers.values import LONGEST_IDENTIFIER, shown
from receiptd.providers.values import phone as read_phone
from receiptd.receipt import MOST_PARTS, visible

LONGEST_TEXT = 255
"""Characters of a sender and of a reference."""

LONGEST_PHONE = 64
"""Characters of a phone number, with all that people write between its digits."""

LONGEST_TIME = 64
"""Characters of a time; ISO 8601 with all its parts has some 35."""

# A character that can be seen: no space, control, soft hyphen, zero-width or direction mark.
SEEN = r"[^\s\u0000-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]"

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def provider(value: str, configured: Collection[str]) -> str:
    """The provider's name.

    :param configured: those that an endpoint is configured for. No receipt of any other could
        come, and only an endpoint says by which country's rules a recipient is read.
    :raises ValueError: if it is not one of them.
    """
    if value not in configured:
        raise ValueError(
            f"is {shown(value)}, for which no endpoint is configured: "
            f"{did_you_mean(value, configured)}"
        )
    return value


def identifier(value: str) -> str:
    """The provider's identifier of the message, without surrounding space and without what
    nobody sees.

    :raises ValueError: if nothing is left, or it is too long, or no database takes it.
    """
    if not re.search(SEEN, text(value, LONGEST_IDENTIFIER)):
        raise ValueError("is empty: it must name the message")
    return visible(value) or value.strip()


def text(value: str, longest: int = LONGEST_TEXT) -> str:
    """A sender or a reference.

    :raises ValueError: if it is too long, or no database takes it.
    """
    if len(value) > longest:
        raise ValueError(f"has {len(value)} characters: at most {longest}")
    if found := _UNSTORABLE.search(value):
        name = "NUL" if found[0] == "\0" else "half of a surrogate pair"
        raise ValueError(f"contains {name}, which no database takes")
    return value


def phone(value: str) -> str:
    """A recipient, as it was written.

    :raises ValueError: if it is not a phone number.
    """
    try:
        found = read_phone("", value)
    except Invalid as error:
        raise ValueError(error.text.strip()) from None
    assert found is not None
    return found


def parts(value: int) -> int:
    """How many parts the message has.

    :raises ValueError: where a message cannot have so many.
    """
    if not 1 <= value <= MOST_PARTS:
        raise ValueError(f"is {value}: expected 1 to {MOST_PARTS}")
    return value


def sent_at(value: str) -> datetime:
    """When a message was sent: ISO 8601, in UTC where it has no offset.

    :raises ValueError: if it is no such time.
    """
    if len(value) > LONGEST_TIME:
        raise ValueError(f"has {len(value)} characters: no time has more than {LONGEST_TIME}")
    try:
        at = datetime.fromisoformat(value.strip().upper())
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"is {shown(value)}: expected a time such as 2026-01-31T18:00:00Z"
        ) from None
