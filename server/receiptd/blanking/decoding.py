"""Undoes the encodings that a post may write a secret in, one after the other, in linear time."""

from __future__ import annotations

import re
from binascii import a2b_qp
from collections.abc import Iterator
from html.entities import html5
from urllib.parse import unquote

DEEPEST = 4
"""How many encodings within each other are undone."""

_REFERENCE = re.compile(r"&(?:#[xX]0*([0-9A-Fa-f]{1,6})|#0*([0-9]{1,7})|([A-Za-z]{2,8}));?")
_ESCAPE = re.compile(r'\\(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|(["\\/]))')


def views(text: str) -> Iterator[str]:
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


_DECODERS = (
    ("\0", lambda text: text.replace("\0", "")),
    ("<!--", _without_comments),
    ("<![CDATA[", lambda text: text.replace("]]>", "").replace("<![CDATA[", "")),
    ("<?", _without_instructions),
    ("%", lambda text: unquote(text, "latin-1")),
    ("&", lambda text: _REFERENCE.sub(_character, text)),
    ("\\", _unescaped),
    ("uoted-", _quoted_printable),
    ("ase64", _one_line),
)
"""What shows that there may be something to undo, and how it is undone. The last two are the
transfer encodings of multipart bodies, which a part's header names."""
