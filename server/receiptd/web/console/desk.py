"""What every page works with: the parts of the server that it asks, and the request it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Engine
from twisted.internet.defer import Deferred

from receiptd.config import Config
from receiptd.pipeline import Pipeline
from receiptd.store.writer import Writer
from receiptd.web.api.handler import Api
from receiptd.web.api.known_names import Names
from receiptd.web.console.forms import CSRF, Form
from receiptd.web.console.remembered import Remembered
from receiptd.web.console.sessions import Session
from receiptd.web.console.views import Views
from receiptd.web.operating.health import Readiness
from receiptd.web.reader import Reader
from receiptd.web.server.request import Request

T = TypeVar("T")


@dataclass(slots=True)
class Desk:
    """The parts of the server that pages ask."""

    reactor: Any
    reader: Reader
    views: Views
    api: Api
    readiness: Readiness
    pipeline: Pipeline
    writer: Writer
    config: Config
    names: Names
    """What is configured has these names."""
    remembered: Remembered

    def read(self, function: Callable[[Engine], T]) -> Deferred[T]:
        """What `function` returns, called in a thread."""
        return self.reader.read(function)


class Visit(NamedTuple):
    """A request of somebody who has logged in."""

    request: Request
    session: Session
    path: str
    """Behind `/console/`, as it was asked for."""
    query: Form

    def values(self) -> dict[str, Any]:
        """What each page is rendered with."""
        return {
            "session": self.session,
            "here": self.path,
            "notice": self.session.read_notice(self.query.one("notice")),
            "query": self.query,
            "csrf_name": CSRF,
        }


class Answer(NamedTuple):
    """What a page is answered with."""

    body: bytes
    content_type: bytes = b"text/html; charset=utf-8"
    headers: tuple[bytes, ...] = ()


class Done(NamedTuple):
    """What a form has done: the page to go to, and what that page says."""

    path: str
    """Behind `/console/`."""
    text: str
