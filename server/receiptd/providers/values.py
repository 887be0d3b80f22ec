"""Values that every provider sends: identifiers, phone numbers, numbers, times, prices.

Each function takes the field's name, for its error, and the text as it came; an absent value
(None) stays None; a number of a JSON body is read as its text. Times are given back in UTC. Every
one bounds what it takes.

A receipt is worth more than its date: a provider reads what it can do without through `Lenient`,
which keeps what cannot be read instead of refusing the post.

Longer than 300 lines because each reader is a few lines with the notations that it takes, and
all providers look here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import lru_cache
from html.entities import html5
from typing import TypeAlias, TypeVar, TypeVarTuple
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from receiptd.providers.fields import Fields, Invalid
from receiptd.providers.json_body import as_text
from receiptd.receipt import MOST_PARTS, State, visible

Value: TypeAlias = str | Decimal | int | None
"""A value as it came: a text, or a number of a JSON body."""

LONGEST_IDENTIFIER = 255
"""Characters; every provider's own limit is below 64, and an index has one too."""
LONGEST_CODE = 64
LONGEST_TIME = 64

# SMPP v3.4: the words of a delivery receipt's text (appendix B) and the full names of
# `message_state` (section 5.2.28); SMPP v5.0 has two more. This is the one table of them.
SMPP_WORDS = {
    "DELIVRD": State.DELIVERED,
    "UNDELIV": State.UNDELIVERABLE,
    "REJECTD": State.REJECTED,
    "ACCEPTD": State.ACCEPTED,
    "SCHEDULED": State.ENROUTE,
    "SKIPPED": State.REJECTED,
    **{str(state): state for state in State},
}

# Words that aggregators and carriers send in the place of those, each with the nearest state; as
# `state_of_word` compares them.
_WORDS = SMPP_WORDS | {
    "ACCEPT": State.ACCEPTED,
    "BLOCKED": State.REJECTED,
    "BUFFERD": State.ENROUTE,
    "BUFFERED": State.ENROUTE,
    "BUFFRED": State.ENROUTE,
    "CANCELED": State.DELETED,
    "CANCELLED": State.DELETED,
    "CARRIERERRORUNKNOWN": State.UNDELIVERABLE,
    "DELIVERD": State.DELIVERED,
    "DELIVEREDTOCARRIER": State.ENROUTE,
    "DELIVEREDTODEVICE": State.DELIVERED,
    "DELIVEREDTOHANDSET": State.DELIVERED,
    "DELIVEREDTONETWORK": State.ENROUTE,
    "DELIVEREDTOOPERATOR": State.ENROUTE,
    "DELIVEREDTOPHONE": State.DELIVERED,
    "DELIVEREDTOSMSC": State.ENROUTE,
    "DELIVEREDTOTERMINAL": State.DELIVERED,
    "ERROR": State.UNDELIVERABLE,
    "EXPIRD": State.EXPIRED,
    "FAIL": State.UNDELIVERABLE,
    "FAILED": State.UNDELIVERABLE,
    "NOCRED": State.REJECTED,
    "NOCREDIT": State.REJECTED,
    "NOTDELIVERED": State.UNDELIVERABLE,
    "PENDING": State.ENROUTE,
    "QUEUED": State.ENROUTE,
    "REJECT": State.REJECTED,
    "RETRY": State.ENROUTE,
    "RETRYING": State.ENROUTE,
    "SENDING": State.ENROUTE,
    "SENT": State.ENROUTE,
    "SUBMITTED": State.ENROUTE,
    "SYSERR": State.UNDELIVERABLE,
    "SYSTEMERROR": State.UNDELIVERABLE,
    "UNDELIVERED": State.UNDELIVERABLE,
}
_NO_LETTER = re.compile(r"[^A-Z0-9]+")


def state_of_word(word: str | None) -> State | None:
    """The state that a word of the field stands for, whatever its case, spaces and hyphens; None
    for a word of no table, and for UNKNOWN, which says nothing."""
    if not word or len(word) > LONGEST_CODE:
        return None
    upper = word.upper()
    state = _WORDS.get(upper) or _WORDS.get(_NO_LETTER.sub("", upper))
    return None if state is State.UNKNOWN else state


T = TypeVar("T")
More = TypeVarTuple("More")


