"""Lists, page by page: a filter out of a query, the rows that fit, and where it goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

from sqlalchemy import Engine

from receiptd.registration import rules
from receiptd.store.messages import MessageFilter
from receiptd.store.paging import Page, Row, Source, page
from receiptd.store.queries import ReceiptFilter
from receiptd.web.api.parameters import ListQuery, read_query
from receiptd.web.api.values import cursor
from receiptd.web.console.csv_file import MOST_ROWS
from receiptd.web.console.desk import Desk, Visit
from receiptd.web.console.forms import query_of
from receiptd.web.problem import Problem

ROWS = 50
"""Rows of a page."""

SECONDS = 0.5
"""Seconds that a page looks for rows: where no index helps it says how far it has looked."""

_OWN = ("notice", "format", "limit", "q")
"""Parameters of the page itself, which no filter has."""

Q = TypeVar("Q", bound=ListQuery)


class Found(NamedTuple):
    """A page of a list."""

    rows: Sequence[Row]
    following: str = ""
    """The query of the page that follows, empty where none does."""
    wrong: str = ""
    """What is wrong with the filters."""
    first: bool = True
    """Whether it is the first page."""
    cut: bool = False
    """Whether it has less rows than a page has, though there may be more further back."""


def wants_csv(visit: Visit) -> bool:
    """Whether the table is asked for as a file."""
    return visit.query.one("format") == "csv"


async def read_list(desk: Desk, visit: Visit, source: Source, model: type[Q]) -> Found:
    """The page of a list that a query asks for.

    :param model: how the query is read, as the API reads it.
    """
    limit = MOST_ROWS if wants_csv(visit) else ROWS
    try:
        query = read_query(model, query_of(visit.query, _OWN).encode())
    except Problem as problem:
        return Found((), wrong=problem.detail)
    wanted = query.wanted(desk.names.regions)
    before = query.cursor
    found = await desk.read(
        lambda engine: page(engine, source, wanted, limit=limit, before_id=before, seconds=SECONDS)
    )
    following = ""
    if found.next_id is not None:
        following = query_of(visit.query, ("notice", "format", "cursor"))
        following += "&" * bool(following) + urlencode({"cursor": cursor(found.next_id)})
    return Found(
        found.rows,
        following,
        first=before is None,
        cut=bool(following) and len(found.rows) < limit,
    )


_SEARCHED: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("message_id", rules.identifier),
    ("recipient", rules.phone),
    ("reference", rules.text),
)
"""What a search looks at, and what it can be."""


async def search(
    desk: Desk, source: Source, model: type[MessageFilter | ReceiptFilter], words: str
) -> Found:
    """The rows that bear `words` as their message's identifier, their recipient in any notation,
    or their reference: the newest of each."""
    filters: list[MessageFilter | ReceiptFilter] = []
    for name, rule in _SEARCHED:
        try:
            named: dict[str, Any] = {name: rule(words)}
        except ValueError:
            continue  # no number, for example: so nothing has it for one
        filters.append(model(regions=desk.names.regions, **named))

    def read(engine: Engine) -> list[Page]:
        found: list[Page] = []
        for each in filters:
            found.append(page(engine, source, each, limit=ROWS, seconds=SECONDS / 2))
            if found[0].rows:
                break  # an identifier is what was meant, where there is one, and is quickly found
        return found

    pages = await desk.read(read)
    rows = {row["id"]: row for each in pages for row in each.rows}
    cut = any(each.next_id is not None and len(each.rows) < ROWS for each in pages)
    return Found([rows[number] for number in sorted(rows, reverse=True)][:ROWS], cut=cut)
