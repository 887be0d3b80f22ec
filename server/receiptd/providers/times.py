"""Times that few providers write: seconds since 1970, and whatever form a configuration says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from receiptd.providers.fields import Invalid
from receiptd.providers.json_body import as_text
from receiptd.providers.notations import known
from receiptd.providers.values import Value, decimal, shown

_DAY = 24 * 60 * 60
"""Seconds."""


def epoch_time(field: str, value: Value, per_second: int = 1) -> datetime | None:
    """A time in seconds since 1970, or in milliseconds (`per_second` 1000); zero is
    None, and so is all of its day, which is zero somewhere.

    :raises Invalid: where it is none.
    """
    number = decimal(field, value)
    if number is None or abs(number) < _DAY * per_second:
        return None
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(seconds=float(number / per_second))
    except (ValueError, OverflowError):
        raise Invalid(
            field, f"{field} is {shown(str(value))}: a time since 1970 was expected"
        ) from None


def formatted_time(field: str, value: Value, zone: tzinfo, form: str) -> datetime | None:
    """A time of the form that `datetime.strptime` knows; nothing but zeros, and a
    date that says there is none, is None.

    :raises Invalid: where it is none.
    """
    text = value if isinstance(value, str) or value is None else as_text(value)
    if text is None or not text.strip("0:-/. "):
        return None
    try:
        if len(text) <= 64:
            return known(datetime.strptime(text, form), zone)
    except (ValueError, OverflowError):
        pass
    raise Invalid(field, f"{field} is {shown(text)}: a time of the form {form} was expected")
