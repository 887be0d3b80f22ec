"""Phone numbers as they compare: E.164, however a provider or an application writes them."""

from __future__ import annotations

import re
from functools import lru_cache

_NO_DIGIT = re.compile(r"[^0-9]")

# ITU-T E.164, country codes: 1 and 7 have one digit, those that begin like these have three, all
# others two.
_ONE_DIGIT = frozenset("17")
_THREE_DIGITS = re.compile(r"2[1-69]|3[578]|42|5[09]|6[789]|8[0578]|9[679]")


def e164(number: str, region: str | None = None) -> str:
    """`number` in the form in which phone numbers compare: E.164 digits without the `+`.

    Digits are international, a leading `+` or `00` dropped, unless a `region` is given: then a
    number without them is read as written there. A national trunk zero behind the country code
    (`+44 (0)7700 ...`, `4407700...`) is dropped where the country has one. Nothing is judged: what
    cannot be a number of the region keeps its digits.
    """
    if region is None and number.isdigit() and number.isascii() and number[:1] != "0":
        # Most numbers. Only a zero among these three can be a trunk zero.
        return number if "0" not in number[1:4] else _e164(number, None)
    return _e164(number, region)


@lru_cache(maxsize=65536)
def _e164(number: str, region: str | None) -> str:
    digits = _NO_DIGIT.sub("", number)
    if number.lstrip(" (").startswith("+"):
        # `+0044 7700 ...` is written too: no country code begins with a zero.
        return _international(digits.removeprefix("00"))
    if digits.startswith("00"):
        return _international(digits[2:])
    if region is None:
        return _international(digits)
    import phonenumbers

    try:
        parsed = phonenumbers.parse(digits, region)
    except phonenumbers.NumberParseException:
        return digits
    if not phonenumbers.is_possible_number(parsed):
        return digits
    return str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))[1:]


def _international(digits: str) -> str:
    """`digits`, country code first, without a trunk zero behind that."""
    if digits[:1] in _ONE_DIGIT:
        country = 1
    else:
        country = 3 if _THREE_DIGITS.match(digits) else 2
    if digits[country : country + 1] != "0":
        return digits
    import phonenumbers

    try:
        # Italy and others keep the zero: the library knows which.
        parsed = phonenumbers.parse(f"+{digits}")
    except phonenumbers.NumberParseException:
        return digits
    if not phonenumbers.is_possible_number(parsed):
        return digits
    return str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))[1:]
