"""Forgetting a person in the posts that several receipts share.

The other receipts keep the post: what the person's receipts brought is blanked in it. It goes with
the last of its receipts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, select, update

from receiptd.blanking.by_value import KnownSecrets
from receiptd.forget.rows import Whom
from receiptd.store.posts import is_unused
from receiptd.store.schema import posts, receipts

SHORTEST_TEXT = 9
"""Characters of the shortest text of a person's that is blanked in a post that others share:
`STOP` says nothing of anybody once the number is gone, and others write it as well."""


def clear(connection: Connection, whom: Whom, gone: Sequence[Mapping[str, Any]]) -> int:
    """See to the posts that brought `gone`, which are deleted or pseudonymised by now; returns how
    many were changed or deleted.

    :param gone: rows of `receipts` as they were.
    """
    texts: dict[int, set[str]] = {}
    for row in gone:
        if row["post_id"] is not None:
            texts.setdefault(row["post_id"], set()).add(row["text"] or "")
    return sum(_clear(connection, whom, number, each) for number, each in texts.items())


def _clear(connection: Connection, whom: Whom, number: int, texts: set[str]) -> bool:
    if connection.execute(delete(posts).where(posts.c.id == number, is_unused())).rowcount:
        return True
    post = connection.execute(select(posts).where(posts.c.id == number)).one_or_none()
    if post is None:
        return False
    others = connection.scalars(
        select(receipts.c.text).where(
            receipts.c.received_at == post.received_at, receipts.c.post_id == number
        )
    )
    own = texts.difference(others)
    raw = whom.person.blanked(post.raw)
    raw = KnownSecrets(each for each in own if len(each) >= SHORTEST_TEXT).blanked(raw)
    if raw is post.raw or raw == post.raw:
        return False
    connection.execute(update(posts).where(posts.c.id == number).values(raw=raw))
    return True
