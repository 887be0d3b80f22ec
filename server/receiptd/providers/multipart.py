"""Multipart bodies taken apart: forms (RFC 7578) and, for SOAP, multipart/related (RFC 2387).

One level deep, no transfer encodings: the email package follows nested parts until Python's
stack is used up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

MOST_PARTS = 1000
"""Parts that are looked at; no post has as many."""

# RFC 2046, 5.1.1: a boundary has at most 70 characters.
_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))', re.I)
_PARAMETER = re.compile(
    rb';[ \t]*(name\*?|filename\*?)[ \t]*=[ \t]*(?:"([^"]*)"|([^\s;"]*))', re.I
)
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")


class Part(NamedTuple):
    """A part: its header's lines, and where what it holds lies in the body."""

    header: bytes
    start: int
    end: int

    def field(self, name: bytes) -> bytes:
        """The value of a header field, `name` in lower case; empty where it is absent."""
        for line in self.header.splitlines():
            found, _, value = line.partition(b":")
            if found.strip().lower() == name:
                return value.strip()
        return b""


class FormPart(NamedTuple):
    """A part of a form: its name, whether it is a file, and where its value lies."""

    name: bytes
    file: bool
    start: int
    end: int


def parts(content_type: str, body: bytes) -> Iterator[Part]:
    """The parts of `body`, in their order; none where the Content-Type names no boundary."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        return
    boundary = (found[1] or found[2]).encode("latin-1", "replace")
    delimiter = re.compile(rb"(?:\A|\r?\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?=\r?\n|\Z)")
    last = None
    for number, match in enumerate(delimiter.finditer(body)):
        if last is not None:
            yield from _part(body, last.end(), match.start())
        if match[1] or number == MOST_PARTS:
            return
        last = match
    if last is not None:
        yield from _part(body, last.end(), len(body))


def _part(body: bytes, start: int, end: int) -> Iterator[Part]:
    head = _BLANK_LINE.search(body, start, end)
    if head:
        yield Part(body[start : head.start()], head.end(), end)


def form_parts(content_type: str, body: bytes) -> Iterator[FormPart]:
    """The parts of a form: those that have a name. One that is written as `name*` (RFC 5987,
    which forms should not use) counts as well."""
    for part in parts(content_type, body):
        parameters: dict[bytes, bytes] = {}
        for key, quoted, bare in _PARAMETER.findall(part.field(b"content-disposition")):
            parameters.setdefault(key.lower(), quoted or bare)
        name = parameters.pop(b"name", None)
        extended = parameters.pop(b"name*", None)
        if name is None and extended is not None:
            name = unquote_to_bytes(extended.rpartition(b"'")[2])
        if name is not None:
            yield FormPart(name, bool(parameters), part.start, part.end)
