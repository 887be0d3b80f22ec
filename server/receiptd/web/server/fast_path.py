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
    read = _read_often if len(lines) <= _SHORT else _read
    headers, number, length = read(lines)
    if number > most_headers or head.end() + length != len(data):
        return None
    return Whole(method, target, headers, data[head.end() :])


def _read(lines: bytes) -> tuple[Headers, int, int]:
    """The headers in `lines`, how many there are, and the length of the body that they announce;
    that is negative where they ask for anything beside an answer."""
    headers = Headers()
    values = headers._rawHeaders
    fields = _LINE.findall(lines)
    for name, value in fields:
        values.setdefault(_canonical(name), []).append(value.rstrip(b"\t "))
    length = -1
    (announced, *others) = values.get(b"Content-Length", (b"0",))
    if (
        not others
        and announced.isdigit()
        and len(announced) <= _LONGEST_LENGTH
        and values.get(b"Connection", _KEEP_ALIVE) == _KEEP_ALIVE
        and b"Transfer-Encoding" not in values
        and b"Expect" not in values
    ):
        length = int(announced)
    return headers, len(fields), length


_read_often = lru_cache(256)(_read)
"""A client sends the same header time after time. Nobody changes what a request's says."""
_SHORT = 1024
"""Bytes of a header that is remembered."""
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
