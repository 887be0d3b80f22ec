"""Somebody with a browser, as far as HTTP goes: cookies, forms, and what a page says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from html import unescape
from http.client import HTTPConnection
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

from pydantic import SecretStr

from kit.command_line import run
from kit.server import DEADLINE, Server
from receiptd.config.api import ApiToken
from receiptd.web import login_code

FORM = "application/x-www-form-urlencoded"

_CSRF = re.compile(r'name="csrf" value="([^"]*)"')


class Seen(NamedTuple):
    """An answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body."""
        return self.body.decode()

    @property
    def words(self) -> str:
        """What a reader sees of a page."""
        text = re.sub(r"(?s)<head>.*?</head>|<[^>]*>", " ", self.text)
        return " ".join(unescape(text).split())

    @property
    def csrf(self) -> str:
        """What forms of this page carry."""
        found = _CSRF.search(self.text)
        assert found is not None, self.words
        return found[1]


class Visitor:
    """Asks for pages, and keeps the cookie that it is given."""

    def __init__(self, server: Server, cookie: str = "", **headers: str) -> None:
        """
        :param headers: sent with each request; an underscore stands for a hyphen.
        """
        self.server = server
        self.cookie = cookie
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Seen:
        """One request; a path that is a URL is asked for at the server."""
        parts = urlsplit(path)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        sent = {**self.headers, **(headers or {})}
        if self.cookie:
            sent["Cookie"] = self.cookie
        with closing(
            HTTPConnection("127.0.0.1", self.server.port, timeout=DEADLINE)
        ) as connection:
            connection.request(method, target, body, sent)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            seen = Seen(response.status, found, response.read())
        if "set-cookie" in found:
            self.cookie = found["set-cookie"].partition(";")[0]
        return seen

    def post(
        self, path: str, headers: Mapping[str, str] | None = None, /, **fields: object
    ) -> Seen:
        """Send a form."""
        body = urlencode(fields).encode()
        return self.ask(path, "POST", body, {"Content-Type": FORM, **(headers or {})})

    def do(self, page: str, path: str, /, **fields: object) -> Seen:
        """Send a form to `path` as the page at `page` would, and see the page that follows."""
        answer = self.post(path, csrf=self.ask(page).csrf, **fields)
        assert answer.status == 303, answer.words
        return self.ask(answer.headers["location"])

    def log_in(self, token: str | None = None) -> Visitor:
        """Log in by a token; the server's own unless given."""
        secret = token or self.server.token or ""
        answer = self.post("/console/login", token=secret)
        if answer.status == 429:  # other tests' logins have failed within the minute
            made = ApiToken(name="any", token=SecretStr(secret), scopes=["read"])
            answer = self.ask(f"/console/login/{login_code.make(made)}")
        assert answer.status == 200, answer.words
        return self


def link(server: Server, *options: str) -> str:
    """What `receiptd console` prints."""
    printed = run(
        *("console", "--config", str(server.config), "--database", f"sqlite:///{server.database}"),
        *("--url", server.url, "--no-browser", *options),
    )
    assert printed.exit_code == 0, printed.output
    return printed.stdout.strip()


def logged_in(server: Server) -> Visitor:
    """Somebody who may do everything."""
    return Visitor(server).log_in()
