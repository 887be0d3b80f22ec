"""Logging in and out: by an API token, or by a link that `receiptd console` has printed."""

from __future__ import annotations

import re
from hashlib import sha256
from hmac import compare_digest

from twisted.logger import Logger

from receiptd.config import ApiToken
from receiptd.web import login_code
from receiptd.web.console.attempts import Attempts
from receiptd.web.console.forms import Form
from receiptd.web.console.sessions import Session, Sessions
from receiptd.web.console.spent import Spent
from receiptd.web.console.views import HEADERS, HTML, Views
from receiptd.web.problem import Problem
from receiptd.web.reader import Reader
from receiptd.web.server.request import Request

_NEXT = re.compile(r"[A-Za-z0-9/_.~%?=&+:@,-]{0,1000}")

_HOW = "receiptd console, on the server, prints a link that opens this page without a token"

_log = Logger(namespace="receiptd.web")


class Login:
    """The pages of somebody who has not logged in yet."""

    def __init__(self, views: Views, reader: Reader, spent: Spent) -> None:
        self._views = views
        self._reader = reader
        self._spent = spent
        self._attempts = Attempts()
        self.sessions: Sessions

    async def session(self, request: Request) -> Session | None:
        """Whose request it is."""
        session = self.sessions.read(request)
        if session is None:
            return None
        name = f"session {session.id}"
        return None if await self._reader.read(lambda _: self._spent.is_spent(name)) else session

    def form(self, request: Request, query: Form, *, wrong: str = "", status: int = 200) -> None:
        """The form that asks for a token."""
        body = self._views.page("login.html", wrong=wrong, next=_next(query.one("next")), how=_HOW)
        request.answer(status, body, HTML, HEADERS)

    def by_token(self, request: Request, form: Form) -> None:
        """Log in with the token in a form."""
        if seconds := self._attempts.wait(request.peer):
            raise Problem(
                429,
                f"too many logins have failed: wait {seconds} s. Meanwhile {_HOW}",
                headers=(b"Retry-After: %d\r\n" % seconds,),
            )
        token = self._token(form.one("token"))
        if token is None or "read" not in token.scopes:
            self._attempts.failed(request.peer)
            why = "has not the scope read" if token else "is not one of the server's"
            self._tell(request, f"the token {why}")
            self.form(request, form, wrong=f"The token {why}.", status=403)
            return
        self._let_in(request, token, form.one("next"))

    async def by_code(self, request: Request, code: str) -> None:
        """Log in with the code of a link."""
        if "prefetch" in request.header(b"Sec-Purpose") or request.method == b"HEAD":
            raise Problem(403, "a link that works once is not fetched before it is opened")
        found = login_code.read(code, self.sessions.tokens)
        if found is not None:
            nonce = f"code {found.nonce}"
            try:
                fresh = await self._reader.read(lambda _: self._spent.spend(nonce))
            except OSError as error:
                _log.error(
                    "a link to the console cannot be marked as used, so it opens nothing: {error}",
                    error=str(error),
                )
                raise Problem(
                    503, "the link cannot be marked as used: log in with a token; the log says why"
                ) from None
            if fresh and "read" in found.token.scopes:
                self._let_in(request, found.token, "", by_link=True)
                return
        self._tell(request, "the link was used already, or is too old")
        self.form(
            request,
            Form(),
            wrong="The link was used already, or is older than a minute: ask for another.",
            status=403,
        )

    async def out(self, request: Request, session: Session) -> None:
        """Log out: the session ends, wherever its cookie may be."""
        name = f"session {session.id}"
        try:
            await self._reader.read(lambda _: self._spent.spend(name))
        except OSError as error:
            _log.error("a session cannot be marked as ended: {error}", error=str(error))
            raise Problem(503, "the session could not be ended: the log says why") from None
        request.answer(
            303,
            b"",
            HTML,
            (b"Location: /console/login\r\n", self.sessions.end(request), *HEADERS),
        )

    def _token(self, given: str) -> ApiToken | None:
        digest = sha256(given.encode(errors="replace")).digest()
        # Each is compared, so that the time tells nothing about which one was nearly right.
        equal = [
            each
            for each in self.sessions.tokens
            if compare_digest(digest, sha256(each.token.get_secret_value().encode()).digest())
        ]
        return equal[0] if equal and given else None

    def _let_in(
        self, request: Request, token: ApiToken, following: str, *, by_link: bool = False
    ) -> None:
        _session, cookie = self.sessions.begin(request, token)
        _log.info(
            "somebody at {peer} has logged in to the console, by {how} the token {name}",
            peer=request.peer or "a local socket",
            how="a link of" if by_link else "",
            name=token.name,
            request_id=request.request_id,
        )
        target = f"/console/{_next(following)}"
        # A page and no redirection: after a link in a mail or a chat, a browser would not send
        # a strict cookie along with that (RFC 6265bis, section 5.2).
        body = self._views.page("welcome.html", target=target)
        request.answer(200, body, HTML, (cookie, *HEADERS))

    def _tell(self, request: Request, why: str) -> None:
        _log.warn(
            "somebody at {peer} was not let in to the console: {why}",
            peer=request.peer or "a local socket",
            why=why,
            request_id=request.request_id,
        )


def _next(path: str) -> str:
    """A page of the console to go on to, as a query has named it; empty for anything else."""
    return path if _NEXT.fullmatch(path) and not path.startswith("login") else ""
