"""Pages of a table that begin with the oldest rows: for whoever follows what is stored."""

from __future__ import annotations

from time import monotonic

from sqlalchemy import Engine

from receiptd.store.paging import LARGEST_PAGE, PIECE, SECONDS, Page, Row, Source, pieces


def page_after(
    engine: Engine, source: Source, wanted: object, *, limit: int, after_id: int
) -> tuple[Page, int]:
    """The oldest rows that fit, at most `limit`, and the id up to which there is nothing else.

    :param after_id: only those with a larger id.
    :returns: the page, whose `next_id` is that id where more may follow.
    """
    rows: list[Row] = []
    size = 0
    end = monotonic() + SECONDS
    for piece in pieces(
        engine,
        source,
        wanted,
        size=min(limit, PIECE),
        after_id=after_id,
        oldest_first=True,
    ):
        some = piece.rows[: limit - len(rows)]
        rows += some
        cut = len(some) < len(piece.rows)
        reached = some[-1]["id"] if cut and some else max(piece.reached, after_id)
        size += sum(len(row.get("raw", b"")) for row in some)
        more = cut or piece.more
        if not more:
            return Page(rows, None), reached
        if len(rows) == limit or monotonic() > end or size > LARGEST_PAGE:
            return Page(rows, reached), reached
    return Page(rows, None), after_id
