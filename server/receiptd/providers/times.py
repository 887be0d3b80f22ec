"""Times that few providers write: seconds since 1970, and whatever form a configuration says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from receiptd.providers.fields import Invalid
from receiptd.providers.json_body import as_text
from receiptd.providers.values import Value, decimal, shown, utc


def epoch_time(field: str, value: Value, per_second: int = 1) -> datetime | None:
    """A time in seconds since 1970, or in milliseconds (`per_second` 1000); zero is None.

    :raises Invalid: where it is none.
    """
    number = decimal(field, value)
    if not number:
        return None
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(seconds=float(number / per_second))
    except (ValueError, OverflowError):
        raise Invalid(
            field, f"{field} is {shown(str(value))}: a time since 1970 was expected"
        ) from None


def formatted_time(field: str, value: Value, zone: tzinfo, form: str) -> datetime | None:
    """A time of the form that `datetime.strptime` knows; nothing but zeros is None.

    :raises Invalid: where it is none.
    """
    text = value if isinstance(value, str) or value is None else as_text(value)
    if text is None or not text.strip("0:-/. "):
        return None
    try:
        if len(text) <= 64:
            return utc(datetime.strptime(text, form), zone)
    except (ValueError, OverflowError):
        pass
    raise Invalid(field, f"{field} is {shown(text)}: a time of the form {form} was expected")
