"""Blanks what stands behind the name of a secret in a text that nobody can take apart.

Plain searches that only go forward: each takes time in proportion to the text, whatever is
in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from receiptd.blanking import BLANK

_SPACE = b" \t\r\n"
_IN_GROUP = re.compile(rb'["\[{\]}]')
_VALUE_END = re.compile(rb"[\s,}\])&;]")


def blank_elements(body: bytes, name: bytes) -> bytes:
    """`body`, which looks like XML, with the text behind each start tag called `name` (in lower
    case, in any namespace) blanked, up to the next end tag.

    An attribute of that name is blanked with the text behind its tag. What looks like a
    start tag within a comment or a CDATA section is taken for one.
    """
    lower = body.lower()
    pieces, position = [], 0
    while (found := lower.find(name, position)) >= 0:
        behind = found + len(name)
        if body[behind : behind + 1].isalnum() or not _opens(body, found):
            pieces.append(body[position:behind])
            position = behind
            continue
        start = body.find(b">", behind)
        if start < 0:
            # A tag without an end: all behind it may be its value.
            pieces += [body[position:behind], BLANK]
            return b"".join(pieces)
        attribute = b"=" in body[behind:start]
        tag = b"=" + BLANK + b">" if attribute else body[behind : start + 1]
        pieces += [body[position:behind], tag]
        if body[start - 1 : start] == b"/":
            position = start + 1  # an empty element
            continue
        end = body.find(b"</", start)
        end = len(body) if end < 0 else end
        if end > start + 1:
            pieces.append(BLANK)
        position = end
    return b"".join([*pieces, body[position:]])


def _opens(body: bytes, start: int) -> bool:
    """Whether what begins at `start` may be the name of an element that opens, or of an
    attribute, and not that of an end tag."""
    before = body[max(0, start - 65) : start]
    tag = before.rpartition(b"<")[2] if b"<" in before else before
    return not tag.startswith(b"/")


def blank_members(body: bytes, names: Iterable[str]) -> bytes:
    """`body`, which looks like JSON, with the value of each member whose name is one of `names`
    (in lower case) blanked, a list or an object as a whole."""
    for name in names:
        body = _blank_member(body, f'"{name}"'.encode())
    return body


def _blank_member(body: bytes, quoted: bytes) -> bytes:
    lower = body.lower()
    pieces, position = [], 0
    while (found := lower.find(quoted, position)) >= 0:
        start = found + len(quoted)
        colon = _skipped(body, start, _SPACE)
        if body[colon : colon + 1] != b":":
            pieces.append(body[position:start])
            position = start
            continue
        start = _skipped(body, colon + 1, _SPACE)
        if body[start : start + 1] in (b"[", b"{"):
            end = _group_end(body, start)
        elif body[start : start + 1] == b'"':
            end = _text_end(body, start)
        else:
            match = _VALUE_END.search(body, start)
            end = match.start() if match else len(body)
        pieces += [body[position:start], b'"' + BLANK + b'"']
        position = end
    return b"".join([*pieces, body[position:]])


def _skipped(body: bytes, start: int, characters: bytes) -> int:
    while start < len(body) and body[start] in characters:
        start += 1
    return start


def _group_end(body: bytes, start: int) -> int:
    """Where the JSON list or object that begins at `start` ends."""
    depth, position = 0, start
    while found := _IN_GROUP.search(body, position):
        character = found[0]
        if character == b'"':
            position = _text_end(body, found.start())
            continue
        position = found.end()
        depth += 1 if character in b"[{" else -1
        if depth == 0:
            return position
    return len(body)


def _text_end(body: bytes, start: int) -> int:
    """Where the JSON text that begins at `start` ends."""
    position = start + 1
    while (end := body.find(b'"', position)) >= 0:
        backslashes = end
        while backslashes > position and body[backslashes - 1] == 0x5C:
            backslashes -= 1
        if (end - backslashes) % 2 == 0:
            return end + 1
        position = end + 1
    return len(body)
