"""Notations of times: those that providers document, and those that they send instead.

Source: ISO 8601, RFC 9110 (section 5.6.7, the dates of mail and
HTTP), SMPP v3.4 (section 7.1.1 and appendix B).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import unquote

from receiptd.providers.clocks import utc

# ISO 8601, also with a space for the T, without seconds, with a fraction or an offset: what
# `datetime.fromisoformat` reads.
_ISO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,12})?)?"
    r"(Z|[+-][0-9]{2}:?[0-9]{2})?"
)
_OFFSET = r"(?:\s*(Z|UTC|GMT)|\s*([+-])([0-9]{1,2}):?([0-9]{2})?)?"
# And what it does not: a comma, slashes, the hour 24, the second 60, a plus that has become a
# space, an offset behind a space.
_ISO_LOOSE = re.compile(
    r"([0-9]{4})[-/]?([0-9]{2})[-/]?([0-9]{2})[T ]\s*([0-9]{2}):?([0-9]{2})"
    r"(?::?([0-9]{2})(?:[.,]([0-9]{1,12}))?)?" + _OFFSET
)
# Newer .NET runtimes put a narrow no-break space before AM and PM; `\s` takes it.
_US = re.compile(
    r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})\s+([0-9]{1,2}):([0-9]{2})"
    r"(?::([0-9]{2})(?:\.([0-9]{1,12}))?)?(?:\s*([AP])\.?M\.?)?" + _OFFSET
)
_COMPACT = re.compile(r"(?:20(?=[0-9]{12}$))?" + r"([0-9]{2})" * 5 + r"([0-9]{2})?")
# SMPP v3.4, section 7.1.1: YYMMDDhhmmss, tenths, the offset in quarters of an hour, and its sign
# or R for a relative time. A plus may have become a space, and that have been cut off.
_ABSOLUTE = re.compile(r"([0-9]{2})" * 6 + r"([0-9])([0-9]{2})([+-]?)")
RELATIVE = re.compile(r"([0-9]{2})" * 6 + r"([0-9])00R")
_EPOCH = re.compile(r"([0-9]{9,10})(?:\.([0-9]{1,9}))?|([0-9]{10})([0-9]{3})(?:[0-9]{3})?")
# The three of HTTP (RFC 9110, section 5.6.7): that of mail, that with hyphens, that of asctime.
_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_CLOCK = r"\s+([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?"
_MAIL = re.compile(
    r"(?:[A-Z]{3,9},?\s+)?([0-9]{1,2})[ -]([A-Z]{3})[ -]((?:[0-9]{2})?[0-9]{2})" + _CLOCK + _OFFSET
)
_ASCTIME = re.compile(r"[A-Z]{3}\s+([A-Z]{3})\s+([0-9]{1,2})" + _CLOCK + r"\s+([0-9]{4})")
_LOST_PLUS = re.compile(r"(?<=:[0-9]{2}) {1,2}(?=[0-9]{2}:?[0-9]{2}$)")
_NO_DATES = frozenset({date(1, 1, 1), date(1969, 12, 31), date(1970, 1, 1)})
"""Of times that say there is none: .NET's first, and second 0 of Unix in whatever zone."""
_NO_TIMES = frozenset(
    {"NULL", "(NULL)", "NONE", "NIL", "N/A", "NA", "NAN", "UNDEFINED", "UNKNOWN", "NEVER"}
)


@lru_cache(1024)
def read_time(value: str, zone: tzinfo, first: str) -> datetime | None:
    """Remembered, since receipts come in bursts that say the same second.

    :raises ValueError: where it is in no notation that is known here.
    """
    text = unquote(value) if "%" in value else value
    text = text.strip().upper()
    if not text.strip("0-/:. TZ+") or text in _NO_TIMES:
        return None
    for notation in _ORDER[first]:
        try:
            local = notation(text)
        except (ValueError, OverflowError):
            continue
        if local is not None:
            return known(local, zone)
    raise ValueError(value)


def known(local: datetime, zone: tzinfo) -> datetime | None:
    """`local` as UTC, None where it is of a date that says there is none.

    :param zone: of a time without an offset.
    :raises OverflowError: where it is before the year 1 or after 9999.
    """
    return None if local.date() in _NO_DATES else utc(local, zone)


def _iso(text: str) -> datetime | None:
    if _ISO.fullmatch(text):
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            pass
    if text.count(" ") and "+" not in text:
        text = _LOST_PLUS.sub("+", text)
    found = _ISO_LOOSE.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, *offset = found.groups()
    return _moment(int(year), int(month), int(day), int(hour), minute, second, fraction, offset)


