"""Rejected posts one by one: found, counted, deleted."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from sqlalchemy import Connection, delete, func, select

from receiptd.store.paging import LARGEST_ID, Row
from receiptd.store.queries import REJECTIONS, RejectionFilter
from receiptd.store.schema import rejected_posts


def rejected_post(connection: Connection, number: int) -> Row | None:
    """The rejected post of this id."""
    statement = select(rejected_posts).where(rejected_posts.c.id == min(number, LARGEST_ID))
    return cast(Row | None, connection.execute(statement).mappings().one_or_none())


def count_rejected(connection: Connection, wanted: RejectionFilter) -> tuple[int, int]:
    """How many fit, and the largest id of them, 0 where none does."""
    conditions = REJECTIONS.search(connection, wanted).conditions
    statement = select(func.count(), func.max(rejected_posts.c.id)).where(*conditions)
    count, last = connection.execute(statement).one()
    return count, last or 0


def delete_rejected(
    connection: Connection, wanted: RejectionFilter, *, last: int = LARGEST_ID, limit: int
) -> int:
    """Delete those that fit, the oldest `limit` of them; how many.

    :param last: none with a larger id: what came since somebody counted stays.
    """
    conditions = REJECTIONS.search(connection, wanted).conditions
    ids = (
        select(rejected_posts.c.id)
        .where(rejected_posts.c.id <= last, *conditions)
        .order_by(rejected_posts.c.id)
        .limit(limit)
    )
    return connection.execute(delete(rejected_posts).where(rejected_posts.c.id.in_(ids))).rowcount


def take_out(connection: Connection, ids: Collection[int]) -> set[int]:
    """Delete the rejected posts of these ids; those that were there. Whoever stores their receipts
    does so in the same transaction."""
    statement = delete(rejected_posts).where(rejected_posts.c.id.in_(ids))
    return set(connection.execute(statement.returning(rejected_posts.c.id)).scalars())
