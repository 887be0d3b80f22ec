"""The handler of everything beneath /console: who has logged in, which page, and the answer."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from twisted.internet.defer import ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from receiptd.config import ApiToken, Config
from receiptd.pipeline import Pipeline
from receiptd.store.writer import Writer
from receiptd.web.api.handler import Api
from receiptd.web.api.known_names import Names
from receiptd.web.console import routes
from receiptd.web.console.assets import Assets
from receiptd.web.console.desk import Answer, Desk, Done, Visit
from receiptd.web.console.forms import check, fields, posted, refuse_foreign
from receiptd.web.console.live import EVENT_STREAM, Live
from receiptd.web.console.login import Login
from receiptd.web.console.remembered import Remembered
from receiptd.web.console.sessions import Session, Sessions
from receiptd.web.console.spent import Spent
from receiptd.web.console.views import HEADERS, HTML, Views
from receiptd.web.operating.health import Readiness
from receiptd.web.problem import Problem
from receiptd.web.reader import Reader, Unavailable
from receiptd.web.server.request import Request, refuse_path

LONGEST_PATH = 2048
"""Bytes of a path: a provider, and an identifier of 1,024 characters."""

LIVE = b"X-Receiptd-Live"
"""The header by which the script says that nobody has clicked: such a request keeps no session
alive."""

_log = Logger(namespace="receiptd.web")


class Console:
    """Answers what is asked for beneath `/console`."""

    def __init__(
        self,
        reactor: Any,
        api: Api,
        readiness: Readiness,
        pipeline: Pipeline,
        writer: Writer,
        config: Config,
    ) -> None:
        self._assets = Assets()
        self.views = Views(self._assets)
        self.reader = Reader(reactor, config.store.url, "console", threads=2)
        self._live = Live(reactor, self.reader)
        self._login = Login(self.views, self.reader, Spent.of(config))
        self.desk = Desk(
            reactor,
            self.reader,
            self.views,
            api,
            readiness,
            pipeline,
            writer,
            config,
            Names.of(config.endpoint),
            Remembered(),
        )
        self.renew(config, ())

    def renew(self, config: Config, tokens: list[ApiToken] | tuple[()]) -> None:
        """Go by another configuration and these tokens from now on."""
        self.desk.config = config
        self.desk.names = Names.of(config.endpoint)
        self._login.sessions = Sessions(tokens, config.console.session)

    def start(self) -> None:
        """Begin to answer."""
        self.reader.start()

    def end_streams(self) -> None:
        """End the streams that are open, and open no other."""
        self._live.stop()

    async def stop(self) -> None:
        """Finish what is being read."""
        await self.reader.stop()

    def refusal(self, status: int, text: str) -> tuple[bytes, bytes]:
        """What a request is answered with before it is read: body and content type."""
        return self._error(status, text), HTML

    def handle(self, request: Request, rest: bytes) -> None:
        """Answer `request`, now or later."""
        if not self.desk.config.console.enabled:
            refuse_path(request)
            return
        ensureDeferred(self._answer(request, rest)).addErrback(self._failed, request)

    async def _answer(self, request: Request, rest: bytes) -> None:
        if len(rest) > LONGEST_PATH or len(request.query) > 2 * LONGEST_PATH:
            raise Problem(414, "the URL is too long for any page of the console")
        segments = _segments(rest)
        if segments[0] == "static" and self._assets.answer(request, "/".join(segments[1:])):
            return
        if request.method not in (b"GET", b"HEAD", b"POST"):
            raise Problem(
                405, "only GET, HEAD, POST here", headers=(b"Allow: GET, HEAD, POST\r\n",)
            )
        posts = request.method == b"POST"
        if posts:
            refuse_foreign(request, self.desk.config.server.public_url)
        if segments[0] == "login":
            if len(segments) == 2 and not posts:
                await self._login.by_code(request, segments[1])
            elif posts:
                self._login.by_token(request, posted(request))
            else:
                self._login.form(request, fields(request.query))
            return
        session = await self._login.session(request)
        if session is None:
            self._send_to_login(request, rest)
        elif posts:
            await self._order(request, session, segments)
        else:
            await self._show(request, session, segments, rest)

    def _send_to_login(self, request: Request, rest: bytes) -> None:
        if request.method == b"POST":
            raise Problem(403, "the session has ended: log in, and do it again")
        if request.header(LIVE) or rest == b"live":
            raise Problem(401, "the session has ended: log in")
        asked = rest.decode("iso8859-1")
        if request.query:
            asked += "?" + request.query.decode("iso8859-1")
        _go(request, "/console/login" + (f"?next={quote(asked, safe='')}" if asked else ""))

    async def _order(self, request: Request, session: Session, segments: list[str]) -> None:
        """Do what a form asks for, then show a page: to load that again does nothing."""
        form = posted(request)
        check(form, session)
        if segments == ["logout"]:
            await self._login.out(request, session)
            return
        route = routes.find(routes.ORDERS, segments)
        if route is None:
            raise Problem(404, "no form is sent here")
        if not session.writes:
            raise Problem(
                403,
                f"the token {session.token.name!r} has not the scope 'write', which this needs: "
                "log in with one that has",
            )
        visit = Visit(request, session, "/".join(segments), form)
        done: Done = await route.target(self.desk, visit, **route.values)
        _log.info(
            "console: {text} (by the token {name})",
            text=done.text,
            name=session.token.name,
            request_id=request.request_id,
        )
        mark = "&" if "?" in done.path else "?"
        _go(request, f"/console/{done.path}{mark}notice={session.notice(done.text)}")

    async def _show(
        self, request: Request, session: Session, segments: list[str], rest: bytes
    ) -> None:
        if segments == ["live"]:
            refuse_foreign(request, self.desk.config.server.public_url)
            if request.method == b"HEAD":
                request.answer(200, b"", EVENT_STREAM, HEADERS)
            else:
                self._live.open(request, self._login.sessions.left(session))
            return
        route = routes.find(routes.PAGES, segments)
        if route is None:
            raise Problem(404, "there is no such page: the menu has all of them")
        visit = Visit(request, session, rest.decode("iso8859-1"), fields(request.query))
        answer: Answer = await route.target(self.desk, visit, **route.values)
        headers = (*HEADERS, *answer.headers)
        if not request.header(LIVE):
            headers = (self._login.sessions.cookie(request, session), *headers)
        request.answer(200, answer.body, answer.content_type, headers)

    def _failed(self, failure: Failure, request: Request) -> None:
        if isinstance(failure.value, Problem):
            problem = failure.value
        elif isinstance(failure.value, Unavailable):
            problem = Problem.unavailable(str(failure.value))
        else:
            _log.failure(
                "answering {path}",
                failure=failure,
                path=request.shown_path,
                request_id=request.request_id,
            )
            problem = Problem(500, "something went wrong here; the log says what")
        body = self._error(problem.status, problem.detail)
        request.answer(problem.status, body, HTML, (*HEADERS, *problem.headers))

    def _error(self, status: int, detail: str) -> bytes:
        title = HTTPStatus(status).phrase
        return self.views.page("error.html", status=status, title=title, detail=detail)


def _segments(rest: bytes) -> list[str]:
    try:
        return [unquote_to_bytes(each).decode() for each in rest.split(b"/")]
    except UnicodeDecodeError:
        raise Problem(400, "the path is no UTF-8") from None


def _go(request: Request, location: str) -> None:
    """Send the browser to another page."""
    request.answer(303, b"", HTML, (f"Location: {location}\r\n".encode(), *HEADERS))
