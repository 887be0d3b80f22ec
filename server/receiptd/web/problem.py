"""Errors for programs that read: problem documents (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from twisted.logger import Logger
from twisted.python.failure import Failure

from receiptd.web.reader import Unavailable
from receiptd.web.server.request import Request

PROBLEM = b"application/problem+json"

PRIVATE = b"Cache-Control: no-store\r\n"
"""A header line for whatever shows phone numbers: nobody on the way may keep it."""

_log = Logger(namespace="receiptd.web")


class Problem(Exception):
    """A request that is not answered with what it asked for, and why."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Sequence[bytes] = (),
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        """
        :param detail: what was wrong, with which value, and what to do.
        :param headers: further header lines, each with its CRLF.
        :param errors: single findings, each with a `detail` and with the `parameter` or (as a
            JSON pointer, RFC 6901, in the body) the `pointer` that it is about.
        """
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers
        self.errors = errors

    @classmethod
    def unavailable(cls, detail: str, seconds: int = 5) -> Problem:
        """503: the same request will do in a while."""
        return cls(503, detail, headers=(b"Retry-After: %d\r\n" % seconds,))

    def document(self) -> dict[str, object]:
        """The document; its type says that the status says it all (RFC 9457, section 4.2.1)."""
        found: dict[str, object] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            found["errors"] = list(self.errors)
        return found

    def encoded(self) -> bytes:
        """The document's bytes."""
        body = json.dumps(self.document(), ensure_ascii=False) + "\n"
        # A half of a surrogate pair, which a request may well carry, stays an escape.
        return body.encode("utf-8", "backslashreplace")

    def answer(self, request: Request) -> None:
        """Answer `request` with the document."""
        request.answer(self.status, self.encoded(), PROBLEM, (PRIVATE, *self.headers))


def answer_failure(failure: Failure, request: Request) -> None:
    """Answer a request whose handling failed: by its `Problem`, since something does not answer
    now, or through a fault of ours."""
    if isinstance(failure.value, Problem):
        failure.value.answer(request)
        return
    if isinstance(failure.value, Unavailable):
        Problem.unavailable(str(failure.value)).answer(request)
        return
    _log.failure(
        "answering {path}",
        failure=failure,
        path=request.shown_path,
        request_id=request.request_id,
    )
    Problem(500, "something went wrong here; the log says what").answer(request)
