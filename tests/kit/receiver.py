"""An application that is told of receipts: a real HTTP server in a thread, that notes what comes
and answers as a test wants."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Request:
    """What came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it tells, each with its `id`."""
        if isinstance(self.json, list):
            return list(self.json)
        return [{"id": self.id, **self.json}]

    def verify(self, secret: str = SECRET) -> None:
        """:raises WebhookVerificationError: where the signature is not this secret's."""
        Webhook(secret).verify(self.body, self.headers)


Answer = int | tuple[int, dict[str, str], bytes]
"""A status; or a status, headers and a body."""


@dataclass
class Receiver:
    """What has come, and how it is answered."""

    answer: Callable[[Request], Answer | None] = lambda _: 204
    """Called in the request's own thread; None: the connection is cut."""
    requests: list[Request] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    """The events of the requests that were answered 2xx, in the order of the answers."""
    url: str = ""
    most: int = 0
    """The most requests that were under way at once."""
    connections: int = 0
    close: Callable[[], object] = lambda: None
    """Has it gone away before its time: nobody listens any more, and connections are cut."""

    def ids(self) -> list[str]:
        """The ids of what was taken."""
        return [each["id"] for each in self.taken]

    def messages(self) -> list[str]:
        """Which message each event that was taken is about."""
        return [
            (each["data"]["receipt"] or each["data"]["message"])["message_id"]
            for each in self.taken
        ]


@contextmanager
def receiver(
    answer: Callable[[Request], Answer | None] | Answer = 204,
    port: int = 0,
    host: str = "127.0.0.1",
) -> Iterator[Receiver]:
    """A receiver on a port of its own."""
    found = Receiver()
    found.answer = answer if callable(answer) else lambda _: answer
    lock = threading.Lock()
    under_way = 0
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            found.connections += 1
            super().setup()

        def handle_one(self) -> None:
            nonlocal under_way
            if ended.is_set():
                self.close_connection = True
                return
            length = int(self.headers.get("Content-Length") or 0)
            request = Request(
                self.command,
                self.path,
                {name.lower(): value for name, value in self.headers.items()},
                self.rfile.read(length),
            )
            with lock:
                found.requests.append(request)
                under_way += 1
                found.most = max(found.most, under_way)
            answer = found.answer(request)
            with lock:
                under_way -= 1
                status, headers, body = (
                    answer if isinstance(answer, tuple) else (answer or 0, {}, b"")
                )
                if 200 <= status < 300 and request.body:
                    found.taken.extend(request.events)
            if answer is None:
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = handle_one  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None: ...

    server = Quiet((host, port), Handler)
    found.url = f"http://{host}:{server.server_address[1]}/receipts"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()

    def close() -> None:
        if not ended.is_set():
            ended.set()
            server.shutdown()
            server.server_close()

    found.close = close
    try:
        yield found
    finally:
        close()
