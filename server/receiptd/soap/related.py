"""SOAP with attachments and MTOM: the envelope in a multipart/related body (RFC 2387).

Only the root part is read: the one that `start` names, else the first. Attachments, and
what `xop:Include` refers to, are no part of a receipt.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from spyne import Fault

from receiptd.providers.multipart import Part, parts
from receiptd.soap.document import charset_of

TYPE = "multipart/related"

_START = re.compile(r';\s*start\s*=\s*(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_AS_IT_IS = (b"", b"7bit", b"8bit", b"binary")


class Root(NamedTuple):
    """Where the envelope lies in the body, and its charset."""

    start: int
    end: int
    charset: str | None


def root_part(content_type: str, body: bytes) -> Root:
    """The root part of `body`.

    :raises Fault: `Client`, where there is none, or it is encoded for the transfer.
    """
    wanted = _START.search(content_type)
    start = (wanted[1] or wanted[2]).strip("<> ").encode("latin-1", "replace") if wanted else None
    first: Part | None = None
    for part in parts(content_type, body):
        if first is None:
            first = part
            if start is None:
                break
        if part.field(b"content-id").strip(b"<> ") == start:
            first = part
            break
    if first is None:
        raise Fault(
            "Client",
            f"the {TYPE} body has no part: its Content-Type must name the boundary between them",
        )
    coding = first.field(b"content-transfer-encoding").lower()
    if coding not in _AS_IT_IS:
        raise Fault(
            "Client", "the envelope is encoded for the transfer: send it as 8bit or binary"
        )
    return Root(first.start, first.end, charset_of(first.field(b"content-type").decode("latin-1")))
