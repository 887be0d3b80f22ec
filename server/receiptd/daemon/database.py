"""The database at the start: upgraded, or awaited while posts go to the spool."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from twisted.logger import Logger

from receiptd.store.database.errors import StoreAway, shown
from receiptd.store.database.late_database import LateDatabase
from receiptd.store.database.migrating import require, upgrade
from receiptd.store.forward_state import register

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from receiptd.config import Store

_log = Logger(namespace="receiptd")


def open_database(
    store: Store, engine: Engine, readers: Iterable[Engine], destinations: Sequence[str] = ()
) -> None:
    """Upgrade the database, or check that it has the needed revision. If the database does not
    answer, the server starts all the same: posts go to the spool until it answers.

    :param engine: of the writer.
    :param readers: engines that read; they wait for the database too.
    :param destinations: names of the destinations that receipts are handed on to.
    :raises StoreError: if the database cannot be used.
    """

    def prepare(engine: Engine) -> None:
        if not store.migrate:
            require(engine)
        elif upgrade(engine) is None:
            _log.info("made a new database: {url}", url=shown(engine.url))
        if destinations:
            # Before the first receipt is stored, so that a destination that is new gets it.
            with engine.begin() as connection:
                register(connection, list(destinations))

    try:
        prepare(engine)
    except StoreAway as error:
        engine.dispose()
        late = LateDatabase(store.url, prepare, error)
        late.writes(engine)
        for reader in readers:
            late.reads(reader)
