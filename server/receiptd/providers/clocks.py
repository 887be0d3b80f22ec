"""Time zones: what a clock shows somewhere, and the same in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo


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
