"""Phone numbers as they compare: E.164, however a provider or an application writes them."""

from __future__ import annotations

import re
from functools import lru_cache

_NO_DIGIT = re.compile(r"[^0-9]")


def e164(number: str, region: str | None = None) -> str:
    """`number` in the form in which phone numbers compare: E.164 digits without the `+`.

    Digits are international, a leading `+` or `00` dropped, unless a `region` is given: then a
    number without them is read as written there. Nothing is judged: what cannot be a number of
    the region keeps its digits.
    """
    if region is None and number.isdigit() and not number.startswith("00"):
        return number
    return _e164(number, region)


@lru_cache(maxsize=65536)
def _e164(number: str, region: str | None) -> str:
    digits = _NO_DIGIT.sub("", number)
    if number.lstrip(" (").startswith("+"):
        return digits
    if digits.startswith("00"):
        return digits[2:]
    if region is None:
        return digits
    import phonenumbers

    try:
        parsed = phonenumbers.parse(digits, region)
    except phonenumbers.NumberParseException:
        return digits
    if not phonenumbers.is_possible_number(parsed):
        return digits
    return str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))[1:]
