"""Sees that nobody waits for a database that hangs, nor trusts one whose log is gone.

PostgreSQL's own limits, such as statement_timeout, are kept by a server that works, and TCP's by
the kernel of a peer that is gone. Neither helps where the server is frozen, waits for its disk, or
stands behind a proxy that waits for it. So the connection is broken from here, and what was to be
stored goes by way of the spool. SQLite keeps a limit of its own where it waits for others; only
what drains the spool, where one record may take for ever, is interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Event, Thread

from twisted.logger import Logger

from receiptd.store.database.connection import WriterConnection
from receiptd.store.database.engine import BUSY_TIMEOUT

TRANSACTION_TIMEOUT = BUSY_TIMEOUT
"""Seconds that the writer's transaction may take: as long as SQLite waits for another process.
Whoever posts waits meanwhile, and many wait for no more than ten."""

DRAINING = 60.0
"""Seconds that a transaction may take that drains the spool, which keeps nobody waiting."""

AT_THE_END = 1.0
"""Seconds, instead of either, once the server stops."""

_LOOK = 0.25
"""Seconds between looks."""

_log = Logger(namespace="receiptd.store")


class Watchdog:
    """Breaks connections whose transactions take too long, in a thread of its own."""

    def __init__(
        self,
        limits: Mapping[WriterConnection, float],
        look: Callable[[], object] = lambda: None,
    ) -> None:
        """
        :param limits: in seconds.
        :param look: called in the watchdog's thread, a few times a second.
        """
        self._limits = dict(limits)
        self._look = look
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="store-watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def hurry(self) -> None:
        """Wait no longer than `AT_THE_END` from now on."""
        self._limits = dict.fromkeys(self._limits, AT_THE_END)

    def stop(self) -> None:
        """End; blocks until that is done."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK):
            self._look()
            for connection, seconds in self._limits.items():
                if connection.cut(seconds):
                    _log.error(
                        "the database did not answer for {seconds:g} s: its connection is broken "
                        "off",
                        seconds=seconds,
                    )
