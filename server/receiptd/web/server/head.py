"""Reads the head of a request: the request line here, the header fields by httptools.

httptools is llhttp, strict by default. Two things are read here, before it sees them:

- The request line. Providers write messages into URLs as they are, with spaces and with bytes
  above 127. Everything between the first and the last space is the target; llhttp would refuse it.
- The line ends. A bare LF is served as CRLF is (RFC 9112, section 2.2), and a folded header line
  is joined with the one before (section 5.2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

HEADER_KEY = "(server.max_header_bytes)"

_BARE_LF = re.compile(rb"(?<!\r)\n")
_CONTROLS = re.compile(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")
_FOLD = re.compile(rb"\r\n[ \t]+")
_CONTENT_TYPE = re.compile(rb"\ncontent-type:[ \t]*([^\r\n]*)", re.IGNORECASE)
_PLAIN_LINE = re.compile(rb"([A-Z]{1,32}) ([!-~]+) HTTP/1\.1\r?")
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")
_VERSION = re.compile(rb"HTTP/1\.[0-9]")
_NO_TARGET = re.compile(rb"[\0\r]")

FIRST_LINE = b"POST / HTTP/1.1\r\n"
"""Stands before the header fields, since the request line was read already."""


class Malformed(Exception):
    """A request that cannot be read.

    :ivar status: what it is answered with, such as 400.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Head(NamedTuple):
    """A request but for its body."""

    method: bytes
    target: bytes
    minor: int
    """Of HTTP/1.0 the 0; else 1."""
    fields: Mapping[bytes, Sequence[bytes]]
    """The values of the header fields, by name in lower case."""
    length: int | None
    """Of the body, in bytes; None: it comes in chunks."""

    persistent: bool
    """Whether the client keeps the connection for further requests."""
    expects_continue: bool
    """Whether the client waits for a word before it sends the body."""


class _Fields:
    """Gathers header fields."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: dict[bytes, list[bytes]] = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field."""
        self.fields.setdefault(name.lower(), []).append(value.rstrip(b" \t"))


def request_line(line: bytes) -> tuple[bytes, bytes, int]:
    """Method, target and minor version in a request line, given without its LF.

    :raises Malformed: where it is none of HTTP/1.
    """
    plain = _PLAIN_LINE.fullmatch(line)
    if plain is not None:  # as nearly all are
        return plain[1], plain[2], 1
    method, _, rest = line.rstrip(b"\r ").partition(b" ")
    target, _, version = rest.rpartition(b" ")
    target = target.strip(b" ")
    if not _VERSION.fullmatch(version):
        raise Malformed(400, not_http("the request line does not end in HTTP/1.1"))
    if not _METHOD.fullmatch(method):
        raise Malformed(400, not_http("the request line does not begin with a method"))
    if not target or _NO_TARGET.search(target):
        raise Malformed(400, not_http("the request line has no target"))
    return method, target, 0 if version.endswith(b"0") else 1


class Guess(NamedTuple):
    """What a request that cannot be read was most likely meant to be."""

    target: bytes
    """Empty where nothing in it looks like one."""
    content_type: str
    body: bytes


def head_end(data: bytes, start: int = 0) -> int:
    """Where the head in `data` ends, its empty line included; 0 where it does not.

    :param start: up to where there is no such end.
    """
    crlf = data.find(b"\n\r\n", start)
    lf = data.find(b"\n\n", start, crlf + 1 if crlf >= 0 else len(data))
    if lf >= 0:
        return lf + 2
    return crlf + 3 if crlf >= 0 else 0


def guess(data: bytes) -> Guess:
    """Look for a target and a body in `data`, all that came of a request."""
    end = head_end(data)
    head, body = (data[:end], data[end:]) if end else (data, b"")
    line = head.partition(b"\n")[0].rstrip(b"\r ")
    rest = line.partition(b" ")[2].lstrip(b" ")
    target, space, last = rest.rpartition(b" ")
    if not space or not last.upper().startswith(b"HT"):
        target = rest
    if not target.startswith((b"/", b"http://", b"https://")):
        target = b""
    found = _CONTENT_TYPE.search(head)
    return Guess(target, found[1].decode("iso8859-1") if found else "", body)


