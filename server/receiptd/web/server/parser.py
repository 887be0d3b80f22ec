"""Takes a request apart: the request line here, the header fields and the chunks by httptools.

httptools is llhttp, strict by default. Two things are read here, before it sees them:

- The request line. Providers write messages into URLs as they are, with spaces and with bytes
  above 127. Everything between the first and the last space is the target; llhttp would refuse it.
- The line ends. A bare LF is served as CRLF is (RFC 9112, section 2.2), and a folded header line
  is joined with the one before (section 5.2).

Nothing here is bound to a socket, and no memory is taken beyond the limits that are given.
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

_HEAD_END = re.compile(rb"\n\r?\n")
_LONELY_CR = re.compile(rb"\r[^\n]")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_CONTROLS = re.compile(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")
_FOLD = re.compile(rb"\r\n[ \t]+")
_CONTENT_TYPE = re.compile(rb"\ncontent-type:[ \t]*([^\r\n]*)", re.IGNORECASE)
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")
_VERSION = re.compile(rb"HTTP/1\.[0-9]")
_NO_TARGET = re.compile(rb"[\0\r]")

_FIRST_LINE = b"POST / HTTP/1.1\r\n"
"""Stands before the header fields, since the request line was read already."""

_CHUNKED = _FIRST_LINE + b"Transfer-Encoding: chunked\r\n\r\n"

_TLS_RECORD = b"\x16\x03"
"""How a TLS handshake begins (RFC 8446, section 5.1): type 22, then the major version 3."""

FRAMING = 8
"""Bytes of chunk framing that come with each byte of a body: a chunk of one byte has six. What
is beyond that and `max_header_bytes` are chunk extensions and trailers that nobody reads."""


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


class Incoming:
    """One request that is coming in."""

    __slots__ = ("_body", "_chunks", "_data", "_searched", "body", "head", "most", "size", "wire")

    def __init__(self) -> None:
        self.head: Head | None = None
        self.body = b""
        """The body, once it is whole."""
        self.size = 0
        """Bytes of the body that have come."""
        self.most = 0
        """Bytes that the body may have; to be set before `take_body` is called."""
        self.wire = 0
        """Bytes that have come behind the head, framing included."""
        self._data = b""
        self._searched = 0
        self._body = bytearray()
        self._chunks: _Chunks | None = None

    @property
    def begun(self) -> bool:
        """Whether anything of it has come."""
        return self.head is not None or bool(self._data)

    @property
    def seen(self) -> bytes:
        """What came of a head that cannot be read, and what came behind it."""
        return self._data

    def take_head(self, data: bytes, most_headers: int, most_bytes: int) -> bytes | None:
        """Take `data`; returns what came behind the head, None while the head is not whole.

        :raises Malformed: 400, or 431 where it is beyond a limit.
        """
        if self._data:
            data = self._data + data
        elif data[:1] in (b"\r", b"\n"):
            data = data.lstrip(b"\r\n")  # RFC 9112, section 2.2: empty lines before a request
        found = _HEAD_END.search(data, self._searched)
        if found is None:
            self._check_part(data, most_headers, most_bytes)
            return None
        end = found.end()
        self._data = data
        if end > most_bytes:
            raise _too_large(most_bytes)
        self.head = parsed(data[:end], most_headers)
        self._data = b""
        if self.head.length is None:
            self._chunks = _Chunks(self._body)
        return data[end:]

    def _check_part(self, data: bytes, most_headers: int, most_bytes: int) -> None:
        """See that a part of a head may become one; whoever waits would be answered by nobody."""
        self._data = data
        if len(data) > most_bytes:
            raise _too_large(most_bytes)
        if data.startswith(_TLS_RECORD):
            raise Malformed(
                400, "TLS was spoken to a port that takes plain HTTP: use http://, or server.tls"
            )
        if _LONELY_CR.search(data, max(self._searched - 1, 0)):
            raise Malformed(400, _not_http("a CR without LF"))
        line_end = data.find(b"\n")
        if line_end >= 0:
            request_line(data[:line_end])
            if data.count(b"\n") - 1 > most_headers:
                raise _too_many(most_headers)
        self._searched = max(len(data) - 2, 0)

    def take_body(self, data: bytes) -> bytes | None:
        """Take `data`; returns what came behind the body, None while the body is not whole, or
        is larger than it may be.

        :raises Malformed: where its chunks are malformed.
        """
        assert self.head is not None
        if self._chunks is not None:
            return self._take_chunks(self._chunks, data)
        missing = (self.head.length or 0) - self.size
        if len(data) < missing:
            self._body += data
            self.size += len(data)
            return None
        self.body = bytes(self._body) + data[:missing] if self.size else data[:missing]
        self.size += missing
        return data[missing:]

    def _take_chunks(self, chunks: _Chunks, data: bytes) -> bytes | None:
        behind = chunks.feed(data)
        self.size = len(self._body)
        self.wire += len(data)
        if behind is None:
            if self.wire > FRAMING * (self.size + 1024):
                raise Malformed(400, _not_http("its chunks have endless extensions or trailers"))
            return None
        self.body = bytes(self._body)
        return behind


class _Chunks:
    """A body in chunks (RFC 9112, section 7.1)."""

    def __init__(self, body: bytearray) -> None:
        """:param body: what the chunks are added to."""
        self.on_body = body.extend
        self._whole = False
        self._parser = HttpRequestParser(self)
        self._parser.feed_data(_CHUNKED)

    def on_message_complete(self) -> None:
        """The last chunk and the trailers have come."""
        self._whole = True

    def feed(self, data: bytes) -> bytes | None:
        """What came behind the body, None while it is not whole."""
        start = 0
        # httptools does not tell where a message ends. It ends with a line, so line by line no
        # byte of the next request goes in.
        while start < len(data):
            end = data.find(b"\n", start) + 1 or len(data)
            try:
                self._parser.feed_data(data[start:end])
            except HttpParserError as error:
                raise Malformed(400, _not_http(str(error))) from None
            start = end
            if self._whole:
                return data[start:]
        return None


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
    method, _, rest = line.rstrip(b"\r ").partition(b" ")
    target, _, version = rest.rpartition(b" ")
    target = target.strip(b" ")
    if not _VERSION.fullmatch(version):
        raise Malformed(400, _not_http("the request line does not end in HTTP/1.1"))
    if not _METHOD.fullmatch(method):
        raise Malformed(400, _not_http("the request line does not begin with a method"))
    if not target or _NO_TARGET.search(target):
        raise Malformed(400, _not_http("the request line has no target"))
    return method, target, 0 if version.endswith(b"0") else 1


class Guess(NamedTuple):
    """What a request that cannot be read was most likely meant to be."""

    target: bytes
    """Empty where nothing in it looks like one."""
    content_type: str
    body: bytes


def guess(data: bytes) -> Guess:
    """Look for a target and a body in `data`, all that came of a request."""
    end = _HEAD_END.search(data)
    head, body = (data[: end.start() + 1], data[end.end() :]) if end else (data, b"")
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
        raise _too_many(most_headers)
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
            raise Malformed(400, _not_http(str(error))) from None
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
        HttpRequestParser(gathered).feed_data(_FIRST_LINE + lines)
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
        raise Malformed(400, _not_http("its Transfer-Encoding is not chunked"))
    return None


def _not_http(why: str) -> str:
    return f"this is no HTTP/1.1 request: its header or its chunks are malformed ({why})"


def _too_many(most_headers: int) -> Malformed:
    return Malformed(431, f"more than {most_headers} header lines (server.max_headers)")


def _too_large(most_bytes: int) -> Malformed:
    return Malformed(431, f"the header is larger than {most_bytes} bytes {HEADER_KEY}")
