"""Undoes the encodings that a post may write a secret in, one after the other, in linear time."""

from __future__ import annotations

import re
import unicodedata
import zlib
from binascii import a2b_qp
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from html.entities import html5
from urllib.parse import unquote

from receiptd.receipt import UNSEEN

DEEPEST = 4
"""How many encodings within each other are undone."""

_REFERENCE = re.compile(r"&(?:#[xX]0*([0-9A-Fa-f]{1,6})|#0*([0-9]{1,7})|([A-Za-z]{2,8}));?")
_ESCAPE = re.compile(r'\\(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|(["\\/]))')
_CONTROL = re.compile("[\x00-\x1f\x7f]+")
GZIP = b"\x1f\x8b\x08"
"""How a gzip begins (RFC 1952, section 2.3.1)."""
_MOST_UNPACKED = 1024 * 1024
"""Bytes of a gzip in a body that are looked into."""
_GZIP_PIECE = 32
_EBCDIC_XML = "\x4c\x6f\xa7\x94"
"""How an XML declaration begins in EBCDIC (XML 1.0, appendix F.1)."""
TRANSFER = ("uoted-", "UOTED-", "ase64", "ASE64")
"""What the names of transfer encodings have in them."""


def views(text: str) -> Iterator[str]:
    """`text` as it is, and with its encodings undone, one after the other; each also without the
    characters that nobody sees."""
    for start in (text, *_other_charsets(text)):
        for view in _decoded(start):
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


def unpacked(raw: bytes) -> str:
    """What the first gzip in `raw` holds, as far as it can be read."""
    packed = raw[raw.index(GZIP) :]
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


def _decoded(text: str) -> Iterator[str]:
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
