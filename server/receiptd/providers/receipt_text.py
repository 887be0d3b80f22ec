"""The text of a delivery receipt, as SMPP has it (SMPP v3.4, appendix B), and its parts."""

from __future__ import annotations

import re

# SMPP v3.4, appendix B: the parts of a receipt's text, of which `text` is the last.
_PART = re.compile(
    r"(?<!\S)(id|sub|dlvrd|submit[\s_]+date|done[\s_]+date|stat|err|text)\s*:", re.I
)
_HEX = re.compile(r"(?:[0-9A-Fa-f]{4}){4,}")


def in_plain(text: str | None) -> str | None:
    """A receipt's text as it reads: one in UCS-2 comes as hexadecimal digits, or with a NUL (by
    now U+FFFD) before each letter."""
    if not text:
        return text
    if text.startswith("00") and _HEX.fullmatch(text):
        return bytes.fromhex(text).decode("utf-16-be", "replace").strip() or None
    if text.count("\ufffd") * 2 >= len(text) - 1:
        return text.replace("\ufffd", "").strip() or None
    return text


def parts_of(text: str | None) -> dict[str, str]:
    """The parts of an SMPP-style receipt text that are not empty, by their names in it: `id`,
    `sub`, `dlvrd`, `submit date`, `done date`, `stat` (which may hold spaces), `err`, `text`."""
    parts: dict[str, str] = {}
    found = list(_PART.finditer(text)) if text else []
    for number, match in enumerate(found, 1):
        assert text is not None
        name = " ".join(match[1].lower().replace("_", " ").split())
        last = name == "text" or number == len(found)
        value = text[match.end() : None if last else found[number].start()].strip()
        if value:
            parts.setdefault(name, value)
        if last:
            break
    return parts
