"""Writes responses: whole ones with a Content-Length, and those that go on for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time
from typing import TypeAlias

PLAIN = b"text/plain; charset=utf-8"
RETRY_SOON = b"Retry-After: 5\r\n"
CLOSE = b"Connection: close\r\n"
KEEP_ALIVE = b"Connection: keep-alive\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

Refusal: TypeAlias = Callable[[int, str], tuple[bytes, bytes]]
"""Makes a body and its content type of a status and a text."""


def plain(_status: int, text: str) -> tuple[bytes, bytes]:
    """A refusal as plain text."""
    return text.encode() + b"\n", PLAIN


def answer(
    minor: int, status: int, body: bytes, content_type: bytes, headers: Sequence[bytes] = ()
) -> bytes:
    """A whole response.

    :param minor: of the HTTP version, 0 or 1.
    :param headers: further header lines, each with its CRLF.
    """
    begins = _beginning(minor, status, content_type, int(time()))
    length = b"Content-Length: %d\r\n" % len(body)
    return b"".join((begins, length, *headers, b"\r\n", body))


def head(minor: int, content_type: bytes, headers: Iterable[bytes]) -> bytes:
    """The head of a response that ends with the connection; for HTTP/1.1 it comes in chunks."""
    begins = _beginning(minor, 200, content_type, int(time()))
    framing = b"Transfer-Encoding: chunked\r\n" if minor else b""
    return b"".join((begins, framing, *headers, CLOSE, b"\r\n"))


def chunk(data: bytes) -> bytes:
    """`data`, which is not empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@lru_cache(64)
def _beginning(minor: int, status: int, content_type: bytes, seconds: int) -> bytes:
    """The head of a response as far as it stays the same for a second."""
    lines = (
        b"HTTP/1.%d %d %b" % (minor, status, HTTPStatus(status).phrase.encode()),
        b"Server: receiptd",
        b"Date: " + formatdate(seconds, usegmt=True).encode(),
        b"Content-Type: " + content_type,
        b"",
    )
    return b"\r\n".join(lines)
