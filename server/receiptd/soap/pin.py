"""Blanks the PIN in a SOAP body before it is stored: by its name, also one that is wrong.

Configured PINs are blanked by their value as well, wherever they stand (`receiptd.blanking`).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from lxml import etree
from spyne import Fault

from receiptd.blanking import BLANK, BLANK_TEXT
from receiptd.blanking.by_name import blank_elements
from receiptd.soap.document import parse
from receiptd.soap.envelope import is_pin

_NAME = b"pin"
_LONGEST_PREFIX = 64
_SPACE = b" \t\r\n"


def blanked(body: bytes, root: Any = None) -> bytes:
    """`body` with the text of each PIN blanked, else byte for byte as it came.

    :param root: its document element; None where it could not be parsed, and then whatever
        looks like a PIN is blanked. A parsed body whose PIN is written in an unusual way (a CDATA
        section, character references, an attribute, UTF-16) is written anew, in UTF-8.
    """
    start = body.find(b"<PIN>") + 5
    if start > 4 and body.upper().count(b"PIN") == 2:
        end = body.find(b"</PIN>", start)
        text = body[start:end]
        if end > start and b"<" not in text and b"&" not in text:
            return body[:start] + BLANK + body[end:]
    if root is None:
        if b"\0" in body:
            body = body.replace(b"\0", b"")
        return blank_elements(body, _NAME)
    if not _pins(root):
        return body
    text = _blank_plain(body)
    with suppress(Fault):
        if not _pins(parse(text)):
            return text
    for element, attribute in _pins(root):
        if attribute is not None:
            element.set(attribute, BLANK_TEXT)
        else:
            tail = element.tail
            element.clear()
            element.text, element.tail = BLANK_TEXT, tail
    return bytes(etree.tostring(root, encoding="utf-8"))


def _blank_plain(body: bytes) -> bytes:
    """`body` with the text of each PIN element blanked that is a text and nothing else. Goes
    through it once, forward."""
    lower = body.lower()
    pieces, position = [], 0
    while (found := lower.find(_NAME, position)) >= 0:
        behind = found + len(_NAME)
        if body[behind : behind + 1] not in (b">", b" ", b"\t", b"\r", b"\n") or not _opens(
            body, found
        ):
            pieces.append(body[position:behind])
            position = behind
            continue
        start = body.find(b">", behind) + 1
        end = body.find(b"<", start)
        if start == 0 or end < 0:
            break
        text = body[start:end]
        pieces.append(body[position:start])
        plain = body[end + 1 : end + 2] == b"/" and b"&" not in text and text.strip()
        pieces.append(BLANK if plain else text)
        position = end
    return b"".join([*pieces, body[position:]])


def _opens(body: bytes, start: int) -> bool:
    """Whether what begins at `start` is the name in a start tag, maybe behind a prefix."""
    before = body[max(0, start - _LONGEST_PREFIX) : start]
    bracket, prefix = before.rpartition(b"<")[1:]
    if not bracket:
        return False
    return not prefix or (prefix.endswith(b":") and not any(each in prefix for each in _SPACE))


def _pins(root: Any) -> list[tuple[Any, str | None]]:
    """The elements that hold a PIN, and the attributes, each with its element. An element that a
    PIN refers to (SOAP 1.1, section 5.4.1) holds one."""
    found: list[tuple[Any, str | None]] = []
    references: set[str] = set()
    for element in root.iter(etree.Element):
        if is_pin(element.tag):
            if len(element) or (element.text or BLANK_TEXT) != BLANK_TEXT:
                found.append((element, None))
            references.update(element.get("href", "")[1:].split())
        found += [
            (element, name)
            for name, value in element.attrib.items()
            if is_pin(name) and value != BLANK_TEXT
        ]
    if references:
        for element in root.iter(etree.Element):
            named = element.get("id") in references
            if named and (len(element) or (element.text or BLANK_TEXT) != BLANK_TEXT):
                found.append((element, None))
                references.update(element.get("href", "")[1:].split())
    return found
