"""Whose fault it is that a webhook was not taken: of an answer, and of none."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from receiptd.forward.destinations import LONGEST_ANSWER, TAKEN, Fault, Outcome

LONGEST_WAIT = 3600.0
"""Seconds that Retry-After is obeyed for."""

_DESTINATIONS = frozenset({401, 403, 404, 405, 408, 425, 429})
"""4xx that are about the way to the application, or about now, and not about the event."""

_OBEYED = frozenset({408, 425, 429, 503})
"""Statuses whose Retry-After counts."""


class Answer(NamedTuple):
    """What an application answered."""

    status: int
    body: bytes = b""
    """No more of it than was read."""
    retry_after: str | None = None
    delivery: str | None = None
    """The header webhook-delivery."""

    @property
    def text(self) -> str:
        """The body for people."""
        return self.body[:LONGEST_ANSWER].decode("utf-8", "replace").replace("\0", "\ufffd")


def judge(answer: Answer, expect_body: str | None, now: datetime) -> Outcome:
    """What `answer` means.

    :param expect_body: what its body must be beside a status of 2xx.
    :param now: for a Retry-After that is a date.
    """
    status, text = answer.status, answer.text
    if 200 <= status < 300:
        if expect_body is None or answer.body.strip() == expect_body.strip().encode():
            return TAKEN
        return Outcome(
            Fault.DESTINATION, f"answered {status}, but its body is not {expect_body!r}", text
        )
    said = f"answered {status}"
    if (answer.delivery or "").strip().lower() == "abort-message":
        return Outcome(Fault.ABORT, f"{said} and webhook-delivery: abort-message", text)
    if status == 410:
        return Outcome(Fault.PAUSE, f"{said}: it wants no more events", text)
    if status in _OBEYED:
        wait = seconds(answer.retry_after, now)
        if wait is not None:
            return Outcome(Fault.BUSY, f"{said} and Retry-After: {wait:.0f} s", text, wait)
    if 300 <= status < 400:
        return Outcome(Fault.DESTINATION, f"{said}: redirects are not followed", text)
    if status in _DESTINATIONS or not 400 <= status < 500:
        return Outcome(Fault.DESTINATION, said, text)
    return Outcome(Fault.TOO_LARGE if status == 413 else Fault.EVENT, said, text)


def seconds(retry_after: str | None, now: datetime) -> float | None:
    """How long `retry_after` (RFC 9110, section 10.2.3: seconds or a date) says to wait, up to
    `LONGEST_WAIT`; None where it says nothing that can be read."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST_WAIT)
    try:
        at = parsedate_to_datetime(text[:100])
    except (ValueError, TypeError, OverflowError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max((at - now).total_seconds(), 0.0), LONGEST_WAIT)
