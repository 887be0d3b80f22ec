"""Spans of time as people write them: `90s`, `30m`, `24h`, `7d`, `2w`."""

from __future__ import annotations

import re
from datetime import timedelta

EXAMPLES = "90s, 30m, 24h, 7d or 2w"

_DURATION = re.compile(r"(\d{1,9})\s*([smhdw])", re.ASCII | re.IGNORECASE)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(text: str) -> timedelta:
    """The span that `text` says: a whole number and its unit.

    :raises ValueError: where it says none, or one of more than 100 years.
    """
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is no duration such as {EXAMPLES}")
    try:
        span = timedelta(**{_UNITS[found[2].lower()]: int(found[1])})
    except OverflowError:  # not even `timedelta` reaches that far
        span = timedelta.max
    if span > _LONGEST:
        raise ValueError(f"{text!r} is more than 100 years")
    return span


_LONGEST = timedelta(days=36525)
