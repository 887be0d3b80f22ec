"""The short way for a request that comes whole and plain, as nearly every receipt does.

Twisted takes a request apart line by line, with several calls for each, which is a fifth of all
the work on a receipt. Where one read of the socket brings exactly one request, written strictly as
RFC 9112 has it, all of it is there to be taken apart at once. Anything else (a request in pieces
or behind another one, chunks, HTTP/1.0, `Expect`, a line that is not quite right) goes Twisted's
way: what is wrong with a request is found, and answered, there alone.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from twisted.web.http_headers import Headers

_HEAD = re.compile(
    rb"([A-Z]+) ([!-~]+) HTTP/1\.1\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n)*)\r\n"
)
_LINE = re.compile(rb"([^:]+):[\t ]*([^\r]*)\r\n")


class Whole(NamedTuple):
    """A request."""

    method: bytes
    target: bytes
    headers: Headers
    body: bytes


def whole(data: bytes, most_headers: int, most_bytes: int) -> Whole | None:
    """The HTTP/1.1 request that `data` is; None where it is not one in whole and nothing more,
    has a header of more than `most_headers` lines or of more than `most_bytes`, or asks for
    anything beside an answer.
    """
    head = _HEAD.match(data)
    if head is None or head.end() > most_bytes:
        return None
    method, target, lines = head.groups()
    fields = _LINE.findall(lines)
    if len(fields) > most_headers:
        return None
    values: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        values.setdefault(_canonical(name), []).append(value.rstrip(b"\t "))
    length = 0
    if not values.keys().isdisjoint(_SPECIAL):
        if b"Transfer-Encoding" in values or b"Expect" in values:
            return None
        if values.get(b"Connection", _KEEP_ALIVE) != _KEEP_ALIVE:
            return None
        (announced, *others) = values.get(b"Content-Length", (b"0",))
        if others or len(announced) > _LONGEST_LENGTH or not announced.isdigit():
            return None
        length = int(announced)
    if head.end() + length != len(data):
        return None
    headers = Headers()
    headers._rawHeaders = values
    return Whole(method, target, headers, data[head.end() :])


_SPECIAL = (b"Content-Length", b"Transfer-Encoding", b"Connection", b"Expect")
_KEEP_ALIVE = [b"keep-alive"]
_LONGEST_LENGTH = 15
"""Digits."""


@lru_cache(1024)
def _canonical(name: bytes) -> bytes:
    """A header's name as Twisted keeps it."""
    headers = Headers()
    headers.addRawHeader(name, b"")
    ((canonical, _),) = headers.getAllRawHeaders()
    return canonical
