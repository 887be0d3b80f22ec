"""Finds configured secrets by their value, in any way of writing, and blanks them.

Two steps, so that an ordinary post costs next to nothing:

1. `KnownSecrets` looks for each secret in the text as it came and in the same text decoded:
   percent escapes, character references, JSON escapes, UTF-16, UTF-7, EBCDIC, XML comments and
   CDATA sections, base64, gzip, and these within each other, and without the characters that
   nobody sees and that are dropped from identifiers. Each decoder is linear.
2. Only where a secret was found, an expression that takes every character in any of these ways
   of writing finds the place. If a secret is still there after that, all of the text is blanked.

What is not looked for by value, since it would blank half of all posts:

- A secret of less than `SHORTEST` characters: it is blanked by name alone.
- A secret of digits, or of less than `SURE` characters, counts only where no letter or digit
  stands beside it: a PIN `4711` is no part of a phone number.
- A secret of less than `FEWEST_DIGITS` digits is not looked for in a receipt's columns or in a
  line of the log: a price or an identifier may well be the same.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from base64 import b64encode
from binascii import a2b_qp
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from html.entities import html5
from typing import Any, NamedTuple
from urllib.parse import unquote

from receiptd.blanking import BLANK, BLANK_TEXT
from receiptd.receipt import UNSEEN, Receipt

SHORTEST = 4
"""Characters of the shortest secret that is looked for by value."""
SURE = 6
"""Characters from which on a secret is found within other letters and digits, too."""
FEWEST_DIGITS = 8
"""Digits of the shortest secret of digits that is looked for in columns and in the log."""
MOST = 1000
"""How many secrets are known at once: those that were configured last."""
DEEPEST = 4
"""How many encodings within each other are undone."""

_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-")
_LEAST_BASE64 = 4

_REFERENCE = re.compile(r"&(?:#[xX]0*([0-9A-Fa-f]{1,6})|#0*([0-9]{1,7})|([A-Za-z]{2,8}));?")
_ESCAPE = re.compile(r'\\(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|(["\\/]))')
_CONTROLS = bytes((*range(1, 0x20), 0x7F))
_CONTROL = re.compile("[\x00-\x1f\x7f]+")
_GZIP = b"\x1f\x8b\x08"
_MOST_UNPACKED = 1024 * 1024
"""Bytes of a gzip in a body that are looked into."""
_GZIP_PIECE = 32
_EBCDIC_XML = "\x4c\x6f\xa7\x94"
"""How an XML declaration begins in EBCDIC (XML 1.0, appendix F.1)."""
_OLDER_CHARSETS = ("latin-1", "cp1252", "iso8859-2")


class _Secret(NamedTuple):
    """One secret, and how it is found."""

    needles: tuple[str, ...]
    """What a decoded text has of it. A text is looked at with a character for each byte."""
    alone: re.Pattern[str] | None
    """For one that counts only where no letter or digit is beside it."""
    weak: bool
    """Whether it is not looked for in columns and in the log."""
    encoded: tuple[str, ...]
    """What base64 has of it, by each of the three positions that it may begin at."""
    value: str

    def within(self, text: str) -> bool:
        """Whether `text` holds it undisguised, or in base64."""
        for needle in self.needles:
            if needle in text and (self.alone is None or self.alone.search(text)):
                return True
        return any(piece in text for piece in self.encoded)


class _Secrets(NamedTuple):
    """Several secrets."""

    each: tuple[_Secret, ...]
    pieces: tuple[str, ...]
    """What a text has one of, where it holds one of them."""


class KnownSecrets:
    """All secrets of the configuration, those of earlier configurations among them."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._values: dict[str, None] = {}
        self._all = _together(())
        self._strong = _together(())
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Look for these as well from now on. Those known already stay: a provider may go on
        posting with a PIN that was changed here."""
        for each in secrets:
            value = each.strip()
            if len(value) >= SHORTEST:
                self._values.pop(value, None)
                self._values[value] = None
        for oldest in list(self._values)[:-MOST]:
            del self._values[oldest]
        # The longest first: one may be a piece of another.
        ordered = sorted(self._values, key=len, reverse=True)
        self._all = _together(map(_secret, ordered))
        self._strong = _together(each for each in self._all.each if not each.weak)

    def absent(self, raw: bytes) -> bool:
        """Whether `raw` is so plain, and without any known secret, that what is read of it holds
        none either: true of nearly every post, and quickly told."""
        if not self._all.pieces:
            return True
        if not raw.isascii():
            return False
        # An identifier loses its control characters, so a secret may stand around them.
        text = raw.translate(None, _CONTROLS).decode("latin-1")
        if "%" in text or "&" in text or "\\" in text or "\0" in text or "<!" in text:
            return False
        if "+A" in text or text.find("<?", 2) >= 0 or any(map(text.__contains__, _TRANSFER)):
            return False
        for piece in self._all.pieces:  # noqa: SIM110 (a third of the time of `any`)
            if piece in text:
                return False
        return True

    def blanked(self, raw: bytes) -> bytes:
        """`raw` with every known secret blanked; the same object where it has none."""
        if _GZIP in raw and _found(_unpacked(raw), self._all):
            return BLANK
        found = _found(raw.decode("latin-1"), self._all)
        return _blank(raw, found) if found else raw

    def blanked_text(self, text: str) -> str:
        """`text` (an error, a value beside the columns) with every known secret blanked."""
        return self._text(text, self._all)

    def blanked_line(self, text: str) -> str:
        """The same for what the log says and for columns: secrets of a few digits stay, as
        other numbers may be the same."""
        return self._text(text, self._strong)

    def _text(self, text: str, secrets: _Secrets) -> str:
        found = _found(text, secrets)
        if not found:
            return text
        return _blank(text.encode("utf-8", "surrogatepass"), found).decode("utf-8", "replace")

    def receipt(self, receipt: Receipt, raw: bytes) -> Receipt:
        """`receipt` with no known secret in any of its values.

        :param raw: its post, already blanked.
        """
        if raw is not receipt.raw:
            receipt = receipt._replace(raw=raw)
        if not self._all.each:
            return receipt
        texts = "\n".join([each for each in receipt if type(each) is str])
        changes: dict[str, Any] = {}
        if _found(texts, self._strong):
            for name, value in zip(Receipt._fields, receipt, strict=True):
                if type(value) is str:
                    clean = self.blanked_line(value)
                    if clean != value:
                        changes[name] = clean
        if receipt.extra:
            extra = self._within(receipt.extra)
            if extra != receipt.extra:
                changes["extra"] = extra
        return receipt._replace(**changes) if changes else receipt

    def _within(self, value: Any, depth: int = 0) -> Any:
        """`value`, of `Receipt.extra`, with no known secret in its names and texts."""
        if isinstance(value, str):
            return self.blanked_text(value)
        if depth > DEEPEST:
            return self.blanked_text(str(value))
        if isinstance(value, dict):
            return {
                self.blanked_text(str(name)): self._within(each, depth + 1)
                for name, each in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._within(each, depth + 1) for each in value]
        if value is None or isinstance(value, bool):
            return value
        text = str(value)
        return value if self.blanked_text(text) == text else BLANK_TEXT


def _found(text: str, secrets: _Secrets) -> list[_Secret]:
    """Those of `secrets` that `text` holds, however they are written."""
    if not secrets.each:
        return []
    found: dict[int, _Secret] = {}
    pieces = secrets.pieces
    for view in _all_views(text):
        for piece in pieces:
            if piece in view:
                break
        else:
            continue
        for index, secret in enumerate(secrets.each):
            if secret.within(view):
                found[index] = secret
    return [found[index] for index in sorted(found)]


def _together(secrets: Iterable[_Secret]) -> _Secrets:
    each = tuple(secrets)
    pieces = dict.fromkeys(piece for one in each for piece in (*one.needles, *one.encoded))
    return _Secrets(each, tuple(pieces))


def _all_views(text: str) -> Iterator[str]:
    """The `_views` of `text`, each also without characters that nobody sees."""
    for start in (text, *_other_charsets(text)):
        for view in _views(start):
            yield view
            if view.isascii():
                if not view.isprintable():
                    yield _CONTROL.sub("", view)
                continue
            for pattern in _unseen():
                seen = pattern.sub("", view)
                if seen != view:
                    yield seen


def _other_charsets(text: str) -> Iterator[str]:
    """`text` as it reads in the charsets that disguise ASCII."""
    if "+A" in text:
        yield text.encode("utf-8", "surrogatepass").decode("utf-7", "replace")
    if _EBCDIC_XML in text:
        yield text.encode("latin-1", "replace").decode("cp037")


def _unpacked(raw: bytes) -> str:
    """What the first gzip in `raw` holds, as far as it can be read."""
    packed = raw[raw.index(_GZIP) :]
    unpacking = zlib.decompressobj(31)
    pieces: list[bytes] = []
    left = _MOST_UNPACKED
    # Piece by piece: where the gzip is broken, what stands before that place can be read.
    with suppress(zlib.error):
        for start in range(0, len(packed), _GZIP_PIECE):
            pieces.append(unpacking.decompress(packed[start : start + _GZIP_PIECE], left))
            left -= len(pieces[-1])
            if left <= 0 or unpacking.eof:
                break
    return b"".join(pieces).decode("latin-1")


def _views(text: str) -> Iterator[str]:
    """`text` as it is, and with its encodings undone, one after the other."""
    yield text
    for _ in range(DEEPEST):
        before = text
        for mark, decoder in _DECODERS:
            # Behind the first two characters: an XML declaration stands within no secret.
            if text.find(mark, 2 if mark == "<?" else 0) >= 0:
                decoded = decoder(text)
                if decoded != text:
                    yield decoded
                    text = decoded
        if text == before:
            return


def _character(match: re.Match[str]) -> str:
    hexadecimal, decimal, name = match.groups()
    if name is not None:
        return html5.get(f"{name};", match[0])
    code = int(hexadecimal, 16) if hexadecimal else int(decimal)
    return chr(code) if code < 0x110000 else match[0]


def _escaped(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    return chr(int(code, 16)) if code else match[3]


def _unescaped(text: str) -> str:
    decoded = _ESCAPE.sub(_escaped, text)
    # Two escapes may be the halves of one character.
    return decoded.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _without_comments(text: str) -> str:
    pieces, position = [], 0
    while (start := text.find("<!--", position)) >= 0:
        end = text.find("-->", start + 4)
        if end < 0:
            break
        pieces.append(text[position:start])
        position = end + 3
    return "".join([*pieces, text[position:]])


def _without_instructions(text: str) -> str:
    pieces, position = [], 0
    while (start := text.find("<?", position)) >= 0:
        end = text.find("?>", start + 2)
        if end < 0:
            break
        pieces.append(text[position:start])
        position = end + 2
    return "".join([*pieces, text[position:]])


def _one_line(text: str) -> str:
    return text.replace("=\r\n", "").replace("=\n", "").replace("\r", "").replace("\n", "")


def _quoted_printable(text: str) -> str:
    return a2b_qp(text.encode("utf-8", "surrogatepass")).decode("latin-1")


@lru_cache(1)
def _unseen() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What finds the characters that nobody sees: as they are, and in UTF-8 with a character
    for each byte. Made when the first post wants it: it takes some hundredths of a second."""
    codes = (*range(_LAST_CODE), *range(0xE0000, 0xE0080))
    each = [chr(code) for code in codes if unicodedata.category(chr(code)) in UNSEEN]
    in_bytes = [re.escape(one.encode().decode("latin-1")) for one in each if not one.isascii()]
    first = "".join({one[0] for one in in_bytes})
    return (
        re.compile(f"[{''.join(map(re.escape, each))}]+"),
        # The look ahead spares the long list at nearly every character.
        re.compile(f"(?=[{first}])(?:{'|'.join(in_bytes)})"),
    )


