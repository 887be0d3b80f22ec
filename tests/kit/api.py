"""A client of the HTTP API: requests, lists page by page, and the event stream."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from kit.server import DEADLINE, Server
from kit.wire import post

JSON = {"Content-Type": "application/json"}


class Reply(NamedTuple):
    """A response; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)

    @property
    def problem(self) -> Any:
        """The problem document, which says what the status says."""
        assert self.headers["content-type"] == "application/problem+json"
        assert self.json["status"] == self.status
        assert set(self.json) - {"errors"} == {"type", "title", "status", "detail"}
        return self.json


def with_token(server: Server, headers: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """`headers`, and the token that the server has made unless they say something else."""
    token = server.token
    made = {"Authorization": f"Bearer {token}"} if token is not None else {}
    both: dict[str, str | None] = {**made, **(headers or {})}
    return {name: value for name, value in both.items() if value is not None}


def call(
    server: Server,
    path: str,
    method: str = "GET",
    body: object = None,
    headers: Mapping[str, str | None] | None = None,
) -> Reply:
    """One request, with the token that the server has made unless `headers` have another or
    None; a body that is no bytes is sent as JSON."""
    if body is not None and not isinstance(body, bytes):
        body, headers = json.dumps(body).encode(), {**JSON, **(headers or {})}
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE)) as connection:
        connection.request(method, path, body, with_token(server, headers))  # type: ignore[arg-type]
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        assert "content-length" in found
        return Reply(response.status, found, response.read())


def register(server: Server, *messages: dict[str, Any]) -> list[str]:
    """Register messages; what became of each."""
    reply = call(server, "/api/v1/messages", "POST", list(messages))
    assert reply.status == 200, reply.body
    return [item["result"] for item in reply.json["items"]]


def items(server: Server, path: str) -> list[Any]:
    """All items of a list, page by page."""
    found: list[Any] = []
    following: str | None = path
    while following is not None:
        reply = call(server, following)
        assert reply.status == 200, reply.body
        found += reply.json["items"]
        following = reply.json["next"]
        if following is not None:
            parts = urlsplit(following)
            assert parts.netloc == f"127.0.0.1:{server.port}"
            following = f"{parts.path}?{parts.query}"
    return found


def deliver(
    server: Server, message_id: str, report: int | str = 0, phone: str = "447700912345"
) -> str:
    """Post a receipt as Connection Software does; the reply's text."""
    form = f"MessageIdentifier={message_id}&Report={report}&SendTo={phone}"
    answer = post(
        server.port, form.encode(), content_type="application/x-www-form-urlencoded; charset=utf-8"
    )
    assert answer.status == 200
    return answer.text


class Event(NamedTuple):
    """An event of the stream, or a block without data."""

    id: int | None
    event: str | None
    data: Any
    retry: int | None
    comment: bool


class EventStream:
    """What comes on an open stream."""

    def __init__(self, response: HTTPResponse) -> None:
        self.response = response

    def block(self) -> Event | None:
        """The next block of lines; None at the end."""
        fields: dict[str, str] = {}
        comment = False
        while True:
            line = self.response.readline().decode()
            if not line:
                assert not fields, "the stream ends within an event"
                return None
            if line == "\n":
                return Event(
                    int(fields["id"]) if "id" in fields else None,
                    fields.get("event"),
                    json.loads(fields["data"]) if "data" in fields else None,
                    int(fields["retry"]) if "retry" in fields else None,
                    comment,
                )
            name, colon, value = line.rstrip("\n").partition(":")
            assert colon
            assert name not in fields
            if name:
                fields[name] = value.removeprefix(" ")
            else:
                comment = True

    def event(self) -> Event:
        """The next receipt, or the next event of the log."""
        while True:
            found = self.block()
            assert found is not None, "the stream has ended"
            if found.data is not None:
                if found.event == "receipt":
                    assert found.id == found.data["id"]
                else:
                    assert (found.id, found.event) == (found.data["number"], found.data["type"])
                return found

    def rest(self) -> Iterator[Event]:
        """The receipts until the stream ends, as HTTP says that it ends."""
        while (found := self.block()) is not None:
            if found.data is not None:
                yield found


@contextmanager
def watch(
    server: Server, query: str = "", last: int | None = None, buffer: int | None = None
) -> Iterator[EventStream]:
    """An open stream.

    :param last: the Last-Event-ID.
    :param buffer: bytes that the client's socket takes though nobody reads them.
    """
    connection = HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE)
    if buffer is not None:
        connection.sock = socket.socket()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.sock.settimeout(DEADLINE)
        connection.sock.connect(("127.0.0.1", server.port))
    with closing(connection):
        headers = with_token(server, {"Last-Event-ID": str(last)} if last is not None else {})
        connection.request("GET", f"/api/v1/receipts/stream{query}", headers=headers)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        yield EventStream(response)
