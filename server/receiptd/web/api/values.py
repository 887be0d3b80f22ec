"""The values that requests to the API carry, as they are read and as its document says them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from receiptd import providers
from receiptd.config.errors import expected
from receiptd.duration import EXAMPLES, duration
from receiptd.providers import Invalid, values
from receiptd.receipt import visible

LONGEST_TEXT = 255
LARGEST_NUMBER = 10**18 - 1
"""Of an identifier that is a JSON number: parsers keep that many digits."""

# A character that can be seen: no space, control, soft hyphen, zero-width or direction mark.
_SEEN = r"[^\s\u0000-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]"

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def _text(value: str) -> str:
    if not value:
        raise ValueError("is empty")
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"has {len(value)} characters: at most {LONGEST_TEXT}")
    if "\0" in value:
        raise ValueError("contains NUL")
    return value


def _identifier(value: str) -> str:
    if not re.search(_SEEN, _text(value)):
        raise ValueError("is empty: it must name the message")
    return visible(value) or value.strip()


def _number_as_text(value: object) -> object:
    """An identifier may be a number in JSON, which counts 2.0 among the integers."""
    whole = _integer(value)
    return str(whole) if type(whole) is int and 0 <= whole <= LARGEST_NUMBER else value


def _phone(value: str) -> str:
    try:
        found = values.phone("it", value)
    except Invalid as error:
        raise ValueError(error.text.removeprefix("it ")) from None
    assert found is not None
    return found


def _provider(value: str) -> str:
    if value not in providers.load():
        raise ValueError(
            f"no provider is called {values.shown(value)}: {expected(value, providers.names())}"
        )
    return value


def _whole(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        return int(value)
    raise ValueError(f"expected a whole number, not {values.shown(str(value))}")


def _integer(value: object) -> object:
    # JSON Schema counts 2.0 among the integers.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _yes_or_no(value: object) -> bool:
    if value not in ("true", "false"):
        raise ValueError(f"expected true or false, not {values.shown(str(value))}")
    return value == "true"


def _moment(value: object) -> datetime:
    """A time, or an age, which is counted back from now."""
    text = str(value)
    # A plus that was not escaped has become a space.
    text = re.sub(r"(?<=T)(.*) (?=[0-9]{2}:?[0-9]{2}$)", r"\1+", text.upper())
    try:
        return datetime.now(UTC) - duration(text)
    except ValueError:
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
    "maxLength": LONGEST_TEXT,
    "pattern": rf"^[^\u0000]*{_SEEN}[^\u0000]*$",
}
Identifier = Annotated[str, AfterValidator(_identifier), WithJsonSchema(_IDENTIFIER_SCHEMA)]
NumberOrIdentifier = Annotated[
    str,
    BeforeValidator(_number_as_text),
    AfterValidator(_identifier),
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
    AfterValidator(_phone),
    WithJsonSchema(
        {"type": "string", "maxLength": 64, "pattern": "^[0-9 +().-]*[0-9][0-9 +().-]*$"}
    ),
]
ProviderName = Annotated[
    str,
    AfterValidator(_provider),
    WithJsonSchema({"type": "string", "enum": providers.names()}),
]
Parts = Annotated[int, Field(ge=1, le=255, strict=True), BeforeValidator(_integer)]
Whole = Annotated[int, Field(ge=0), BeforeValidator(_whole)]
Limit = Annotated[int, Field(ge=1, le=1000), BeforeValidator(_whole)]
YesOrNo = Annotated[bool, BeforeValidator(_yes_or_no)]
Cursor = Annotated[
    int,
    BeforeValidator(_cursor),
    WithJsonSchema({"type": "string", "pattern": "^[0-9a-z]{1,12}$"}),
]
Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    WithJsonSchema(
        {
            "type": "string",
            "anyOf": [{"format": "date-time"}, {"pattern": "^([0-9]{1,4}[smhd]|[0-9]{1,3}w)$"}],
        }
    ),
]
Verdict = Literal["accepted", "unknown-message", "wrong-recipient"]
Reason = Literal["invalid", "unauthorized", "unreadable"]
