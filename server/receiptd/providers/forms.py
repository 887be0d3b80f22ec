"""A form or a query taken apart: bytes to names and values, its secrets blanked."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from receiptd.blanking import BLANK_TEXT
from receiptd.providers.fields import Pair, is_secret


def _text(raw: str, charset: str) -> str:
    """What stands in a query or a form, as it was meant.

    :param raw: a character for each byte.
    """
    data = raw.encode("latin-1")
    if "%" in raw or "+" in raw:
        data = unquote_to_bytes(data.replace(b"+", b" "))
    return decode(data, charset)


def decode(raw: bytes, charset: str) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode(charset, "replace")
        if charset == "iso8859-1":
            text = text.translate(_WINDOWS_1252)
    return text.replace("\0", "\ufffd") if "\0" in text else text


# What is called Latin-1 is Windows-1252, which has quotes and dashes in the place of controls
# (WHATWG Encoding Standard, section 4.2).
_WINDOWS_1252 = {
    byte: bytes([byte]).decode("cp1252")
    for byte in range(0x80, 0xA0)
    if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}


def _name(raw: str, charset: str) -> tuple[str, str]:
    """A name as it compares, and as it is. The `&` before it may have come as `&amp;`."""
    name = _text(raw, charset).strip()
    while name[:4].casefold() == "amp;":
        name = name[4:].lstrip()
    return name.casefold(), name


class _Names(dict[str, tuple[str, str, bool]]):
    """Names as they stand in a post: as they compare, as they are, and whether they are secrets'.
    The same few come in every post, so they are remembered, but for long ones."""

    def __init__(self, charset: str, secrets: frozenset[str]) -> None:
        super().__init__()
        self._charset = charset
        self._secrets = secrets

    def __missing__(self, raw: str) -> tuple[str, str, bool]:
        key, name = _name(raw, self._charset)
        found = key, name, is_secret(key, self._secrets)
        if len(raw) <= _LONGEST_KNOWN and len(self) < _MOST_KNOWN:
            self[raw] = found
        return found


_names = lru_cache(64)(_Names)
_known_text = lru_cache(1024)(_text)
"""Receipts come in bursts that say the same second, and the same few words."""
_MOST_KNOWN = 1024
_LONGEST_KNOWN = 64


_ENTITIES = re.compile("^(?:amp;)+")
_FIELD_START = re.compile(r"[A-Za-z_][\w.\[\]-]{0,63}=", re.ASCII)


def looks_like_form(body: bytes) -> bool:
    """Whether `body` begins as a form does: with a name and an equals sign."""
    return bool(_FIELD_START.match(body[:80].lstrip(b"\r\n &").decode("latin-1")))


def _separator(text: str) -> str:
    """What stands between the pairs of `text`: `&`, or a line feed where each line is a pair."""
    if "&" in text or "\n" not in text:
        return "&"
    lines = text.splitlines()
    return "\n" if all(map(_FIELD_START.match, filter(None, lines))) else "&"


# A provider that appends its own parameters to a URL that has a query may put a `?` before them.
_SECOND_QUERY = re.compile(r"\?(?=[A-Za-z_][A-Za-z0-9_.-]{0,63}=)")


def take_apart(
    raw: bytes, charset: str, secrets: frozenset[str], pairs: list[Pair], *, query: bool = False
) -> bytes:
    """Append the pairs of `raw` to `pairs`; returns it with the values of `secrets` blanked.

    :param query: whether it is a URL's query, in which a second `?` separates as `&` does.
    """
    trimmed = raw.strip(b"\r\n")
    text = trimmed.decode("latin-1")
    second = _SECOND_QUERY.search(text) if query and "?" in text else None
    before = 0
    if second is not None:
        before = text.count("&", 0, second.start()) + 1
        text = f"{text[: second.start()]}&{text[second.end() :]}"
    plain = text.isascii() and "\0" not in text
    escaped = not plain or "%" in text or "+" in text
    folded = "\n" in text or "\r" in text
    separator = _separator(text) if folded else "&"
    entities = "&amp;" in text
    pieces = text.split(separator)
    secret = False
    names = _names(charset, secrets)
    for index, piece in enumerate(pieces):
        if not piece:
            continue
        name, _, value = piece.partition("=")
        key, sent, hidden = names[_ENTITIES.sub("", name) if entities else name]
        if value:
            if hidden:
                pieces[index] = f"{piece.partition('=')[0]}={BLANK_TEXT}"
                secret = True
            if folded and value[-1] in "\r\n":
                value = value.rstrip("\r\n")  # a line feed behind a field: a form escapes its own
            if escaped and (not plain or "%" in value or "+" in value):
                text_of = _text if len(value) > _LONGEST_KNOWN else _known_text
                value = text_of(value, charset)
        pairs.append((key, sent, value))
    if secrets and ";" in text:
        pieces = [_blank_behind_semicolon(piece, secrets, charset) for piece in pieces]
        secret = True
    if not secret:
        return raw
    blanked = separator.join(pieces)
    if before:
        blanked = f"{'&'.join(pieces[:before])}?{'&'.join(pieces[before:])}"
    return raw.replace(trimmed, blanked.encode("latin-1"), 1)


def _blank_behind_semicolon(piece: str, secrets: frozenset[str], charset: str) -> str:
    """A pair in which there may be others, separated by `;` or by `&amp;`: such a post is not
    understood, but a secret in it is one all the same. Blanked to its end, since a `;` may be a
    part of the secret."""
    position = 0
    for part in piece.split(";"):
        name, equals, value = part.partition("=")
        if value and is_secret(_name(name, charset)[0], secrets):
            return piece[:position] + name + equals + BLANK_TEXT
        position += len(part) + 1
    return piece
