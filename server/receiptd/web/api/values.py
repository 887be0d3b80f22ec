"""The values that requests to the API carry, as they are read and as its document says them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    WithJsonSchema,
)

from receiptd.duration import EXAMPLES, duration
from receiptd.errors import did_you_mean
from receiptd.providers import values
from receiptd.providers.values import LONGEST_IDENTIFIER
from receiptd.receipt import MOST_PARTS
from receiptd.registration import rules
from receiptd.registration.rules import LONGEST_PHONE, LONGEST_TEXT

LONGEST_MOMENT = 64
"""Characters of a time; ISO 8601 with all its parts has some 35."""
LARGEST_NUMBER = 10**18 - 1
"""Of an identifier that is a JSON number: parsers keep that many digits."""

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_OFFSET = re.compile(r"[0-9]{2}:?[0-9]{2}")


def _text(value: str) -> str:
    if not value:
        raise ValueError("is empty")
    return rules.text(value)


def _number_as_text(value: object) -> object:
    """An identifier may be a number in JSON, which counts 2.0 among the integers."""
    whole = _integer(value)
    return str(whole) if type(whole) is int and 0 <= whole <= LARGEST_NUMBER else value


def _provider(value: str, info: ValidationInfo) -> str:
    """:raises ValueError: where it is none of the context's `providers`."""
    return rules.provider(value, (info.context or {})["providers"])


def _whole(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        return int(value)
    raise ValueError(f"expected a whole number, not {values.shown(str(value))}")


def _integer(value: object) -> object:
    # JSON Schema counts 2.0 among the integers.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _split(value: object) -> object:
    if isinstance(value, list):
        return [name for each in value for name in str(each).split(",") if name]
    return value


def one_of(known: Sequence[str], value: str) -> str:
    """:raises ValueError: where it is none of `known`."""
    if value not in known:
        raise ValueError(f"no field is called {values.shown(value)}: {did_you_mean(value, known)}")
    return value


def _sent_at(value: object) -> datetime:
    if not isinstance(value, str):
        raise ValueError(f"is {values.shown(str(value))}: a text was expected")
    return rules.sent_at(value)


def _yes_or_no(value: object) -> bool:
    if value not in ("true", "false"):
        raise ValueError(f"expected true or false, not {values.shown(str(value))}")
    return value == "true"


def moment(value: object) -> datetime:
    """A time, or an age, which is counted back from now."""
    text = str(value)
    if len(text) > LONGEST_MOMENT:
        raise ValueError(f"has {len(text)} characters: no time has more than {LONGEST_MOMENT}")
    text = text.upper()
    # A plus that was not escaped has become a space.
    clock, space, offset = text.rpartition(" ")
    if space and "T" in clock and _OFFSET.fullmatch(offset):
        text = f"{clock}+{offset}"
    try:
        return datetime.now(UTC) - duration(text)
    except (ValueError, OverflowError):
        pass
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{values.shown(str(value))} is no time such as 2026-01-31T18:00:00Z and no age such "
            f"as {EXAMPLES}"
        ) from None


def _cursor(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9a-z]{1,12}", value):
        return int(value, 36)
    raise ValueError("is none that an earlier page's `next` holds")


def cursor(number: int) -> str:
    """`number` as a cursor: whoever gets it need not know what it says."""
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text or "0"


Text = Annotated[
    str,
    AfterValidator(_text),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": LONGEST_TEXT,
            "pattern": r"^[^\u0000]*$",
        }
    ),
]
_IDENTIFIER_SCHEMA = {
    "type": "string",
    "minLength": 1,
    "maxLength": LONGEST_IDENTIFIER,
    "pattern": rf"^[^\u0000]*{rules.SEEN}[^\u0000]*$",
}
Identifier = Annotated[str, AfterValidator(rules.identifier), WithJsonSchema(_IDENTIFIER_SCHEMA)]
NumberOrIdentifier = Annotated[
    str,
    BeforeValidator(_number_as_text),
    AfterValidator(rules.identifier),
    WithJsonSchema(
        {
            "anyOf": [
                _IDENTIFIER_SCHEMA,
                {"type": "integer", "minimum": 0, "maximum": LARGEST_NUMBER},
            ]
        }
    ),
]
Phone = Annotated[
    str,
    AfterValidator(rules.phone),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": LONGEST_PHONE,
            "pattern": "^[0-9 +().-]*[0-9][0-9 +().-]*$",
        }
    ),
]
ProviderName = Annotated[
    str,
    AfterValidator(_provider),
    WithJsonSchema({"type": "string"}),  # the document has their names
]
Parts = Annotated[
    int,
    Field(strict=True),
    BeforeValidator(_integer),
    AfterValidator(rules.parts),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MOST_PARTS}),
]
SentAt = Annotated[
    datetime,
    BeforeValidator(_sent_at),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Whole = Annotated[int, Field(ge=0, le=10**18 - 1), BeforeValidator(_whole)]
Limit = Annotated[int, Field(ge=1, le=1000), BeforeValidator(_whole)]
YesOrNo = Annotated[bool, BeforeValidator(_yes_or_no)]
Cursor = Annotated[
    int,
    BeforeValidator(_cursor),
    WithJsonSchema({"type": "string", "pattern": "^[0-9a-z]{1,12}$"}),
]
Moment = Annotated[
    datetime,
    BeforeValidator(moment),
    WithJsonSchema(
        {
            "type": "string",
            "anyOf": [{"format": "date-time"}, {"pattern": "^([0-9]{1,4}[smhd]|[0-9]{1,3}w)$"}],
        }
    ),
]
T = TypeVar("T")

Several = Annotated[list[T], BeforeValidator(_split)]
"""Values that may come several times, or with commas between them."""
Verdict = Literal["accepted", "unknown-message", "wrong-recipient"]
Reason = Literal["invalid", "unauthorized", "unreadable"]
