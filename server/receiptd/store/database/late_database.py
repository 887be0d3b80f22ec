"""A database that did not answer at the server's start, and is awaited.

The server starts all the same: what comes goes to the spool (`spool.fallback`). What the start
does with a database, such as migrating it, is then done by whoever first gets a connection to
write with. Nobody reads before.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

from sqlalchemy import Engine, event

from receiptd.store.database.engine import AWAITED, open_engine
from receiptd.store.database.errors import StoreAway, StoreError

Prepare = Callable[[Engine], object]
"""Makes a database ready to be used; raises `StoreAway` where it does not answer, `StoreError`
where it will not do. It may be done again, and by several servers at once."""


class LateDatabase:
    """Keeps everybody from a database until it is prepared. For any threads."""

    def __init__(self, url: str, prepare: Prepare, error: StoreAway) -> None:
        """
        :param error: what the database said when it was last asked.
        """
        self._url = url
        self._prepare = prepare
        self._lock = Lock()
        self.error: StoreError | None = error
        """Why it cannot be used yet; None once it can."""

    def writes(self, engine: Engine) -> None:
        """Have `engine` prepare the database before it connects: connecting raises what
        `Prepare` does where that fails."""
        event.listen(engine, "do_connect", self._prepare_first)
        engine.update_execution_options(**{AWAITED: self})

    def reads(self, engine: Engine) -> None:
        """Have `engine` not connect before the database is prepared: connecting raises
        `StoreAway`."""
        event.listen(engine, "do_connect", self._refuse)

    def _prepare_first(self, *_: Any) -> None:
        with self._lock:
            if self.error is None:
                return
            own = open_engine(self._url)
            try:
                self._prepare(own)
            except StoreError as error:
                self.error = error
                raise
            finally:
                own.dispose()
            self.error = None

    def _refuse(self, *_: Any) -> None:
        if self.error is not None:
            raise StoreAway(str(self.error))
