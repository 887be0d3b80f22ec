"""What goes with each answer of the API: CORS, compression, and a line in the log.

Compression tells nothing to who can watch the length of answers (the attack called BREACH): that
takes a secret in the answer, and a victim's browser that sends its credentials along by itself.
An answer holds no token and no PIN, and a bearer token is sent by nobody but who has it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from gzip import compress
from typing import Any

from sqlalchemy import Engine
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from receiptd.web.api.operation import Operation
from receiptd.web.reader import Reader
from receiptd.web.server.request import Request

LEAST = 1024
"""Bytes of the smallest body that is compressed."""

AT_ONCE = 32 * 1024
"""Bytes of the largest body that is compressed where it is answered, and not in a thread."""

LEVEL = 3
"""Of gzip: three quarters of what it can save, in a third of the time."""

PREFLIGHT_SECONDS = 600
"""For how long a browser may remember what it was told (Fetch Standard, section 3.2.3)."""

_HEADERS = b"Authorization, Content-Type, Last-Event-ID"
_EXPOSED = b"Retry-After, X-Request-Id"
_GZIP = re.compile(r"(?:gzip|x-gzip|\*)\s*(?:;\s*q\s*=\s*([0-9.]{1,5})\s*)?", re.IGNORECASE)

_log = Logger(namespace="receiptd.web")


class Answering:
    """One request to the API, from when it has come to its answer."""

    def __init__(
        self, request: Request, reader: Reader, origins: Collection[str], reactor: Any
    ) -> None:
        """
        :param reader: in whose threads large bodies are compressed.
        :param origins: web pages of these may read answers.
        """
        self.name = ""
        """Of the token; empty as long as there is none."""
        self.operation: Operation | None = None
        self._request = request
        self._reader = reader
        self._reactor = reactor
        self._started = reactor.seconds()
        self._told = False
        origin = request.header(b"Origin")
        self._origin = origin if origin and origin in origins else ""
        if origins:
            request.own_headers = self._cors()
        request.intercept = self._answer

    def _cors(self) -> tuple[bytes, ...]:
        """The header lines of CORS (Fetch Standard, section 3.2). Never with credentials, which
        are cookies and the like: whoever has a token sends it himself."""
        if not self._origin:
            return (b"Vary: Origin\r\n",)
        return (
            b"Vary: Origin\r\n",
            b"Access-Control-Allow-Origin: %b\r\n" % self._origin.encode("latin-1"),
            b"Access-Control-Expose-Headers: %b\r\n" % _EXPOSED,
        )

    def preflight(self, methods: Sequence[str]) -> bool:
        """Answer a browser that asks whether a page may send a request; False where none does.
        It has no token with it.

        :param methods: those that the path has.
        """
        request = self._request
        asked = request.header(b"Access-Control-Request-Method")
        if request.method != b"OPTIONS" or not self._origin or not asked:
            return False
        self._told = True
        request.answer(
            200,
            b"",
            headers=(
                b"Access-Control-Allow-Methods: %b\r\n" % ", ".join(methods).encode(),
                b"Access-Control-Allow-Headers: %b\r\n" % _HEADERS,
                b"Access-Control-Max-Age: %d\r\n" % PREFLIGHT_SECONDS,
            ),
        )
        return True

    def tell(self, status: int) -> None:
        """Write the line into the log, once. One without a valid token has its own already."""
        if self._told or not self.name:
            return
        self._told = True
        _log.info(
            "API: {name}: {operation} {status} in {milliseconds:.1f} ms",
            name=self.name,
            operation=self.operation.name if self.operation else "nothing that there is",
            status=status,
            milliseconds=(self._reactor.seconds() - self._started) * 1000,
            request_id=self._request.request_id,
        )

    def _answer(
        self, status: int, body: bytes, content_type: bytes, headers: Sequence[bytes]
    ) -> None:
        self.tell(status)
        request = self._request
        if status != 200 or len(body) < LEAST:
            request.answer(status, body, content_type, headers)
            return
        headers = (*headers, b"Vary: Accept-Encoding\r\n")
        if not takes_gzip(request.header(b"Accept-Encoding")):
            request.answer(status, body, content_type, headers)
            return
        zipped = (*headers, b"Content-Encoding: gzip\r\n")
        if len(body) <= AT_ONCE:
            request.answer(status, _compressed(body), content_type, zipped)
            return
        compressing: Deferred[bytes] = self._reader.read(lambda _engine: _compressed(body))

        def uncompressed(_failure: Failure) -> None:
            request.answer(status, body, content_type, headers)

        compressing.addCallbacks(
            lambda smaller: request.answer(status, smaller, content_type, zipped), uncompressed
        )


def takes_gzip(accepted: str) -> bool:
    """Whether a header Accept-Encoding (RFC 9110, section 12.5.3) takes gzip."""
    for each in accepted[:_LONGEST].split(","):
        found = _GZIP.fullmatch(each.strip())
        if found and (found[1] is None or found[1].strip("0.")):
            return True
    return False


_LONGEST = 1000


def _compressed(body: bytes, _engine: Engine | None = None) -> bytes:
    return compress(body, LEVEL, mtime=0)
