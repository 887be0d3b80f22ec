"""Which revision of the schema a database stands at, and what to say where that is another than
this receiptd knows.

Several machines may share a database while they are upgraded one after the other. The first new
one changes the tables, and those before it must not go on to write by rules that hold no more. So
every transaction that writes looks, once it has the turn that a migration takes as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import URL

from receiptd import __version__
from receiptd.store.database.errors import StoreError, shown
from receiptd.store.schema import REVISION

QUERY = "SELECT version_num FROM alembic_version"

ANY = "any_revision"
"""The execution option of those who write to a database of another revision, to migrate it
or to copy into it."""

COPYING = "copying"
"""The revision of a database into which another one is being copied: no server uses it."""


def check(rows: Sequence[Any], url: URL) -> None:
    """See that the database stands at `REVISION`.

    :param rows: what `QUERY` gives.
    :raises StoreError: where it does not, with what to do about it.
    """
    found = rows[0][0] if rows else None
    if found != REVISION:
        raise of_another(found, url)


def of_another(found: Any, url: URL) -> StoreError:
    """The one advice for a database that this receiptd cannot use as it is."""
    if found == COPYING:
        return StoreError(
            f"{shown(url)}: another database is being copied into this one: finish that first, "
            "with receiptd db copy --finish"
        )
    stands = f"at revision {found}" if found else "empty"
    text = f"{shown(url)}: the database is {stands}, "
    if found is not None and found > REVISION:
        # No command of this version mends it: a newer one has changed the tables.
        return StoreError(
            f"{text}and this receiptd ({__version__}) knows revisions up to {REVISION}: a newer "
            "receiptd has used it; upgrade receiptd to that version or a later one"
        )
    return StoreError(f"{text}this receiptd needs {REVISION}: run receiptd db upgrade")
