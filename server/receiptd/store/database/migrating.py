"""Bringing a database to the revision of the schema that this receiptd needs."""

from __future__ import annotations

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from receiptd.store.database.engine import sqlite_file
from receiptd.store.database.errors import StoreError, cause, may_pass, shown, trouble
from receiptd.store.database.revision import ANY, QUERY, of_another
from receiptd.store.schema import REVISION

_FILE_MODE = 0o640
"""Of a new database: it holds people's phone numbers."""


def revision(engine: Engine) -> str | None:
    """The migration that the database stands at; None for an empty one.

    :raises StoreAway: where the database does not answer now.
    :raises StoreError: where it will not, such as for a wrong password.
    """
    try:
        # Looked at as a reader: a server can start while another process is writing.
        with engine.execution_options(reads=True).connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            found = connection.execute(text(QUERY)).scalar()
            return str(found) if found is not None else None
    except SQLAlchemyError as error:
        raise trouble(engine, error) from error


def upgrade(engine: Engine) -> str | None:
    """Bring the database to `REVISION`; returns what it stood at.

    :raises StoreAway: where it does not answer now.
    :raises StoreError: where it will not, is newer than this receiptd, or cannot be changed.
    """
    file = sqlite_file(str(engine.url))
    if file is not None and not file.exists():
        try:
            file.touch(_FILE_MODE)
        except OSError as error:
            raise StoreError(f"{file}: cannot be made: {error.strerror}") from None
    before = revision(engine)
    if before == REVISION:
        return before
    if before is not None and before > REVISION:
        raise of_another(before, engine.url)
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "receiptd:store/migrations")
    config.set_main_option("path_separator", "os")
    try:
        # Patient, since an index of a large table takes its time.
        with engine.execution_options(patient=True, **{ANY: True}).begin() as connection:
            # Of two servers that start together the second waits above and finds it done here.
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except SQLAlchemyError as error:
        if isinstance(error, OperationalError) or may_pass(error):
            raise trouble(engine, error) from error
        raise StoreError(
            f"{shown(engine.url)}: the database cannot be brought to revision "
            f"{REVISION}: {cause(error)}. What its role may not do, another one may: run "
            "receiptd db upgrade with --database and that one's URL"
        ) from error
    return before


def require(engine: Engine) -> None:
    """See that the database stands at `REVISION`.

    :raises StoreAway: where it does not answer now.
    :raises StoreError: where it does not, with the command that mends it.
    """
    if (found := revision(engine)) != REVISION:
        raise of_another(found, engine.url)


def set_revision(connection: Connection, number: str) -> None:
    """Say that the database stands at this revision: `COPYING`, or again what it is."""
    connection.execute(
        text("UPDATE alembic_version SET version_num = :number"), {"number": number}
    )