def parsed(data: bytes, most_headers: int) -> Head:
    """The head that `data` is, its empty line included.

    :raises Malformed: 400, or 431 where it has more than `most_headers` lines.
    """
    first, _, lines = data.partition(b"\n")
    method, target, minor = request_line(first)
    if data.count(b"\n") - 2 > most_headers:
        raise too_many(most_headers)
    if lines.count(b"\n") != lines.count(b"\r\n"):
        lines = _BARE_LF.sub(b"\r\n", lines)
    if b"\n " in lines or b"\n\t" in lines:
        lines = _FOLD.sub(b" ", lines)
    read = _read_often if len(lines) <= _SHORT else _read
    try:
        fields, length, options, expects = read(lines)
    except HttpParserError as error:
        # RFC 9110, section 5.5: other controls than CR, LF and NUL are no reason to refuse. In
        # a name, a number or a coding the question mark is one.
        cleaned = _CONTROLS.sub(b"?", lines)
        if cleaned == lines:
            raise Malformed(400, not_http(str(error))) from None
        return parsed(first + b"\n" + cleaned, most_headers)
    if minor:
        persistent = b"close" not in options
    else:
        # RFC 9112, section 6.1: chunks of an old client are not to be trusted.
        persistent, expects = b"keep-alive" in options and length is not None, False
    return Head(method, target, minor, fields, length, persistent, expects)


class _Read(NamedTuple):
    """What header fields say."""

    fields: Mapping[bytes, Sequence[bytes]]
    length: int | None
    options: frozenset[bytes]
    """Of `Connection`."""
    expects_continue: bool


def _read(lines: bytes) -> _Read:
    """The header fields in `lines`, each of which ends with CRLF; an empty one is the last."""
    gathered = _Fields()
    with suppress(HttpParserUpgrade):  # an offer not taken up (RFC 9110, section 7.8)
        HttpRequestParser(gathered).feed_data(FIRST_LINE + lines)
    fields = {name: tuple(values) for name, values in gathered.fields.items()}
    # RFC 9110, section 7.6.1: a list, with commas, and maybe in several lines.
    options = b",".join(fields.get(b"connection", ())).lower().split(b",")
    return _Read(
        MappingProxyType(fields),
        _length(fields),
        frozenset(option.strip() for option in options),
        any(value.lower() == b"100-continue" for value in fields.get(b"expect", ())),
    )


_read_often = lru_cache(256)(_read)
"""A client sends the same header time after time. What is read of one cannot be changed."""
_SHORT = 1024
"""Bytes of a header that is remembered."""


def _length(fields: Mapping[bytes, Sequence[bytes]]) -> int | None:
    """The body's, in bytes; None for chunks. That there are not both httptools has seen to."""
    codings = fields.get(b"transfer-encoding")
    if codings is None:
        digits = fields.get(b"content-length", (b"0",))[0]
        # httptools has seen to it that the number has 64 bits; zeros may stand before it.
        return int(digits.lstrip(b"0") or b"0")
    if [each.lower() for each in codings] != [b"chunked"]:
        raise Malformed(400, not_http("its Transfer-Encoding is not chunked"))
    return None


def not_http(why: str) -> str:
    """What a request is told that is none of HTTP/1."""
    return f"this is no HTTP/1.1 request: its header or its chunks are malformed ({why})"


def too_many(most_headers: int) -> Malformed:
    """That a head has too many lines."""
    return Malformed(431, f"more than {most_headers} header lines (server.max_headers)")


def too_large(most_bytes: int) -> Malformed:
    """That a head has too many bytes."""
    return Malformed(431, f"the header is larger than {most_bytes} bytes {HEADER_KEY}")
