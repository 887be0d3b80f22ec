"""Plays an application that is told of receipts: checks signature, order and repetitions.

For trying out forwarding on one machine: nothing is kept but counts and the events' numbers.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

MOST_REMEMBERED = 1_000_000
"""Events whose numbers are remembered, to know repetitions by."""

LARGEST_BODY = 64 * 1024 * 1024
"""Bytes of a request; one with more is answered 413."""

_NUMBER = re.compile(r"evt_[0-9a-f]+_([0-9]{1,19})")


@dataclass
class Seen:
    """What has come."""

    requests: int = 0
    events: int = 0
    repetitions: int = 0
    failed: int = 0
    """Requests that were answered with an error on purpose."""
    unsigned: int = 0
    """Requests without a valid signature, where a secret is given."""
    disordered: int = 0
    """Events that came behind a later one about the same message."""
    known: OrderedDict[str, None] = field(default_factory=OrderedDict)
    newest: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"{self.events} events in {self.requests} requests: {self.repetitions} repetitions, "
            f"{self.disordered} out of order, {self.unsigned} badly signed, {self.failed} "
            "answered with an error on purpose"
        )


class Application:
    """The application. Its requests are answered in threads of their own."""

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        secrets: Sequence[str] = (),
        fail: float = 0.0,
        status: int = 500,
        slow: float = 0.0,
        told: Callable[[str], object] = lambda line: None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """
        :param secrets: one of which must have signed each request.
        :param fail: which share of the requests (0 to 1) is answered with `status`.
        :param slow: seconds to wait before an answer.
        :param told: called with a line about each request, one at a time.
        :raises OSError: where the port cannot be listened on.
        """
        self.seen = Seen()
        self._secrets = secrets
        self._fail, self._status, self._slow = fail, status, slow
        self._told = told
        self._chance = chance
        self._lock = threading.Lock()
        application = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def do_POST(self) -> None:
                application._handle(self)

            do_GET = do_POST

            def log_message(self, format: str, *args: object) -> None: ...

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True

    @property
    def port(self) -> int:
        """What it listens on."""
        return int(self._server.server_address[1])

    def run(self) -> None:
        """Answer until `stop` is called."""
        self._server.serve_forever(0.1)

    def stop(self) -> None:
        """End `run`, which another thread is in."""
        self._server.shutdown()

    def close(self) -> None:
        """Listen no more."""
        self._server.server_close()

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        length = request.headers.get("Content-Length") or "0"
        size = int(length) if length.isascii() and length.isdigit() and len(length) < 10 else -1
        if not 0 <= size <= LARGEST_BODY:
            request.close_connection = True
            _answer(request, 413)
            return
        body = request.rfile.read(size)
        if self._slow:
            time.sleep(self._slow)
        fails = self._chance() < self._fail
        with self._lock:
            line = self._take(request, body, fails)
            self._told(line)
        _answer(request, self._status if fails else 204)

    def _take(self, request: BaseHTTPRequestHandler, body: bytes, fails: bool) -> str:
        """Count what a request tells; a line about it."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        name = headers.get("webhook-id", "")
        notes = []
        self.seen.requests += 1
        if self._secrets and not self._signed(body, headers):
            self.seen.unsigned += 1
            notes.append("BAD SIGNATURE")
        if fails:
            self.seen.failed += 1
            return ", ".join([name or "a request", f"answered {self._status}", *notes])
        events = _events(body, headers, request.path, name)
        for event in events:
            notes += self._count(event)
        about = events[0][1:] if len(events) == 1 else (f"{len(events)} events",)
        if "receiptd-attempt" in headers:
            notes.append(f"attempt {headers['receiptd-attempt']}")
        if "receiptd-replay" in headers:
            notes.append(f"replay {headers['receiptd-replay']}")
        shown = " ".join(str(each) for each in (name, *about) if each)
        return ", ".join([shown, *notes])

    def _signed(self, body: bytes, headers: dict[str, str]) -> bool:
        from standardwebhooks import Webhook

        for secret in self._secrets:
            try:
                Webhook(secret).verify(body, headers, json_parse=False)
                return True
            except Exception:  # noqa: S112 whatever it does not like
                continue
        return False

    def _count(self, event: tuple[str, str, str, str]) -> list[str]:
        """Count one event; what is odd about it."""
        name, _, message, _ = event
        seen = self.seen
        seen.events += 1
        if name in seen.known:
            seen.repetitions += 1
            return ["a repetition"]
        seen.known[name] = None
        if len(seen.known) > MOST_REMEMBERED:
            seen.known.popitem(last=False)
        found = _NUMBER.fullmatch(name)
        if not found or not message:
            return []
        number = int(found[1])
        if number < seen.newest.get(message, 0):
            seen.disordered += 1
            return ["OUT OF ORDER"]
        seen.newest[message] = number
        if len(seen.newest) > MOST_REMEMBERED:
            del seen.newest[next(iter(seen.newest))]
        return []


def _events(
    body: bytes, headers: dict[str, str], path: str, name: str
) -> list[tuple[str, str, str, str]]:
    """The id, type, message and state of each event that a request tells."""
    kind = headers.get("content-type", "")
    try:
        if "json" in kind:
            content = json.loads(body)
            several = content if isinstance(content, list) else [{"id": name, **content}]
            return [_event(each) for each in several]
        text = body.decode("utf-8", "replace") if body else urlsplit(path).query
        fields = {key: values[0] for key, values in parse_qs(text).items()}
        message = fields.get("message_id", "")
        return [(name, fields.get("type", ""), message, fields.get("state", ""))]
    except (ValueError, TypeError, KeyError, AttributeError):
        return [(name, "unreadable", "", "")]


def _event(content: Any) -> tuple[str, str, str, str]:
    data = content["data"]
    about = data["receipt"] or data["message"] or {}
    return (
        str(content["id"]),
        str(content["type"]),
        str(about.get("message_id") or ""),
        str(about.get("state", "")),
    )


def _answer(request: BaseHTTPRequestHandler, status: int) -> None:
    request.send_response(status)
    if status != 204:
        request.send_header("Content-Length", "0")
    request.end_headers()
