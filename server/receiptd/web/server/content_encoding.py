"""Decodes bodies that come compressed (RFC 9110, section 8.4), never to more than the limit."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

GZIP = 16 + zlib.MAX_WBITS
MOST_CODINGS = 2
MOST_MEMBERS = 100
"""Of one gzip body: behind each, all that is left is copied."""
ACCEPTED = b"Accept-Encoding: gzip, deflate\r\n"
"""What a client may send (RFC 9110, section 12.5.3); goes with a 415."""


class Undecodable(Exception):
    """A body that cannot be decoded.

    :ivar status: 415 for another coding than those known, 413 for a body that becomes too large,
        400 for one that is damaged.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def decoded(body: bytes, values: Sequence[bytes], most: int) -> bytes:
    """`body` without its content codings.

    :param values: of the header Content-Encoding.
    :param most: bytes that it may become.
    :raises Undecodable: where that cannot be done.
    """
    named = b",".join(values).lower().split(b",")
    codings = [each.strip() for each in named if each.strip() not in (b"", b"identity")]
    if len(codings) > MOST_CODINGS:
        raise Undecodable(415, "the body has too many content codings: send it as it is, or gzip")
    for coding in reversed(codings):
        if coding in (b"gzip", b"x-gzip"):
            body = _inflated(body, GZIP, "gzip", most)
        elif coding == b"deflate":
            # zlib's format, as the RFC has it; some send the bare deflate stream instead.
            bits = zlib.MAX_WBITS if _is_zlib(body) else -zlib.MAX_WBITS
            body = _inflated(body, bits, "deflate", most)
        else:
            name = coding[:20].decode("ascii", "replace")
            raise Undecodable(
                415, f"the Content-Encoding {name!r} is not known here: gzip and deflate are"
            )
    return body


def _is_zlib(body: bytes) -> bool:
    """Whether `body` begins with a header of zlib's (RFC 1950, section 2.2)."""
    method_is_deflate = body[:1] != b"" and body[0] & 0x0F == zlib.DEFLATED
    return method_is_deflate and int.from_bytes(body[:2], "big") % 31 == 0


def _inflated(body: bytes, bits: int, name: str, most: int) -> bytes:
    found = bytearray()
    members = 0
    try:
        while members == 0 or body:  # gzip may have several members (RFC 1952, section 2.2)
            members += 1
            if members > MOST_MEMBERS:
                raise Undecodable(400, f"the body has more than {MOST_MEMBERS} gzip members")
            stream = zlib.decompressobj(bits)
            found += stream.decompress(body, most + 1 - len(found))
            if len(found) > most:
                raise Undecodable(413, f"the body, decoded, is larger than {most} bytes")
            if not stream.eof:
                raise Undecodable(400, f"the body is cut off: its {name} has no end")
            if bits != GZIP and stream.unused_data:
                raise Undecodable(400, f"behind the end of the body's {name} there is more")
            body = stream.unused_data.lstrip(b"\0") if bits == GZIP else b""
    except zlib.error:
        raise Undecodable(400, f"the body is no {name}, as its Content-Encoding says") from None
    return bytes(found)