_LAST_CODE = 0x1E000
"""No character behind it is unseen, but for the tags in plane 14."""
_TRANSFER = ("uoted-", "UOTED-", "ase64", "ASE64")

_DECODERS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("\0", lambda text: text.replace("\0", "")),
    ("<!--", _without_comments),
    ("<![CDATA[", lambda text: text.replace("]]>", "").replace("<![CDATA[", "")),
    ("<?", _without_instructions),
    ("%", lambda text: unquote(text, "latin-1")),
    ("&", lambda text: _REFERENCE.sub(_character, text)),
    ("\\", _unescaped),
    ("uoted-", _quoted_printable),
    ("UOTED-", _quoted_printable),
    ("ase64", _one_line),
    ("ASE64", _one_line),
)
"""What shows that there may be something to undo, and how it is undone. The last four are the
transfer encodings of multipart bodies, which a part's header names."""


def _blank(raw: bytes, found: list[_Secret]) -> bytes:
    for secret in found:
        raw = _places(secret.value).sub(BLANK, raw)
        encoded = _encoded_places(secret.value)
        if encoded is not None:
            raw = _blank_runs(raw, encoded)
    return BLANK if _found(raw.decode("latin-1"), _together(found)) else raw


def _blank_runs(raw: bytes, places: re.Pattern[bytes]) -> bytes:
    """Blank what `places` finds, with all of the base64 around it: beside a password there
    is the username."""
    pieces, position = [], 0
    for match in places.finditer(raw):
        start, end = match.span()
        if start < position:
            continue
        while start > position and raw[start - 1] in _BASE64:
            start -= 1
        while end < len(raw) and raw[end] in _BASE64:
            end += 1
        pieces += [raw[position:start], BLANK]
        position = end
    return b"".join([*pieces, raw[position:]])


