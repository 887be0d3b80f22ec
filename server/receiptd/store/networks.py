"""What statistics call a network: what a provider names, or else what the phone number says.

A provider names MCC+MNC, digits. Where it names none, the country and the operator that a number
was given out by stand for it, with a mark of their own: numbers are ported, so that is a guess.
They are read from the tables of `phonenumbers`, and not by its functions: these take ten to a
thousand times as long, and this is done for every receipt.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

OTHER = "(other)"
"""Stands for what an hour has too many of to count each."""

LONGEST = 64
"""Characters of a value that is counted by itself."""

DERIVED = "~"
"""Begins a network that is derived from the number: `~GB EE`."""

_MOST_PREFIXES = 50_000


class Named(NamedTuple):
    """A network for people."""

    network: str | None
    """MCC+MNC where the provider named it, `(other)`, or None."""
    country: str | None
    """ISO 3166's two letters, derived from the number."""
    operator: str | None
    """Whom the number was given to, derived from it."""


def counted(value: str | None) -> str:
    """A provider's text as statistics count it: without one, empty."""
    if not value:
        return ""
    return value if len(value) <= LONGEST and value[0] != DERIVED else OTHER


def network_of(network: str | None, number: str | None) -> str:
    """The network that a receipt or a message is counted under.

    :param network: as the provider names it.
    :param number: E.164 digits of the phone.
    """
    if network:
        return counted(network)
    return derived(number) if number else ""


def named(label: str) -> Named:
    """What a label of `network_of` says."""
    if not label.startswith(DERIVED):
        return Named(label or None, None, None)
    country, _, operator = label[1:].partition(" ")
    return Named(None, country or None, operator or None)


def derived(number: str) -> str:
    """The label of a phone number: its country and operator; empty where it has neither."""
    prefix = number[:_DIGITS]
    found = _known.get(prefix)
    if found is None:
        found = _derived(number)
        if prefix not in _longer_prefixes():
            # All numbers that begin so have the same.
            if len(_known) >= _MOST_PREFIXES:
                _known.clear()
            _known[prefix] = found
    return found


_DIGITS = 7
"""So many digits are known by heart: nearly all operators have no longer prefix."""

_known: dict[str, str] = {}


@cache
def _longer_prefixes() -> frozenset[str]:
    """What prefixes of operators begin with that have more digits."""
    return frozenset(each[:_DIGITS] for each in _operators() if len(each) > _DIGITS)


def _derived(number: str) -> str:
    operators = _operators()
    for length in range(min(_longest(), len(number)), 2, -1):
        operator = operators.get(number[:length])
        if operator is not None:
            break
    else:
        operator = ""
    country = _country(number)
    if not country:
        return ""
    return _label(country, operator)


@cache
def _operators() -> dict[str, str]:
    from phonenumbers.carrierdata import CARRIER_DATA

    return {prefix: _english(names) for prefix, names in CARRIER_DATA.items()}


@cache
def _longest() -> int:
    return max(map(len, _operators()))


def _english(names: dict[str, str]) -> str:
    return names.get("en") or next(iter(names.values()), "")


_labels: dict[tuple[str, str], str] = {}


def _label(country: str, operator: str) -> str:
    """The same text for the same network: there are some thousands of them."""
    found = _labels.get((country, operator))
    if found is None:
        found = f"{DERIVED}{country} {operator}".rstrip()[:LONGEST]
        _labels[country, operator] = found
    return found


_countries: dict[str, str] = {}


def _country(number: str) -> str:
    """The country of a number; where several share a code, by the digits behind it."""
    # Two more digits tell countries with a code of one digit apart (area codes), three the others.
    prefix = number[:4] if number[:1] in ("1", "7") else number[:6]
    found = _countries.get(prefix)
    if found is None:
        found = _look_up(prefix)
        if len(_countries) >= _MOST_PREFIXES:
            _countries.clear()
        _countries[prefix] = found
    return found


def _look_up(prefix: str) -> str:
    import phonenumbers

    if not prefix.isascii() or not prefix.isdigit():
        return ""
    for length in (1, 2, 3):
        code = int(prefix[:length] or "0")
        regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(code, ())
        if code and regions and len(str(code)) == length:
            break
    else:
        return ""
    if len(regions) > 1:
        example = phonenumbers.example_number_for_type(
            regions[0], phonenumbers.PhoneNumberType.MOBILE
        )
        size = len(str(example.national_number)) if example is not None else 9
        # A number that begins so: what follows an area code may be anything but 0 and 1.
        digits = prefix[length:].ljust(size, "2")
        national = phonenumbers.PhoneNumber(country_code=code, national_number=int(digits))
        return str(phonenumbers.region_code_for_number(national) or regions[0])
    return "" if regions[0] == "001" else str(regions[0])  # 001: no country's (satellites)
