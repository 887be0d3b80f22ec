"""In which ways a secret may be written, and expressions that find it in any of them."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from functools import lru_cache
from html.entities import html5

SURE = 6
"""Characters. A secret of so many is found within other letters and digits, too."""
_LEAST_BASE64 = 4
_OLDER_CHARSETS = ("latin-1", "cp1252", "iso8859-2")


def counts_alone(value: str) -> bool:
    """Whether `value` means something else where letters or digits stand beside it."""
    return value.isdecimal() or len(value) < SURE


def in_base64(value: str) -> tuple[str, ...]:
    """What base64 has of `value`, by each of the three positions that it may begin at."""
    pieces = [piece for data in bytes_of(value) for piece in _in_base64(data)]
    return tuple(dict.fromkeys(pieces))


# These are large, and made only when a post holds the secret.


@lru_cache(64)
def places_of(value: str) -> re.Pattern[bytes]:
    """Finds `value`, however it is written."""
    forms = [b"".join(map(_any_byte, data)) for data in bytes_of(value)]
    pattern = b"|".join([_any_writing(value), *forms])
    if counts_alone(value):
        before = rb"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{2}))"
        pattern = before + b"(?:" + pattern + rb")(?![A-Za-z0-9])"
    return re.compile(pattern, re.DOTALL)


@lru_cache(64)
def base64_places_of(value: str) -> re.Pattern[bytes] | None:
    """Finds base64 of `value`; None where that is too short to tell."""
    encoded = in_base64(value)
    if not encoded:
        return None
    return re.compile(b"|".join(b"".join(map(_any_byte, each.encode())) for each in encoded))


WIDE = ("utf-16-le", "utf-16-be")


def bytes_of(value: str) -> list[bytes]:
    """`value` in each charset that it may come in, but for UTF-16."""
    found = [value.encode()]
    for charset in _OLDER_CHARSETS:
        try:
            found.append(value.encode(charset))
        except UnicodeEncodeError:
            continue
    return list(dict.fromkeys(found))


def _in_base64(data: bytes) -> Iterator[str]:
    """What base64 always has of `data`, whatever stands before and behind it."""
    for shift, before in ((0, 0), (1, 2), (2, 3)):
        whole = b64encode(b"\0" * shift + data)[before : (shift + len(data)) * 8 // 6]
        if len(whole) >= _LEAST_BASE64:
            yield whole.decode()
            yield whole.translate(bytes.maketrans(b"+/", b"-_")).decode()


# Each character is an atomic group, so that an expression that fails in the end goes back over
# nothing: its time is in proportion to the text, times the length of the secret. What is
# longer comes first within a group.
_GAP = rb"\0?+(?:=?\r?\n|<!--.{0,200}?-->|<\?.{0,200}?\?>|\]\]>|<!\[CDATA\[){0,4}+"
"""What may stand between two characters of a secret."""
_AMPERSAND = rb"(?:&|%(?:25){0,3}+26)(?:(?:amp|#0*+38|#[xX]0*+26)(?:;|%3[bB])){0,3}+"
_HASH = rb"(?:#|%(?:25){0,3}+23)"
_SEMICOLON = rb"(?:;|%(?:25){0,3}+3[bB])?+"
_BACKSLASH = rb"(?:\\|%(?:25){0,3}+5[cC]){1,4}+"


def _any_case(digits: str) -> bytes:
    return "".join(f"[{d.lower()}{d.upper()}]" if d.isalpha() else d for d in digits).encode()


def _byte(byte: int) -> bytes:
    """A byte percent-encoded, quoted-printable, or as it is."""
    digits = _any_case(f"{byte:02x}")
    plain = re.escape(bytes((byte,)))
    ways = [rb"%(?:25){0,3}+" + digits, b"=" + digits, plain]
    if byte == 0x20:
        ways.append(rb"\+")
    return b"(?:" + b"|".join(ways) + b")"


def _any_byte(byte: int) -> bytes:
    """The same with what may stand behind it."""
    return b"(?>" + _byte(byte) + b")" + _GAP


def _any_writing(value: str) -> bytes:
    """An expression that finds `value`, each character in any way of writing."""
    return b"".join(map(_any_character, value))


def _any_character(character: str) -> bytes:
    code = ord(character)
    number = rb"(?:0*+%d|[xX]0*+" % code + _any_case(f"{code:x}") + b")"
    ways = [_AMPERSAND + _HASH + number + _SEMICOLON]
    names = [name[:-1] for name in _NAMES.get(character, ())]
    if names:
        ways.append(_AMPERSAND + b"(?:" + "|".join(names).encode() + b")" + _SEMICOLON)
    halves = character.encode("utf-16-be").hex()
    units = [halves[start : start + 4] for start in range(0, len(halves), 4)]
    ways.append(b"".join(_BACKSLASH + b"u" + _any_case(unit) for unit in units))
    if code < 256:
        ways.append(_BACKSLASH + b"x" + _any_case(f"{code:02x}"))
    else:
        ways += [re.escape(character.encode(each)) for each in WIDE]
    if character in '"\\/':
        ways.append(_BACKSLASH + _byte(code))
    forms = sorted(bytes_of(character), key=len, reverse=True)
    ways += [b"".join(map(_byte, data)) for data in forms]
    return b"(?>" + b"|".join(ways) + b")" + _GAP


_NAMES: dict[str, list[str]] = {}
for _name, _meaning in html5.items():
    if _name.endswith(";") and len(_meaning) == 1 and len(_name) <= 9 and _meaning.isascii():
        _NAMES.setdefault(_meaning, []).append(_name)
