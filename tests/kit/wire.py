"""HTTP on a bare socket, byte for byte as a provider's client writes it."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import closing
from typing import NamedTuple

TIMEOUT = 45.0
"""Seconds that a reply may take."""


class Answer(NamedTuple):
    """A response as it came; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    closed: bool
    """Whether the server closed the connection behind it."""

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()


def send(port: int, *pieces: bytes) -> Answer:
    """Send `pieces`, one after the other, on a new connection; the one response to them."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return receive(connection)


def receive(connection: socket.socket) -> Answer:
    """The next response on `connection`, and whether the connection ended behind it."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _some(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    status = int(lines[0].split(" ", 2)[1])
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        assert name.lower() not in headers, f"{name} twice"
        headers[name.lower()] = value.strip()
    length = int(headers["content-length"])
    while len(body) < length:
        body += _some(connection)
    assert len(body) == length, "more came than Content-Length says"
    closed = headers.get("connection") == "close" and connection.recv(1) == b""
    return Answer(status, headers, body, closed)


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    assert data, "the connection was closed before the response was whole"
    return data


def post(
    port: int,
    body: bytes,
    path: str = "/soap",
    content_type: str | None = "text/xml; charset=utf-8",
    headers: Iterable[str] = (),
    method: str = "POST",
) -> Answer:
    """One request on a connection of its own."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close"]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    lines += [f"Content-Length: {len(body)}", *headers]
    return send(port, "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)


def get(port: int, path: str, headers: Iterable[str] = (), method: str = "GET") -> Answer:
    """One request without a body."""
    lines = [f"{method} {path} HTTP/1.1", "Connection: close", *headers]
    if not any(line.lower().startswith("host:") for line in headers):
        lines.append(f"Host: 127.0.0.1:{port}")
    return send(port, "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")


def chunked(body: bytes, size: int = 100) -> bytes:
    """`body` in the chunked transfer coding."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
