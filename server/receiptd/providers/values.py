"""Values that every provider sends: identifiers, phone numbers, numbers, times, prices.

Each function takes the field's name, for its error, and the text as it came; or a number of a JSON
body; an absent value (None) stays None. Times are given back in UTC.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import TypeAlias
from zoneinfo import ZoneInfo

from receiptd.providers.fields import Invalid
from receiptd.providers.json_body import as_text
from receiptd.receipt import State

Value: TypeAlias = str | Decimal | int | None
"""A value as it came: a text, or a number of a JSON body."""

LONGEST_IDENTIFIER = 255
"""Characters; every provider's own limit is below 64, and an index has one too."""
LONGEST_CODE = 64

# SMPP v3.4: the words of a delivery receipt's text (appendix B) and the full names of
# `message_state` (section 5.2.28); this is the one table of them.
SMPP_WORDS = {
    "DELIVRD": State.DELIVERED,
    "UNDELIV": State.UNDELIVERABLE,
    "REJECTD": State.REJECTED,
    "ACCEPTD": State.ACCEPTED,
    **{str(state): state for state in State},
}

_PHONE = re.compile(r"[0-9 +()-]*[0-9][0-9 +()-]*")
_INTEGER = re.compile(r"[+-]?[0-9]{1,9}")
_DIGITS = re.compile(r"[0-9]{1,20}")
# ISO 8601, also with a space for the T, without seconds, with a fraction or an offset.
_ISO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,12})?)?"
    r"(Z|[+-][0-9]{2}:?[0-9]{2})?"
)
# Newer .NET runtimes put a narrow no-break space before AM and PM; `\s` takes it.
_US = re.compile(
    r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})\s+([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?"
    r"(?:\s*([AaPp])[Mm])?"
)
_COMPACT = re.compile(r"(?:20(?=[0-9]{12}$))?" + r"([0-9]{2})" * 5 + r"([0-9]{2})?")
_DECIMAL = re.compile(r"[+-]?([0-9]{1,20}([.,][0-9]{0,20})?|[.,][0-9]{1,20})")


def shown(value: str) -> str:
    """`value` quoted for an error, shortened where it is long."""
    return repr(value if len(value) <= 60 else value[:57] + "...")


def identifier(field: str, value: Value) -> str:
    """A message identifier, without surrounding space.

    :raises Invalid: where there is none, or one longer than `LONGEST_IDENTIFIER`.
    """
    if value is not None and not isinstance(value, str):
        value = as_text(value)
    value = value.strip() if value else None
    if not value:
        raise Invalid(field, f"{field} is missing: it must name the message")
    if len(value) > LONGEST_IDENTIFIER:
        raise Invalid(field, f"{field} has {len(value)} characters: at most {LONGEST_IDENTIFIER}")
    return value


def phone(field: str, value: Value) -> str | None:
    """A phone number as it was sent; whether it is plausible is nobody's business here.

    :raises Invalid: where it holds anything but digits, space, `+`, `-`, `(`, `)`.
    """
    if value is not None and not isinstance(value, str):
        value = as_text(value)
    if value is None:
        return None
    if (value.isascii() and value.isdigit() and len(value) <= 64) or (
        len(value) <= 64 and _PHONE.fullmatch(value)
    ):
        return value
    raise Invalid(field, f"{field} is {shown(value)}: a phone number in digits was expected")


def integer(field: str, value: Value) -> int | None:
    """A whole number of at most nine digits.

    :raises Invalid: where it is none.
    """
    if value is not None and not isinstance(value, str):
        value = as_text(value)
    if value is None:
        return None
    if _INTEGER.fullmatch(value):
        return int(value)
    raise Invalid(field, f"{field} is {shown(value)}: a whole number was expected")


def digits(field: str, value: Value) -> str | None:
    """At most twenty digits, as they were sent (leading zeros count).

    :raises Invalid: where there is anything else in it.
    """
    if value is not None and not isinstance(value, str):
        value = as_text(value)
    if value is None or _DIGITS.fullmatch(value):
        return value
    raise Invalid(field, f"{field} is {shown(value)}: digits were expected")


def word(field: str, value: Value) -> str | None:
    """A provider's code, of whatever characters.

    :raises Invalid: where it is longer than `LONGEST_CODE`.
    """
    if value is not None and not isinstance(value, str):
        value = as_text(value)
    if value is None or len(value) <= LONGEST_CODE:
        return value
    raise Invalid(field, f"{field} has {len(value)} characters: at most {LONGEST_CODE}")


def decimal(field: str, value: Value) -> Decimal | None:
    """A decimal number, with a point or a comma, its digits kept as sent.

    :raises Invalid: where it is none.
    """
    if value is not None and not isinstance(value, str):
        value = as_text(value)
    if value is None:
        return None
    if _DECIMAL.fullmatch(value):
        return Decimal(value.replace(",", "."))
    raise Invalid(field, f"{field} is {shown(value)}: a decimal number was expected")


def iso_time(
    field: str, value: Value, zone: tzinfo, example: str = "2013-09-01 09:12:29"
) -> datetime | None:
    """A time as `2013-09-01 09:12:29` or `2013-09-01T09:12`, in `zone` unless it carries an
    offset; `utc` says what becomes of the hour that a clock change repeats or skips.

    :param example: of how the provider writes one, for the error.
    :raises Invalid: where it is none.
    """
    if value is not None and not isinstance(value, str):
        value = as_text(value)
    if value is None:
        return None
    try:
        return _iso_time(value, zone)
    except (ValueError, OverflowError):
        raise Invalid(
            field, f"{field} is {shown(value)}: a time such as {example} was expected"
        ) from None


@lru_cache(1024)
def _iso_time(value: str, zone: tzinfo) -> datetime:
    """Remembered, since receipts come in bursts that say the same second.

    :raises ValueError: where it is none.
    """
    if not _ISO.fullmatch(value):
        raise ValueError(value)
    return utc(datetime.fromisoformat(value), zone)


def us_time(field: str, value: Value, zone: tzinfo) -> datetime | None:
    """A time as `5/8/2010 2:42:36 AM` or as ISO 8601; of the year 1 (.NET's empty date), None.

    :raises Invalid: where it is none.
    """
    if value is not None and not isinstance(value, str):
        value = as_text(value)
    if value is None:
        return None
    try:
        found = _US.fullmatch(value)
        if found:
            month, day, year, hour, minute, second, half = found.groups()
            time = datetime(
                int(year), int(month), int(day), _hour(hour, half), int(minute), int(second or 0)
            )
            return None if time.year == 1 else utc(time, zone)
        if value.startswith("0001-01-01"):
            return None
        return iso_time(field, value, zone)
    except (ValueError, OverflowError, Invalid):
        raise Invalid(
            field, f"{field} is {shown(value)}: a time such as 5/8/2010 2:42:36 AM was expected"
        ) from None


def _hour(hour: str, half: str | None) -> int:
    """The hour of 24; `half` is the first letter of AM or PM.

    :raises ValueError: where that is none, such as 13 PM.
    """
    number = int(hour)
    if half is None:
        return number
    if number > 12:
        raise ValueError(hour)
    return number % 12 + (12 if half in "Pp" else 0)


def smpp_time(field: str, value: Value, zone: tzinfo) -> datetime | None:
    """A time as `1209281334` (YYMMDDhhmm, SMPP v3.4, appendix B), also with seconds, also with
    the century; nothing but zeros is None.

    :raises Invalid: where it is none.
    """
    if value is not None and not isinstance(value, str):
        value = as_text(value)
    if value is None or not value.strip("0"):
        return None
    found = _COMPACT.fullmatch(value)
    try:
        if found:
            year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
            return utc(datetime(2000 + year, month, day, hour, minute, second), zone)
    except (ValueError, OverflowError):
        pass
    raise Invalid(
        field, f"{field} is {shown(value)}: a time such as 1209281334 (YYMMDDhhmm) was expected"
    )


def us_text(at: datetime | None, zone: tzinfo) -> str | None:
    """`at` as `us_time` reads it."""
    if at is None:
        return None
    time = wall(at, zone)
    half = "AM" if time.hour < 12 else "PM"
    clock = f"{time.hour % 12 or 12}:{time.minute:02}:{time.second:02} {half}"
    return f"{time.month}/{time.day}/{time.year:04} {clock}"


def wall(at: datetime, zone: tzinfo) -> datetime:
    """What a clock in `zone` shows at `at`: naive, so that of the hour that occurs twice it
    does not say which."""
    return at.astimezone(zone).replace(tzinfo=None, fold=0)


def utc(local: datetime, zone: tzinfo) -> datetime:
    """`local`, read in `zone` unless it carries an offset of its own, as UTC.

    Of the hour that occurs twice in autumn the first is taken; a time that spring skips is
    read with the offset before the change (PEP 495, fold=0).

    :raises OverflowError: where the result is before the year 1 or after 9999.
    """
    if local.tzinfo is None:
        local = local.replace(tzinfo=zone)
    return local.astimezone(UTC)


def zone(name: str) -> tzinfo:
    """The time zone of an IANA name.

    :raises ValueError: where there is none of that name.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f"no time zone is called {name!r}: use an IANA name such as 'Europe/Rome'"
        ) from None
