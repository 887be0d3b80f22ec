"""What a line of the log looks like: plain, for people, or JSON, for programs.

The keys of JSON lines stay what they are; a line has those that it has something to say for.

- Every line: `time` (ISO 8601, UTC, milliseconds) and `level` (debug, info, warn, error,
  critical); `request_id` where it is about a request, as in the answer's `X-Request-Id`.
- A receipt: `endpoint`, `provider`, `kind`, `message_id`, `state`, `verdict`, `milliseconds` from
  the whole request to the answer, `recipient`, `peer`; null where the post had none. Also
  `unread` where it has fields that could not be read: their names.
- A post that was not taken: `endpoint`, `provider`, `verdict`, `milliseconds`, `peer`, and `text`
  that says why.
- Anything else: `logger`, which part of receiptd or which library it comes from, `text`, and
  `traceback` where something went wrong unexpectedly.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _quoted
from time import gmtime, strftime, time
from typing import NamedTuple, Protocol

from receiptd.receipt import Outcome, Receipt


class Answered(NamedTuple):
    """What every line about a post says of it."""

    request_id: str
    endpoint: str
    provider: str
    peer: str | None
    milliseconds: float
    """From the whole request to the answer."""


class Event(NamedTuple):
    """Anything else that is worth a line."""

    time: float
    """Seconds since 1970."""
    level: str
    logger: str
    text: str
    request_id: str | None = None
    traceback: str | None = None


class Lines(Protocol):
    """Makes lines, each with its line feed."""

    def receipt(self, post: Answered, receipt: Receipt, outcome: Outcome) -> str:
        """That a receipt is stored, and as what."""

    def refused(self, post: Answered, outcome: Outcome, level: str, text: str) -> str:
        """That a post was not taken as a receipt, and why."""

    def event(self, event: Event) -> str:
        """Anything else."""


class Plain:
    """Lines that are short and read well."""

    def __init__(self, *, mask: bool = False) -> None:
        """
        :param mask: whether only the last four digits of a recipient are shown.
        """
        self._mask = mask

    def receipt(self, post: Answered, receipt: Receipt, outcome: Outcome) -> str:
        """That a receipt is stored, and as what."""
        recipient = masked(receipt.recipient) if self._mask else receipt.recipient
        return (
            f"{_second(int(time()))}Z {post.request_id} {post.endpoint} {post.provider} "
            f"{receipt.kind} {_shown(receipt.message_id)} {receipt.state} {outcome} "
            f"{post.milliseconds:.1f} ms to {_shown(recipient)} from {post.peer or '-'}"
            f"{_unread(receipt)}\n"
        )

    def refused(self, post: Answered, outcome: Outcome, level: str, text: str) -> str:
        """That a post was not taken as a receipt, and why."""
        return (
            f"{_second(int(time()))}Z {_mark(level)}{post.request_id} {post.endpoint} "
            f"{post.provider} {outcome} {post.milliseconds:.1f} ms from {post.peer or '-'}: "
            f"{_shown(masked_in(text) if self._mask else text)}\n"
        )

    def event(self, event: Event) -> str:
        """Anything else; what belongs to it on further lines is indented."""
        request_id = f"{event.request_id} " if event.request_id else ""
        lines = event.text.split("\n")
        if event.traceback:
            lines += event.traceback.rstrip("\n").split("\n")
        text = "\n  ".join(map(_shown, lines))
        return f"{_second(int(event.time))}Z {_mark(event.level)}{request_id}{text}\n"


class Json:
    """Lines for programs: a JSON object each, in ASCII."""

    def __init__(self, *, mask: bool = False) -> None:
        """
        :param mask: whether only the last four digits of a recipient are shown.
        """
        self._mask = mask

    def receipt(self, post: Answered, receipt: Receipt, outcome: Outcome) -> str:
        """That a receipt is stored, and as what."""
        recipient = masked(receipt.recipient) if self._mask else receipt.recipient
        # Written out, since thousands are made each second; `json.dumps` costs three times that.
        return (
            f'{{"time": "{_moment(time())}", "level": "info", '
            f'"request_id": {_quoted(post.request_id)}, '
            f'"endpoint": {_quoted(post.endpoint)}, "provider": {_quoted(post.provider)}, '
            f'"kind": "{receipt.kind}", "message_id": {_quoted_or_null(receipt.message_id)}, '
            f'"state": "{receipt.state}", "verdict": "{outcome}", '
            f'"milliseconds": {post.milliseconds:.1f}, '
            f'"recipient": {_quoted_or_null(recipient)}, '
            f'"peer": {_quoted_or_null(post.peer)}'
            f"{_unread_member(receipt)}}}\n"
        )

    def refused(self, post: Answered, outcome: Outcome, level: str, text: str) -> str:
        """That a post was not taken as a receipt, and why."""
        return _object(
            time=_moment(time()),
            level=level,
            request_id=post.request_id,
            endpoint=post.endpoint,
            provider=post.provider,
            verdict=outcome,
            milliseconds=round(post.milliseconds, 1),
            peer=post.peer,
            text=masked_in(text) if self._mask else text,
        )

    def event(self, event: Event) -> str:
        """Anything else."""
        about = {"request_id": event.request_id} if event.request_id else {}
        wrong = {"traceback": event.traceback} if event.traceback else {}
        return _object(
            time=_moment(event.time),
            level=event.level,
            **about,
            logger=event.logger,
            text=event.text,
            **wrong,
        )


def masked(recipient: str | None) -> str | None:
    """A phone number of which only the last four digits are shown."""
    return "***" + _NO_DIGITS.sub("", recipient)[-4:] if recipient else recipient


def masked_in(text: str) -> str:
    """`text` with whatever in it may be a phone number masked."""
    return _PHONE.sub(lambda found: masked(found[0]) or "", text)


_NO_DIGITS = re.compile(r"\D+", re.ASCII)
_PHONE = re.compile(r"\+?[0-9](?:[ ().+-]{0,3}[0-9]){4,}")


@lru_cache(1)
def _second(seconds: int) -> str:
    """The time of a line, made once a second."""
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(seconds))


def _moment(seconds: float) -> str:
    return f"{_second(int(seconds))}.{int(seconds % 1 * 1000):03d}Z"


def _mark(level: str) -> str:
    return "" if level == "info" else f"{level.upper()}: "


def _shown(text: str | None) -> str:
    """`text` on one line, whatever a post put into it."""
    if text is None:
        return "-"
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _unread(receipt: Receipt) -> str:
    return f" unread: {_shown(', '.join(receipt.unread))}" if receipt.unread else ""


def _unread_member(receipt: Receipt) -> str:
    return f', "unread": {json.dumps(receipt.unread)}' if receipt.unread else ""


def _quoted_or_null(text: str | None) -> str:
    return "null" if text is None else _quoted(text)


def _object(**members: object) -> str:
    return json.dumps(members) + "\n"
