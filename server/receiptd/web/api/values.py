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

LONGEST_TEXT = 255

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
    value = _text(value).strip()
    if not value:
        raise ValueError("is empty: it must name the message")
    return value


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


def moment(value: object) -> datetime:
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
Identifier = Annotated[
    str,
    AfterValidator(_identifier),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": LONGEST_TEXT,
            "pattern": r"^[^\u0000]*[^\s\u0000][^\u0000]*$",
        }
    ),
]
Phone = Annotated[
    str,
    AfterValidator(_phone),
    WithJsonSchema(
        {"type": "string", "maxLength": 64, "pattern": "^[0-9 +()-]*[0-9][0-9 +()-]*$"}
    ),
]
ProviderName = Annotated[
    str,
    AfterValidator(_provider),
    WithJsonSchema({"type": "string", "enum": providers.names()}),
]
Parts = Annotated[int, Field(ge=1, le=255, strict=True), BeforeValidator(_integer)]
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
Verdict = Literal["accepted", "unknown-message", "wrong-recipient"]
Reason = Literal["invalid", "unauthorized", "unreadable"]
