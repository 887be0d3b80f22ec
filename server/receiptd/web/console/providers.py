"""The page of providers: what to register where, and a button that posts as the provider would."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred

from receiptd import providers
from receiptd.config import Endpoint
from receiptd.providers import Provider, named
from receiptd.providers.values import shown
from receiptd.simulate.dialects import Dialect, Outgoing, Query, Target, target
from receiptd.web.console.csv_file import csv_answer
from receiptd.web.console.desk import Answer, Desk, Done, Visit
from receiptd.web.console.lists import wants_csv
from receiptd.web.problem import Problem
from receiptd.web.server.head import Head
from receiptd.web.server.request import Request, local_address

COLUMNS = ("endpoint", "provider", "url", "asks_for", "matches")

LONGEST_ANSWER = 300
"""Characters of an answer that are shown."""

SECONDS = 15
"""Seconds that a test receipt may take to be answered."""


def base_url(desk: Desk, request: Request) -> str:
    """What stands before an endpoint's path in the URL to register, as far as it is known."""
    if desk.config.server.public_url:
        return desk.config.server.public_url.rstrip("/")
    return f"{request.scheme}://{request.header(b'Host') or local_address(request.host)}"


async def show_list(desk: Desk, visit: Visit) -> Answer:
    """All endpoints."""
    base = base_url(desk, visit.request)
    known = providers.load()
    rows = []
    for endpoint in desk.config.endpoint:
        kind = known[endpoint.provider]
        own = endpoint.public_url[0].rstrip("/") if endpoint.public_url else base
        bound = endpoint.bind(desk.config.server.public_url)
        rows.append(
            {
                "endpoint": endpoint.name,
                "provider": endpoint.provider,
                "title": kind.title,
                "url": f"{own}{endpoint.path}",
                "asks_for": "; ".join(
                    filter(
                        None,
                        (
                            endpoint.asks_for if endpoint.asks_for != "nothing" else "",
                            "a signature" if bound.signed else "",
                        ),
                    )
                )
                or "nothing",
                "open": not endpoint.authenticated,
                "token": bool(endpoint.token),
                "wsdl": kind.handler is not None and kind.in_body_credentials,
                "matches": endpoint.match,
                "action": f"/console/providers/{quote(endpoint.name, safe='')}",
                "can_test": kind.sample is not Provider.sample,
            }
        )
    if wants_csv(visit):
        return csv_answer("providers", COLUMNS, ([row[key] for key in COLUMNS] for row in rows))
    body = desk.views.page(
        "providers.html",
        rows=rows,
        public=desk.config.server.public_url is not None,
        **visit.values(),
    )
    return Answer(body)


async def send_test(desk: Desk, visit: Visit, name: str) -> Done:
    """Post a made-up receipt to an endpoint, as its provider would."""
    endpoint = next((each for each in desk.config.endpoint if each.name == name), None)
    if endpoint is None:
        raise Problem(404, f"no endpoint is called {shown(name)}")
    provider = endpoint.bind(desk.config.server.public_url)
    if type(provider).sample is Provider.sample:
        raise Problem(422, f"nothing is known of what {endpoint.provider} posts")
    url = f"http://127.0.0.1{endpoint.path}"
    token = endpoint.token[0].get_secret_value() if endpoint.token else None
    to = target(url, token)
    if endpoint.basic is not None:
        secret = quote(endpoint.basic.password[0].get_secret_value(), safe="")
        user = quote(endpoint.basic.username, safe="")
        to = target(f"http://{user}:{secret}@127.0.0.1{endpoint.path}", token)
    dialect = _dialect(endpoint, provider)
    receipt = provider.sample(Random(), datetime.now(UTC))  # noqa: S311 - made up, not secret
    outgoing = dialect.write(receipt, to)
    status, body = await _posted(desk, visit.request, outgoing, to)
    answer = dialect.read(outgoing, status, body)
    phone = shown(receipt.recipient or "no number")
    words = f"{name} was posted a test receipt for {phone} and answered"
    if answer.kind == "received":
        return Done("providers", f'{words} "received"; it is in the list of receipts')
    why = ""
    if answer.text.startswith("Report -1"):
        why = (
            ". Its message is made up: where receipts are matched with messages, it is kept among "
            "the mismatches"
        )
    return Done("providers", f"{words}: {answer.text[:LONGEST_ANSWER]}{why}")


def _dialect(endpoint: Endpoint, provider: Provider) -> Dialect:
    if provider.dialect is None:
        return Query(provider)
    pin = endpoint.pin[0].get_secret_value() if endpoint.pin else None
    dialect: Dialect = named(provider.dialect)(provider, endpoint.username, pin, form=False)
    return dialect


def _posted(desk: Desk, asked: Request, post: Outgoing, to: Target) -> Deferred[tuple[int, bytes]]:
    """Hand a post to the endpoint that has its path, as if it had come over a connection."""
    path, _, query = post.path.partition("?")
    head = Head(
        post.method.encode(),
        f"{path}{'?' * bool(query)}{query}".encode(),
        1,
        {name.lower().encode(): [value.encode()] for name, value in post.headers.items()},
        len(post.body),
        True,
        False,
    )
    request = _Loopback(asked, head, post.body)
    request.site.handle(request)
    return request.answered.addTimeout(SECONDS, desk.reactor)


class _Loopback(Request):
    """A post that comes from within: it is handled as any other, and its answer is caught."""

    __slots__ = ("_operator", "answered")

    def __init__(self, asked: Request, head: Head, content: bytes) -> None:
        super().__init__(asked.connection, head, content)
        self._operator = asked
        self.answered: Deferred[tuple[int, bytes]] = Deferred()

    @property
    def peer(self) -> str | None:
        """The operator's address, who has asked for it."""
        return self._operator.peer

    @property
    def scheme(self) -> str:
        """As the operator speaks."""
        return self._operator.scheme

    def answer(
        self, status: int, body: bytes, content_type: bytes = b"", headers: Any = ()
    ) -> None:
        """Catch the answer."""
        if not self.answered.called:
            self.answered.callback((status, body))
