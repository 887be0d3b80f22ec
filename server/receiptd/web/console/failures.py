"""The page of failures: by which codes, in the vendor's words, and whether they become more."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlencode

from sqlalchemy import Engine

from receiptd.providers import Provider
from receiptd.store.networks import OTHER
from receiptd.store.statistics_queries import fill
from receiptd.web.console.csv_file import MOST_ROWS, csv_answer
from receiptd.web.console.desk import Answer, Desk, Visit
from receiptd.web.console.figures import WINDOWS, Code, codes
from receiptd.web.console.lists import wants_csv

MOST = 200
"""Codes that a page shows; the others are in the file."""

COLUMNS = ("provider", "code", "words", "state", "receipts", "before", "share")


async def show(desk: Desk, visit: Visit) -> Answer:
    """The page."""
    now = datetime.now(UTC)
    asked = visit.query.one("window")
    window = asked if asked in WINDOWS else "24h"
    title, length = WINDOWS[window]

    def read(engine: Engine) -> tuple[list[Code], bool]:
        with engine.connect() as connection:
            found = desk.remembered.get(
                ("codes", window),
                length.total_seconds() / 3600,
                lambda: codes(connection, now, length),
            )
            return found, fill(connection).complete

    found, complete = await desk.read(read)
    wanted = visit.query.one("provider")
    if wanted:
        found = [each for each in found if each.provider == wanted]
    words = _Words(desk)
    if wants_csv(visit):
        return csv_answer(
            "failures",
            COLUMNS,
            (
                (
                    *(each.provider, each.code, words.of(each), each.state),
                    *(each.number, each.before, round(each.share, 6)),
                )
                for each in found[:MOST_ROWS]
            ),
        )
    body = desk.views.page(
        "failures.html",
        rows=[
            {"code": each, "words": words.of(each), "href": _href(each, window)}
            for each in found[:MOST]
        ],
        more=max(0, len(found) - MOST),
        window=window,
        windows={name: each[0] for name, each in WINDOWS.items()},
        title=title,
        complete=complete,
        provider_names=desk.names.configured,
        **visit.values(),
    )
    return Answer(body)


class _Words:
    """The vendors' words for their codes."""

    def __init__(self, desk: Desk) -> None:
        self._providers: dict[str, Provider] = {}
        for endpoint in desk.config.endpoint:
            bound = endpoint.bind()
            self._providers.setdefault(bound.name, bound)

    def of(self, code: Code) -> str | None:
        """What a code means; None where the vendor's table does not say."""
        if code.code == OTHER:
            return "codes beyond the first hundred of an hour, together"
        provider = self._providers.get(code.provider)
        return provider.description(code.code) if provider is not None else None


def _href(code: Code, window: str) -> str:
    """Where its receipts are."""
    pairs = [("provider", code.provider), ("state", code.state), ("since", window)]
    if code.code is not None and code.code != OTHER:
        pairs.append(("code", code.code))
    return f"/console/receipts?{urlencode(pairs)}"
