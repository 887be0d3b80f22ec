"""A person, known by a phone number: whether a value holds it, and the value without it.

A number is written in many ways: with `+`, `00` or neither, with spaces and hyphens, with a trunk
zero, nationally where the region is known, and all this in the encodings of a post. As with
secrets (`blanking`), a text is looked at as it came and decoded. Where the number is found, an
expression that takes each digit in any of the usual encodings finds the places. If it is still
there after that, the whole text is blanked. All of it takes linear time.

The number counts only where no digit stands beside it: numbers have different lengths, and one may
begin like another.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Collection, Iterator
from typing import Any

from receiptd.blanking import BLANK_TEXT
from receiptd.blanking.decoding import DEEPEST, GZIP, TRANSFER, unpacked, views
from receiptd.errors import UserError
from receiptd.store.phone import e164

FEWEST_DIGITS = 7
"""Digits of the shortest number that is looked for within texts: a shorter one would be found in
prices and times. It is compared with the columns for numbers alone."""

MOST_DIGITS = 20
"""E.164 has 15; pseudonyms have this many."""

# One separator, also as a post encodes it: as a character, in UTF-8 with a character for each
# byte, as a percent escape, as a reference.
_SEPARATOR = (
    r"(?:[\s\0().+/\xa0\u2000-\u200f\u2010-\u2015\u2060-]"
    r"|%(?:20|09|0[AaDd]|2[89BbDdEeFf]|[Cc]2%[Aa]0)"
    r"|\xc2\xa0|\xe2\x80[\x80-\x95]|&nbsp;|&#(?:32|160|4[0135-7]|[xX](?:20|[aA]0|2[89bBdDeEfF]));"
    r"|\\u(?:0020|00[aA]0|20[01][0-9a-fA-F]|002[89bBdDeEfF])|\\/)"
)
_BETWEEN = _SEPARATOR + "{0,4}"

# What stands before and after a number that is a part of a longer one.
_DIGIT_BEFORE = re.compile(r"(?:[0-9]\0?|&#(?:0*(?:4[89]|5[0-7])|[xX]0*3[0-9]);)\Z")
_ESCAPE_BEFORE = re.compile(r"(?:%|\\x|\\u00)(?:(3[0-9])|[0-9A-Fa-f]{2})\Z")
_DIGIT_AFTER = re.compile(r"\0?(?:[0-9]|%3[0-9]|\\u003[0-9]|&#0*(?:4[89]|5[0-7]);)")

_PREFIX = re.compile(f"(?:0|%30){_BETWEEN}(?:0|%30){_BETWEEN}\\Z")

_DISGUISES = (
    *("%25", "&#", "&amp;#", "\\u", "\\x", "\\\\", "<!", "<?", "\0", "+A"),
    *("\x1f\x8b\x08", "L\x6f\xa7\x94", *TRANSFER),
)
"""A text has one of these where digits may be written otherwise than as digits."""

_DIGIT_ESCAPED = re.compile("%3[0-9]")

_NO_DIGITS = bytes(code for code in range(256) if not 0x30 <= code <= 0x39)

_SEPARATORS_WITH_DIGITS = (
    *(b"%20", b"%09", b"%0A", b"%0a", b"%0D", b"%0d", b"%28", b"%29", b"%2B", b"%2b"),
    *(b"%2D", b"%2d", b"%2E", b"%2e", b"%2F", b"%2f", b"%C2%A0", b"%c2%a0", b"%c2%A0", b"%C2%a0"),
)
"""Of what may stand between a number's digits, what has digits itself; the others that have are
among the disguises."""

_BASE64 = re.compile(r"[A-Za-z0-9+/_=\r\n-]{16,}")


class NotANumber(UserError):
    """What should be a phone number is none; the text says why."""


class Person:
    """Whom to forget."""

    def __init__(
        self,
        number: str,
        regions: Collection[str | None] = (None,),
        others: Collection[str | None] = (),
    ) -> None:
        """
        :param number: as people write it.
        :param regions: by whose national forms it is read, and looked for; None: as an
            international number.
        :param others: further ones by which it is looked for.
        :raises NotANumber: where it is none.
        """
        digits = sum("0" <= each <= "9" for each in number)
        if not 3 <= digits <= MOST_DIGITS or any(each.isalpha() for each in number):
            raise NotANumber(f"{number!r} is no phone number: it has from 3 to 20 digits")
        self._regions = frozenset({None, *regions, *others})
        self.keys = frozenset(e164(number, region) for region in regions)
        """The number as `recipient_key` has it."""
        forms = {form for key in self.keys for form in _forms(key, self._regions)}
        self.searched = all(len(form) >= FEWEST_DIGITS for form in forms)
        """Whether it is looked for within texts."""
        self._shortest = min(map(len, forms))
        # The longest first: one may begin like another.
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        self._needles = [
            form.encode() for form in forms if not any(o != form and o in form for o in forms)
        ]
        """Whatever holds the number has one of these among its digits."""
        self._plain = re.compile("|".join(map(_BETWEEN.join, ordered)))
        """For a text in which digits are written as digits: nearly all."""
        self._any = re.compile("|".join(_BETWEEN.join(map(_digit, form)) for form in ordered))

    def named(self, value: str | None) -> bool:
        """Whether a column for a phone number has this one."""
        if not value:
            return False
        if not any(each.isalpha() for each in value) and any(
            e164(value, region) in self.keys for region in self._regions
        ):
            return True
        return self.within(value)

    def within(self, value: str | bytes | None) -> bool:
        """Whether `value` holds the number, however it is written."""
        if not value or not self.searched or len(value) < self._shortest:
            return False
        if isinstance(value, str):
            text, raw = value, value.encode("utf-8", "surrogatepass")
        else:
            text, raw = value.decode("latin-1"), value
        if not any(map(text.__contains__, _DISGUISES)) and not _DIGIT_ESCAPED.search(text):
            # As it is with nearly all: no digit is written but as a digit.
            if b"%" in raw:
                for separator in _SEPARATORS_WITH_DIGITS:
                    raw = raw.replace(separator, b"")
            digits = raw.translate(None, _NO_DIGITS)
            if not any(map(digits.__contains__, self._needles)):
                return False
            return any(True for _ in _places(self._plain, text))
        return any(True for view in _views(text) for _ in _places(self._any, view))

    def blanked_text(
        self, value: str, instead: Callable[[str], str] = lambda found: BLANK_TEXT
    ) -> str:
        """`value` without the number; the same object where it does not hold it.

        :param instead: gives what is to stand in its place, by what stands there.
        """
        if not self.within(value):
            return value
        pieces, position = [], 0
        for start, end in _places(self._any, value):
            pieces += [value[position:start], instead(value[start:end])]
            position = end
        clean = "".join([*pieces, value[position:]])
        return BLANK_TEXT if self.within(clean) else clean

    def blanked(self, raw: bytes) -> bytes:
        """A post without the number; the same object where it does not hold it."""
        if not self.within(raw):
            return raw
        return self.blanked_text(raw.decode("latin-1")).encode("latin-1")

    def blanked_json(self, value: Any, depth: int = 0) -> Any:
        """A value of JSON, such as a receipt's `extra`, without the number in names and texts."""
        if isinstance(value, str):
            return self.blanked_text(value)
        if depth > DEEPEST:
            return self.blanked_text(str(value))
        if isinstance(value, dict):
            return {
                self.blanked_text(str(name)): self.blanked_json(each, depth + 1)
                for name, each in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.blanked_json(each, depth + 1) for each in value]
        if isinstance(value, int | float) and self.within(str(value)):
            return BLANK_TEXT
        return value