class Lenient:
    """Reads values that a receipt can do without, and keeps those that cannot be read."""

    __slots__ = ("unread",)

    def __init__(self) -> None:
        self.unread: dict[str, str] = {}
        """What could not be read, by field."""

    def __call__(
        self,
        read: Callable[[str, str | None, *More], T],
        field: str,
        value: str | None,
        *more: *More,
    ) -> T | None:
        """What `read` makes of `value`, None where it cannot."""
        if value is None:
            return None
        try:
            return read(field, value, *more)
        except Invalid:
            self.unread[field] = value
            return None

    def rest(
        self, fields: Fields, known: frozenset[str], fold: Callable[[str], str] = str.casefold
    ) -> tuple[dict[str, object], tuple[str, ...]]:
        """A receipt's `extra` and `unread`: what `Fields.rest` gives, and with it whatever could
        not be read, as it came and by the name as it was sent."""
        if not self.unread:
            return fields.rest(known), ()
        extra = fields.rest(known - {fold(field) for field in self.unread})
        sent = {fold(name): name for name in extra}
        names = []
        for field, value in self.unread.items():
            name = sent.get(fold(field), field)
            extra.setdefault(name, value)
            names.append(name)
        return extra, tuple(names)


_PHONE = re.compile(r"[0-9 +()./\u00a0\u202f\u2010-\u2015-]{1,64}")
_INTEGER = re.compile(r"[+-]?[0-9]{1,9}")
_DIGITS = re.compile(r"[0-9]{1,20}")
_DIGIT = frozenset("0123456789")
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
_RELATIVE = re.compile(r"([0-9]{2})" * 6 + r"([0-9])00R")
_EPOCH = re.compile(r"([0-9]{9,10})(?:\.([0-9]{1,9}))?|([0-9]{10})([0-9]{3})(?:[0-9]{3})?")
_NO_TIMES = frozenset(
    {"NULL", "(NULL)", "NONE", "NIL", "N/A", "NA", "NAN", "UNDEFINED", "UNKNOWN", "NEVER"}
)
_DECIMAL = re.compile(r"[+-]?([0-9]{1,20}([.,][0-9]{0,20})?|[.,][0-9]{1,20})")
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(,[0-9]{3}){1,5}\.[0-9]{1,20}")


def shown(value: str) -> str:
    """`value` quoted for an error, shortened where it is long."""
    return repr(value if len(value) <= 60 else value[:57] + "...")


def identifier(field: str, value: Value) -> str:
    """A message identifier, without surrounding space and characters that nobody sees.

    :raises Invalid: where there is none, or one longer than `LONGEST_IDENTIFIER`.
    """
    if value is not None and not isinstance(value, str):
        value = as_text(value)
    value = visible(value) if value else None
    if not value:
        raise Invalid(field, f"{field} is missing: it must name the message")
    if len(value) > LONGEST_IDENTIFIER:
        raise Invalid(field, f"{field} has {len(value)} characters: at most {LONGEST_IDENTIFIER}")
    return value


def phone(field: str, value: Value) -> str | None:
    """A phone number as it was sent; whether it is plausible is nobody's business here. A plus
    that was percent-encoded twice is one.

    :raises Invalid: where it holds anything but digits and what is written between them.
    """
    if value is not None and not isinstance(value, str):
        value = as_text(value)
    if value is None or (value.isascii() and value.isdigit() and len(value) <= 64):
        return value
    number = value
    if "%" in number or not number.isprintable():
        number = visible(number[:100].replace("%2B", "+").replace("%2b", "+"))
    if _PHONE.fullmatch(number) and any(map(str.isdigit, number)):
        return number
    raise Invalid(field, f"{field} is {shown(value)}: a phone number in digits was expected")


def integer(field: str, value: Value) -> int | None:
    """A whole number of at most nine digits.

    :raises Invalid: where it is none.
    """
    if value is not None and not isinstance(value, str):
        value = as_text(value)
    if value is None:
        return None
    if value in _DIGIT or _INTEGER.fullmatch(value):
        return int(value)
    raise Invalid(field, f"{field} is {shown(value)}: a whole number was expected")


def part(field: str, value: str | None) -> int | None:
    """The number of a part, or how many there are: at most `MOST_PARTS`.

    :raises Invalid: where it is none.
    """
    number = integer(field, value)
    if number is not None and not 0 <= number <= MOST_PARTS:
        raise Invalid(field, f"{field} is {number}: a message has at most {MOST_PARTS} parts")
    return number


def code(field: str, value: str | None) -> str | None:
    """A provider's numeric code, without leading zeros and plus; what is no number, as it is.

    :raises Invalid: where it is longer than `LONGEST_CODE`.
    """
    if value is None or value in _DIGIT:
        return value
    return str(int(value)) if _INTEGER.fullmatch(value) else word(field, value)


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
    """A decimal number, with a point or a comma, its digits kept as sent. With both, the last one
    is the decimal sign. It has at most forty digits and no exponent.

    :raises Invalid: where it is none.
    """
    if value is not None and not isinstance(value, str):
        value = as_text(value)
    if value is None:
        return None
    if _DECIMAL.fullmatch(value):
        return Decimal(value.replace(",", "."))
    if len(value) <= 64:
        for written in (value, value.translate(_SWAPPED)):
            if _GROUPED.fullmatch(written):
                return Decimal(written.replace(",", ""))
    raise Invalid(field, f"{field} is {shown(value)}: a decimal number was expected")