def _us(text: str) -> datetime | None:
    found = _US.fullmatch(text)
    if found is None:
        return None
    month, day, year, hour, minute, second, fraction, half, *offset = found.groups()
    hours = _hour(hour, half)
    return _moment(int(year), int(month), int(day), hours, minute, second, fraction, offset)


def _us_with_half(text: str) -> datetime | None:
    """Only with AM or PM: elsewhere in the world the day stands first."""
    return _us(text) if "M" in text else None


def _mail(text: str) -> datetime | None:
    found = _MAIL.fullmatch(_LOST_PLUS.sub(" +", text))
    if found is not None:
        day, month, year, hour, minute, second, *offset = found.groups()
    else:
        found = _ASCTIME.fullmatch(text)
        if found is None:
            return None
        month, day, hour, minute, second, year = found.groups()
        offset = []
    number = int(year) if len(year) == 4 else 2000 + int(year)
    months = _MONTHS.index(month) + 1
    return _moment(number, months, int(day), int(hour), minute, second, None, offset)


def _compact(text: str) -> datetime | None:
    found = _COMPACT.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = found.groups()
    return _moment(2000 + int(year), int(month), int(day), int(hour), minute, second, None, ())


def _absolute(text: str) -> datetime | None:
    found = _ABSOLUTE.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, tenths, quarters, sign = found.groups()
    ahead = timedelta(minutes=15 * int(quarters)) * (-1 if sign == "-" else 1)
    if abs(ahead) > timedelta(hours=14):
        raise ValueError(text)
    local = _moment(2000 + int(year), int(month), int(day), int(hour), minute, second, tenths, ())
    return local.replace(tzinfo=timezone(ahead))


def _epoch(text: str) -> datetime | None:
    found = _EPOCH.fullmatch(text)
    if found is None:
        return None
    seconds, fraction = int(found[1] or found[3]), found[2] or found[4] or "0"
    if not 10**9 <= seconds < 2 * 10**9:  # 2001 to 2033; else it is rather a YYMMDDhhmm
        return None
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=_micro(fraction))


def _moment(
    year: int,
    month: int,
    day: int,
    hour: int,
    minute: str,
    second: str | None,
    fraction: str | None,
    offset: Sequence[str | None],
) -> datetime:
    """The time of these parts. The hour 24 is the end of the day (ISO 8601), the second 60 one
    that was inserted: datetime knows neither.

    :param offset: the matches of `_OFFSET`, or nothing.
    :raises ValueError: where there is no such time.
    """
    seconds = int(second or 0)
    micro = _micro(fraction) if fraction else 0
    later = timedelta()
    if hour == 24 and not int(minute) and not seconds and not micro:
        hour, later = 0, timedelta(days=1)
    elif seconds == 60:
        seconds, later = 59, timedelta(seconds=1)
    local = datetime(year, month, day, hour, int(minute), seconds, micro) + later
    if offset and offset[0]:
        return local.replace(tzinfo=UTC)
    if offset and offset[1]:
        ahead = timedelta(hours=int(offset[2] or 0), minutes=int(offset[3] or 0))
        return local.replace(tzinfo=timezone(-ahead if offset[1] == "-" else ahead))
    return local


def _micro(fraction: str) -> int:
    return int(fraction[:6].ljust(6, "0"))


def later(since: datetime, years: int, months: int, days: int, hours: int, *rest: int) -> datetime:
    """`since` and a period: years and months by the calendar, the last day of a shorter month
    where it has not so many.

    :param rest: minutes, seconds and tenths of a second.
    """
    minutes, seconds, tenths = rest
    count = since.year * 12 + since.month - 1 + years * 12 + months
    year, month = divmod(count, 12)
    for day in range(since.day, 27, -1):
        try:
            moved = since.replace(year=year, month=month + 1, day=day)
            break
        except ValueError:
            continue
    else:
        moved = since.replace(year=year, month=month + 1)
    return moved + timedelta(
        days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=100 * tenths
    )


def _hour(hour: str, half: str | None) -> int:
    """The hour of 24; `half` is the first letter of AM or PM.

    :raises ValueError: where that is none, such as 13 PM.
    """
    number = int(hour)
    if half is None:
        return number
    if number > 12:
        raise ValueError(hour)
    return number % 12 + (12 if half == "P" else 0)


_Notation: TypeAlias = Callable[[str], datetime | None]

_ORDER: dict[str, tuple[_Notation, ...]] = {
    "iso": (_iso, _epoch, _compact, _absolute, _us_with_half, _mail),
    "us": (_us, _iso, _epoch, _compact, _absolute, _mail),
    "smpp": (_compact, _absolute, _iso, _us, _epoch, _mail),
}
"""The notations that are tried, by the one that the provider documents."""
