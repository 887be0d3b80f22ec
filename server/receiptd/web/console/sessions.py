"""Sessions: a signed cookie in exchange for an API token.

The cookie is signed with a key that is made of the token, so that a session ends with its token,
and its scopes are those that the token has now. Nothing is stored for a session: every worker can
read it, also after a restart. One that was ended by a logout is remembered as spent.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from datetime import timedelta
from secrets import token_urlsafe
from time import time
from typing import Any, NamedTuple

from itsdangerous import BadData, URLSafeTimedSerializer

from receiptd.config import ApiToken
from receiptd.config.console import LONGEST_SESSION
from receiptd.web.login_code import serializer, signing_key
from receiptd.web.server.request import Request

LONGEST_COOKIE = 400
"""Characters of the cookie; those that are made have about a hundred."""

LONGEST_COOKIES = 8192
"""Bytes of cookies that are looked through: other programs on this host have theirs."""

LONGEST_NOTICE = 2000
"""Characters of a notice that a URL carries."""

_VALUE = re.compile(r"[A-Za-z0-9._-]+")


class Session(NamedTuple):
    """Who has logged in."""

    id: str
    began: int
    """When, in seconds since 1970."""
    token: ApiToken
    """By which API token."""

    @property
    def writes(self) -> bool:
        """Whether it may change anything."""
        return "write" in self.token.scopes

    @property
    def csrf(self) -> str:
        """What each form of this session carries, and nobody else knows."""
        key = signing_key(self.token, "csrf")
        return hmac.digest(key, self.id.encode(), "sha256").hex()[:40]

    def is_mine(self, csrf: str) -> bool:
        """Whether a form is one that this session was given; in constant time."""
        return hmac.compare_digest(csrf.encode(errors="replace"), self.csrf.encode())

    def notice(self, text: str) -> str:
        """`text` for the next page, as its URL carries it: signed, so that nobody else can make
        a page of ours say anything."""
        return str(self._notices().dumps(text[: LONGEST_NOTICE // 3]))

    def read_notice(self, signed: str) -> str:
        """What a URL carries; empty where this session was not given it."""
        try:
            return str(self._notices().loads(signed[:LONGEST_NOTICE], max_age=60))
        except BadData:
            return ""

    def _notices(self) -> URLSafeTimedSerializer:
        return serializer(self.token, f"notice {self.id}")


class Sessions:
    """Makes cookies and reads them."""

    def __init__(self, tokens: Sequence[ApiToken], lasts: timedelta) -> None:
        """
        :param tokens: those of the API; without one nobody is in.
        :param lasts: how long a session lasts while nobody uses it.
        """
        self.tokens = tokens
        self._lasts = int(lasts.total_seconds())

    def begin(self, request: Request, token: ApiToken) -> tuple[Session, bytes]:
        """A new session, and the header line that hands it out."""
        session = Session(token_urlsafe(16), int(time()), token)
        return session, self.cookie(request, session)

    def cookie(self, request: Request, session: Session) -> bytes:
        """The header line that hands the session out, also again, so that it lasts on."""
        value = serializer(session.token, "session").dumps([session.id, session.began])
        return _header(request, str(value), self._lasts)

    def end(self, request: Request) -> bytes:
        """The header line that takes the cookie back."""
        return _header(request, "", 0)

    def read(self, request: Request) -> Session | None:
        """Whose request it is; None for nobody's."""
        value = _cookie(request)
        if value is None or len(value) > LONGEST_COOKIE or not _VALUE.fullmatch(value):
            return None
        for token in self.tokens:
            if "read" not in token.scopes:
                continue
            try:
                said = serializer(token, "session").loads(value, max_age=self._lasts)
            except BadData:
                continue
            return self._session(said, token)
        return None

    @staticmethod
    def _session(said: Any, token: ApiToken) -> Session | None:
        identity, began = said
        if time() - began > LONGEST_SESSION.total_seconds():
            return None
        return Session(identity, began, token)

    def left(self, session: Session) -> float:
        """Seconds that it lasts at most, from now on."""
        whole = LONGEST_SESSION.total_seconds() - (time() - session.began)
        return max(0.0, min(whole, self._lasts))


def _name(request: Request) -> str:
    # RFC 6265bis, section 4.1.3.2: with this prefix no other host and no plain HTTP can set it.
    return "__Host-receiptd" if request.scheme == "https" else "receiptd"


def _header(request: Request, value: str, seconds: int) -> bytes:
    secure = "; Secure" if request.scheme == "https" else ""
    return (
        f"Set-Cookie: {_name(request)}={value}; Path=/; Max-Age={seconds}; HttpOnly; "
        f"SameSite=Strict{secure}\r\n"
    ).encode()


def _cookie(request: Request) -> str | None:
    wanted = _name(request)
    for header in request.headers(b"Cookie"):
        for pair in header[:LONGEST_COOKIES].decode("iso8859-1").split(";"):
            name, _, value = pair.strip().partition("=")
            if name == wanted:
                return value
    return None