_SWAPPED = str.maketrans(".,", ",.")


# --- Times


def iso_time(
    field: str, value: Value, zone: tzinfo, example: str = "2013-09-01 09:12:29"
) -> datetime | None:
    """A time as `2013-09-01 09:12:29` or `2013-09-01T09:12`, in `zone` unless it carries an
    offset; `utc` says what becomes of the hour that a clock change repeats or skips. Also one in
    another common notation: seconds or milliseconds since 1970, `130901091229`, SMPP's absolute
    time. What says that there is none (`NULL`, nothing but zeros, .NET's year 1) is None.

    :param example: of how the provider writes one, for the error.
    :raises Invalid: where it is none.
    """
    if value is not None and not isinstance(value, str):
        value = as_text(value)
    return _time(field, value, zone, "iso", example)


def us_time(field: str, value: Value, zone: tzinfo) -> datetime | None:
    """A time as `5/8/2010 2:42:36 AM`, or as `iso_time` reads it.

    :raises Invalid: where it is none.
    """
    if value is not None and not isinstance(value, str):
        value = as_text(value)
    return _time(field, value, zone, "us", "5/8/2010 2:42:36 AM")


def smpp_time(
    field: str, value: Value, zone: tzinfo, since: datetime | None = None
) -> datetime | None:
    """A time as `1209281334` (YYMMDDhhmm, SMPP v3.4, appendix B), also with seconds, also with
    the century, or as `iso_time` or `us_time` read it.

    :param since: what a relative time (SMPP v3.4, section 7.1.1.2) is counted from; such a time
        cannot be read without.
    :raises Invalid: where it is none.
    """
    if value is not None and not isinstance(value, str):
        value = as_text(value)
    if value is not None and value[-1:] in "Rr" and since is not None:
        found = _RELATIVE.fullmatch(value.upper())
        if found:
            try:
                return _later(since, *map(int, found.groups()))
            except (ValueError, OverflowError):
                pass
    return _time(field, value, zone, "smpp", "1209281334 (YYMMDDhhmm)")


def _time(
    field: str, value: str | None, zone: tzinfo, first: str, example: str
) -> datetime | None:
    if value is None:
        return None
    try:
        if len(value) <= LONGEST_TIME:
            return _read_time(value, zone, first)
    except (ValueError, OverflowError):
        pass
    raise Invalid(field, f"{field} is {shown(value)}: a time such as {example} was expected")


@lru_cache(1024)
def _read_time(value: str, zone: tzinfo, first: str) -> datetime | None:
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
            return None if local.year == 1 else utc(local, zone)
    raise ValueError(value)


def _iso(text: str) -> datetime | None:
    if _ISO.fullmatch(text):
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            pass
    if text.count(" ") and "+" not in text:
        text = re.sub(r" (?=[0-9]{2}:?[0-9]{2}$)(?<=:[0-9]{2} )", "+", text)
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


def _later(
    since: datetime, years: int, months: int, days: int, hours: int, *rest: int
) -> datetime:
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
    "iso": (_iso, _epoch, _compact, _absolute, _us_with_half),
    "us": (_us, _iso, _epoch, _compact, _absolute),
    "smpp": (_compact, _absolute, _iso, _us, _epoch),
}
"""The notations that are tried, by the one that the provider documents."""


# HTML has entities that need no semicolon: of `&timestamp=` a page shows the first six
# characters as a multiplication sign.
_ENTITIES = {name: text for name, text in html5.items() if not name.endswith(";")}


def torn(fields: Fields, name: str) -> tuple[str, str, str] | None:
    """A parameter `name` that was copied from a web page, where its `&` and its first letters had
    become a character: the field whose value swallowed it, what that value was, and the value of
    `name`. None where nothing of the kind was sent."""
    for field, sent in fields.rest(()).items():
        if not isinstance(sent, str):
            continue
        for entity, text in _beginnings(name):
            before, mark, value = sent.partition(f"{text}{name[len(entity) :]}=")
            if mark:
                return field, before.strip(), value.strip()
    return None


@lru_cache(64)
def _beginnings(name: str) -> tuple[tuple[str, str], ...]:
    """The entities that `name` begins with, the longest first."""
    found = [(entity, text) for entity, text in _ENTITIES.items() if name.startswith(entity)]
    return tuple(sorted(found, reverse=True))


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
