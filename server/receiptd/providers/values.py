"""Values that every provider sends: identifiers, phone numbers, numbers, times, prices.

Each function takes the field's name, for its error, and the text as it came; an absent value
(None) stays None; a number of a JSON body is read as its text. Times are given back in UTC. Every
one bounds what it takes.

A receipt is worth more than its date: a provider reads what it can do without through `Lenient`,
which keeps what cannot be read instead of refusing the post.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import TypeAlias, TypeVar, TypeVarTuple

from receiptd.providers.fields import Fields, Invalid
from receiptd.providers.json_body import as_text
from receiptd.providers.notations import RELATIVE, later, read_time
from receiptd.receipt import MOST_PARTS, visible

Value: TypeAlias = str | Decimal | int | None
"""A value as it came: a text, or a number of a JSON body."""

LONGEST_IDENTIFIER = 255
"""Characters; every provider's own limit is below 64, and an index has one too."""
LONGEST_CODE = 64
LONGEST_TIME = 64

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
    that was percent-encoded twice is one; of a `tel:` URI it is the number.

    :raises Invalid: where it holds anything but digits and what is written between them.
    """
    if value is not None and not isinstance(value, str):
        value = as_text(value)
    if value is None or (value.isascii() and value.isdigit() and len(value) <= 64):
        return value
    number = value
    if value[:4].lower() == "tel:":  # RFC 3966; behind a semicolon are its parameters
        number = value[4:].partition(";")[0]
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


def part_and_count(field: str, value: str | None) -> tuple[int | None, int | None]:
    """The number of a part and, where it is written as `2/3`, how many there are.

    :raises Invalid: where it is neither.
    """
    number, slash, count = (value or "").partition("/")
    if not slash:
        return part(field, value), None
    return part(field, number.strip()), part(field, count.strip())


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
        found = RELATIVE.fullmatch(value.upper())
        if found:
            try:
                return later(since, *map(int, found.groups()))
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
            return read_time(value, zone, first)
    except (ValueError, OverflowError):
        pass
    raise Invalid(field, f"{field} is {shown(value)}: a time such as {example} was expected")