def _secret(value: str) -> _Secret:
    digits = value.isdecimal()
    needles = dict.fromkeys(
        [
            value,
            *(data.decode("latin-1") for data in _bytes_of(value)),
            *(value.encode(code).replace(b"\0", b"").decode("latin-1") for code in _WIDE),
        ]
    )
    needles |= dict.fromkeys([each.replace(" ", "+") for each in needles])
    alone = f"(?<![A-Za-z0-9])(?:{'|'.join(map(re.escape, needles))})(?![A-Za-z0-9])"
    return _Secret(
        needles=tuple(needles),
        alone=re.compile(alone) if _only_alone(value) else None,
        weak=digits and len(value) < FEWEST_DIGITS,
        encoded=_encoded(value),
        value=value,
    )


def _only_alone(value: str) -> bool:
    """Whether letters or digits beside it make something else of `value`."""
    return value.isdecimal() or len(value) < SURE


def _encoded(value: str) -> tuple[str, ...]:
    pieces = [piece for data in _bytes_of(value) for piece in _in_base64(data)]
    return tuple(dict.fromkeys(pieces))


# These are large, and made only when a post holds the secret.


@lru_cache(64)
def _places(value: str) -> re.Pattern[bytes]:
    """Finds `value`, however it is written."""
    forms = [b"".join(map(_any_byte, data)) for data in _bytes_of(value)]
    pattern = b"|".join([_any_writing(value), *forms])
    if _only_alone(value):
        before = rb"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{2}))"
        pattern = before + b"(?:" + pattern + rb")(?![A-Za-z0-9])"
    return re.compile(pattern, re.DOTALL)


@lru_cache(64)
def _encoded_places(value: str) -> re.Pattern[bytes] | None:
    """Finds base64 of `value`; None where that is too short to tell."""
    encoded = _encoded(value)
    if not encoded:
        return None
    return re.compile(b"|".join(b"".join(map(_any_byte, each.encode())) for each in encoded))


_WIDE = ("utf-16-le", "utf-16-be")


def _bytes_of(value: str) -> list[bytes]:
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
        ways += [re.escape(character.encode(each)) for each in _WIDE]
    if character in '"\\/':
        ways.append(_BACKSLASH + _byte(code))
    forms = sorted(_bytes_of(character), key=len, reverse=True)
    ways += [b"".join(map(_byte, data)) for data in forms]
    return b"(?>" + b"|".join(ways) + b")" + _GAP


_NAMES: dict[str, list[str]] = {}
for _name, _meaning in html5.items():
    if _name.endswith(";") and len(_meaning) == 1 and len(_name) <= 9 and _meaning.isascii():
        _NAMES.setdefault(_meaning, []).append(_name)
