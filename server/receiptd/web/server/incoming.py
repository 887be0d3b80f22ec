"""A request as it comes in: its head, then its body, in whatever pieces.

Nothing here is bound to a socket, and no memory is taken beyond the limits that are given.
"""

from __future__ import annotations

import re

from httptools import HttpParserError, HttpRequestParser

from receiptd.web.server.head import (
    FIRST_LINE,
    Head,
    Malformed,
    head_end,
    not_http,
    parsed,
    request_line,
    too_large,
    too_many,
)

_LONELY_CR = re.compile(rb"\r[^\n]")
_CHUNKED = FIRST_LINE + b"Transfer-Encoding: chunked\r\n\r\n"

_TLS_RECORD = b"\x16\x03"
"""How a TLS handshake begins (RFC 8446, section 5.1): type 22, then the major version 3."""

FRAMING = 8
"""Bytes of chunk framing that come with each byte of a body: a chunk of one byte has six. What
is beyond that and `max_header_bytes` are chunk extensions and trailers that nobody reads."""


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
        end = head_end(data, self._searched)
        if not end:
            self._check_part(data, most_headers, most_bytes)
            return None
        self._data = data
        if end > most_bytes:
            raise too_large(most_bytes)
        self.head = parsed(data[:end], most_headers)
        self._data = b""
        if self.head.length is None:
            self._chunks = _Chunks(self._body)
        return data[end:]

    def _check_part(self, data: bytes, most_headers: int, most_bytes: int) -> None:
        """See that a part of a head may become one; whoever waits would be answered by nobody."""
        self._data = data
        if len(data) > most_bytes:
            raise too_large(most_bytes)
        if data.startswith(_TLS_RECORD):
            raise Malformed(
                400, "TLS was spoken to a port that takes plain HTTP: use http://, or server.tls"
            )
        if _LONELY_CR.search(data, max(self._searched - 1, 0)):
            raise Malformed(400, not_http("a CR without LF"))
        line_end = data.find(b"\n")
        if line_end >= 0:
            request_line(data[:line_end])
            if data.count(b"\n") - 1 > most_headers:
                raise too_many(most_headers)
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
                raise Malformed(400, not_http("its chunks have endless extensions or trailers"))
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
                raise Malformed(400, not_http(str(error))) from None
            start = end
            if self._whole:
                return data[start:]
        return None