def _places(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    """Where a number stands."""
    position = 0
    while found := pattern.search(text, position):
        start, end = found.span()
        if _alone(text, start, end):
            yield start, end
            position = end
        else:
            position = start + 1


def _forms(key: str, regions: Collection[str | None]) -> Iterator[str]:
    """The digits that a number is written with: internationally, also with its trunk zero, and
    nationally in those of `regions` that it is of."""
    yield key
    import phonenumbers

    try:
        parsed = phonenumbers.parse(f"+{key}")
    except phonenumbers.NumberParseException:
        return
    country = str(parsed.country_code)
    national = phonenumbers.national_significant_number(parsed)
    if national[:1] != "0":
        yield f"{country}0{national}"
    if any(
        region is not None and phonenumbers.country_code_for_region(region) == parsed.country_code
        for region in regions
    ):
        shown = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.NATIONAL)
        yield from (
            form for form in (national, re.sub("[^0-9]", "", shown)) if len(form) >= FEWEST_DIGITS
        )


def _digit(digit: str) -> str:
    """An expression for a digit in any of the usual encodings."""
    code = f"3{digit}"
    return f"(?:{digit}|%{code}|&#0*{48 + int(digit)};|&#[xX]0*{code};|\\\\u00{code}|\\\\x{code})"


def _alone(text: str, start: int, end: int) -> bool:
    """Whether no digit stands beside what stands there, but for the `00` of an international
    number before it."""
    if _DIGIT_AFTER.match(text, end):
        return False
    before = text[max(0, start - 40) : start]
    if (prefix := _PREFIX.search(before)) and not _continues(before[: prefix.start()]):
        return True
    return not _continues(before)


def _continues(before: str) -> bool:
    """Whether a digit stands at the end of `before`, as such and not within an escape."""
    if escape := _ESCAPE_BEFORE.search(before):
        return escape[1] is not None
    return _DIGIT_BEFORE.search(before) is not None


def _views(text: str) -> Iterator[str]:
    """`text` as it is and decoded, the contents of base64 and of a gzip among it."""
    yield from views(text)
    packed = text.encode("latin-1", "replace")
    if GZIP in packed:
        yield from views(unpacked(packed))
    if any(map(text.__contains__, TRANSFER)):
        for piece in _BASE64.findall(text):
            letters = re.sub(r"[\r\n=]", "", piece).replace("-", "+").replace("_", "/")
            # Words before it look like a piece of it, so where it begins is not known.
            for start in range(4):
                whole = letters[start : start + (len(letters) - start) // 4 * 4]
                rest = letters[start + len(whole) :]
                if len(rest) > 1:
                    whole += rest + "=" * (4 - len(rest))
                yield from views(b64decode(whole).decode("latin-1"))
