"""Posts that brought several receipts: their bytes are stored once, in `posts`.

A receipt that came alone, as nearly all do, has its post in its own row (`receipts.raw`): a row
more for each would cost time. The receipts of one post that came together have `post_id` instead,
and their `raw` is empty. Whoever reads takes both from one select: see `whole` and `RAW`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Engine, Select, Table, case, exists, func, select

from receiptd.receipt import Outcome, Receipt, Verdict
from receiptd.store.database.engine import fetch
from receiptd.store.schema import posts, receipts

_SHARED = (
    select(posts.c.raw)
    .where(posts.c.id == receipts.c.post_id)
    .correlate(receipts)
    .scalar_subquery()
)

# In the words of SQL `coalesce(_SHARED, raw)`; but nothing is looked up for those that are alone.
RAW: ColumnElement[bytes] = case(
    (receipts.c.post_id.is_(None), receipts.c.raw), else_=func.coalesce(_SHARED, receipts.c.raw)
)
"""The post of a row of `receipts`, wherever it is stored."""

_WHOLE = [RAW.label("raw") if column is receipts.c.raw else column for column in receipts.c]


def whole(table: Table) -> Select[Any]:
    """Select the rows of `table` as they were stored: of receipts, `raw` is the post."""
    return select(*_WHOLE) if table is receipts else select(table)


def is_unused() -> ColumnElement[bool]:
    """Whether a row of `posts` has no receipt left. All of its receipts were received when it
    was, and there is an index of that: one of `post_id` would have to be built over all
    receipts of earlier versions."""
    return ~exists().where(
        receipts.c.received_at == posts.c.received_at, receipts.c.post_id == posts.c.id
    )


class Shared(NamedTuple):
    """Which receipts of a transaction share posts."""

    numbers: Sequence[int | None]
    """For each receipt the id in `posts` of its post, None where it has that in its own row."""
    raws: dict[int, bytes]
    """The posts by their ids."""


class PostWriter:
    """Stores the posts that receipts share, in transactions of others."""

    def __init__(self, engine: Engine) -> None:
        mark = "%s" if engine.dialect.name == "postgresql" else "?"
        self._insert = f"INSERT INTO posts (id, received_at, raw) VALUES ({mark}, {mark}, {mark})"

    def shared(self, connection: Connection, batch: Sequence[Sequence[Receipt]]) -> Shared:
        """Which receipts of `batch` share a post.

        :param batch: for each request the receipts that it brought. Nobody else may write until
            `store`: the posts have the ids that are next.
        """
        sizes = list(map(len, batch))
        if max(sizes, default=0) < 2:  # as nearly always, so it has to cost nothing
            return Shared([None] * sum(sizes), {})
        numbers: list[int | None] = []
        raws: dict[int, bytes] = {}
        last: int | None = None
        for some in batch:
            if len(some) < 2:
                numbers += [None] * len(some)
                continue
            if last is None:
                last = fetch(connection, "SELECT coalesce(max(id), 0) FROM posts", ())[0][0]
            counts = Counter(each.raw for each in some)
            ids: dict[bytes, int | None] = {}
            for raw, count in counts.items():
                ids[raw] = None
                if count > 1:
                    last += 1
                    ids[raw] = last
                    raws[last] = raw
            numbers += [ids[each.raw] for each in some]
        return Shared(numbers, raws)

    def store(
        self,
        connection: Connection,
        shared: Shared,
        times: Sequence[object],
        verdicts: Sequence[Verdict],
    ) -> None:
        """Store those posts that any new receipt shares.

        :param times: for each receipt when it was received, as the database takes it.
        :param verdicts: what became of each.
        """
        rows = {
            number: (number, at, shared.raws[number])
            for number, at, verdict in zip(shared.numbers, times, verdicts, strict=True)
            if number is not None and verdict.outcome is not Outcome.DUPLICATE
        }
        if rows:
            connection.exec_driver_sql(self._insert, list(rows.values()))
