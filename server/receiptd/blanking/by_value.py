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
- A secret of digits, or of less than `patterns.SURE` characters, counts only where no letter or
  digit stands beside it: a PIN `4711` is no part of a phone number.
- A secret of less than `FEWEST_DIGITS` digits is not looked for in a receipt's columns or in a
  line of the log: a price or an identifier may well be the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from receiptd.blanking import BLANK, BLANK_TEXT
from receiptd.blanking.decoding import DEEPEST, GZIP, TRANSFER, unpacked, views
from receiptd.blanking.patterns import (
    WIDE,
    base64_places_of,
    bytes_of,
    counts_alone,
    in_base64,
    places_of,
)
from receiptd.receipt import Receipt

SHORTEST = 4
"""Characters of the shortest secret that is looked for by value."""
FEWEST_DIGITS = 8
"""Digits of the shortest secret of digits that is looked for in columns and in the log."""
MOST = 1000
"""How many secrets are known at once: those that were configured last."""
_CONTROLS = bytes((*range(1, 0x20), 0x7F))
_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-")


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
        self._has_markup = False
        """Whether a character of a secret may be written as `&amp` and the like."""
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
        self._has_markup = any(mark in value for value in self._values for mark in '&<>"')

    def absent(self, raw: bytes) -> bool:
        """Whether `raw` is so plain, and without any known secret, that what is read of it holds
        none either: true of nearly every post, and quickly told."""
        if not self._all.pieces:
            return True
        if not raw.isascii():
            return False
        # An identifier loses its control characters, so a secret may stand around them.
        raw = raw.translate(None, _CONTROLS)
        text = raw.decode("ascii")
        if "%" in text:
            # Once: what is escaped twice is looked at closely.
            plain = raw.replace(b"%20", b" ").replace(b"%3A", b":").replace(b"%2B", b"+")
            if b"%" in plain:  # not these three alone, which take a tenth of the time
                plain = unquote_to_bytes(raw)
            if b"%" in plain or not plain.isascii():
                return False
            decoded = plain.decode("ascii")
            if not decoded.isprintable():
                return False
            # Together, since each look costs more to begin than to go on with.
            text = f"{text}\n{decoded}"
        return self._plain(text)

    def _plain(self, text: str) -> bool:
        """Whether `text` shows neither a secret nor any encoding but percent escapes."""
        if ";" in text or "&#" in text or "\\" in text or "\0" in text or "<!" in text:
            return False
        # Without a semicolon, only these four are references to anybody.
        if self._has_markup and "&" in text:
            return False
        if "+A" in text or text.find("<?", 2) >= 0:
            return False
        for mark in TRANSFER:
            if mark in text:
                return False
        for piece in self._all.pieces:  # noqa: SIM110 (as above)
            if piece in text:
                return False
        return True

    def blanked(self, raw: bytes) -> bytes:
        """`raw` with every known secret blanked; the same object where it has none."""
        if GZIP in raw and _found(unpacked(raw), self._all):
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
    for view in views(text):
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


def _blank(raw: bytes, found: list[_Secret]) -> bytes:
    for secret in found:
        raw = places_of(secret.value).sub(BLANK, raw)
        encoded = base64_places_of(secret.value)
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
            *(data.decode("latin-1") for data in bytes_of(value)),
            *(value.encode(code).replace(b"\0", b"").decode("latin-1") for code in WIDE),
        ]
    )
    needles |= dict.fromkeys([each.replace(" ", "+") for each in needles])
    alone = f"(?<![A-Za-z0-9])(?:{'|'.join(map(re.escape, needles))})(?![A-Za-z0-9])"
    return _Secret(
        needles=tuple(needles),
        alone=re.compile(alone) if counts_alone(value) else None,
        weak=digits and len(value) < FEWEST_DIGITS,
        encoded=in_base64(value),
        value=value,
    )
