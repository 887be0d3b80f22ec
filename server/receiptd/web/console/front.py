"""The page for people at `/`: what this server is, and how to see more of it.

Whoever asks is unknown, so it says nothing of what is stored or configured. That nothing has come
yet it says only as long as that is so; the command that it names then is the README's.
"""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import Engine
from twisted.internet.defer import ensureDeferred

from receiptd.providers import load
from receiptd.web.console.desk import Desk
from receiptd.web.console.handler import Console
from receiptd.web.console.overview import is_empty
from receiptd.web.console.providers import base_url
from receiptd.web.console.views import HEADERS, HTML
from receiptd.web.problem import answer_failure
from receiptd.web.reader import Unavailable
from receiptd.web.server.request import Request, refuse_path


class Front:
    """Answers browsers; anybody else is told that nothing is served here, as at any other path
    that nothing has."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._empty = True

    def handle(self, request: Request, rest: bytes) -> None:
        """Answer."""
        looks = request.method in (b"GET", b"HEAD") and not request.query and not rest
        if not looks or "text/html" not in request.header(b"Accept"):
            refuse_path(request)
            return
        ensureDeferred(self._answer(request)).addErrback(answer_failure, request)

    async def _answer(self, request: Request) -> None:
        desk = self._console.desk
        if self._empty:

            def read(engine: Engine) -> bool:
                with engine.connect() as connection:
                    return is_empty(connection)

            with suppress(Unavailable):
                self._empty = await desk.read(read)
        body = desk.views.page(
            "front.html", command=_command(desk, request) if self._empty else ""
        )
        request.answer(200, body, HTML, HEADERS)


def _command(desk: Desk, request: Request) -> str:
    """What makes a receipt come; no path that somebody has chosen is in it."""
    first = desk.config.endpoint[0]
    if first.path != load()[first.provider].path or first.authenticated:
        return "receiptd simulate --help"
    return f"receiptd simulate {first.provider} --url {base_url(desk, request)}{first.path}"
