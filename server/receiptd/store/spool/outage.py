"""An outage of the database: since when posts go to the spool, why, and what the log is told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from twisted.logger import Logger

from receiptd.store.database.errors import StoreAway, StoreError, cause, lacks_room
from receiptd.store.database.log_files import LogLost

_log = Logger(namespace="receiptd.store")


class Backlog(NamedTuple):
    """What the spool holds, and why."""

    since: datetime | None
    """When posts began to go to the spool (aware, UTC); None while they go to the database."""
    reason: str
    """What the database said then, empty where only the spool of an ended process is drained."""
    records: int
    """How many posts wait in the spool."""
    bytes: int
    full: bool
    """Whether the spool did not take what came last: it was answered busy."""
    set_aside: int = 0
    """How many records are set aside, since they cannot be stored."""
    remedy: str = ""
    """What somebody has to do before the database stores again; empty where it may by itself."""


class Drained(NamedTuple):
    """How many records of the spool came to their end."""

    stored: int
    set_aside: int


class Outage:
    """The outage that lasts, if one does. Changed by `fallback` alone, under its lock; may be read
    in any thread."""

    def __init__(self, folder: Path, now: Callable[[], datetime]) -> None:
        """
        :param folder: the spool's, which the log names.
        """
        self.lasts = False
        self.since: datetime | None = None
        """When it began (aware, UTC)."""
        self.reason = ""
        """What the database said last, empty where only the spool of an ended process is
        drained."""
        self.remedy = ""
        """What somebody has to do before the database stores again; empty where it may by
        itself."""
        self.lacked_room = False
        """Whether its disk was full, and its log has not given back its room since."""
        self._folder = folder
        self._now = now
        self._began = 0.0
        self._before = Drained(0, 0)

    def begin(self, drained: Drained) -> bool:
        """Posts go to the spool from now on; whether they did not before.

        :param drained: of the spool so far, so that the log can be told how many it was.
        """
        if self.lasts:
            return False
        self.since, self._began = self._now(), monotonic()
        self._before = drained
        self.lasts = True
        return True

    def away(self, error: Exception, drained: Drained) -> bool:
        """The database has not stored: begin, as `begin` does, and tell the log why, unless it
        knows."""
        self.lacked_room |= lacks_room(error)
        told, self.reason = self.reason, cause(error)
        lost = isinstance(error, LogLost)
        self.remedy = "its write-ahead log was removed: restart the server" if lost else ""
        begins = self.begin(drained)
        # What somebody has to mend is told even where something else was told before.
        stays = lost or (isinstance(error, StoreError) and not isinstance(error, StoreAway))
        if not told or (stays and self.reason != told):
            _log.error(
                "the database does not store: {reason}. What comes is acknowledged and kept in "
                "{folder} until it does",
                reason=self.reason,
                folder=self._folder,
            )
        return begins

    def end(self, drained: Drained) -> None:
        """Posts go to the database again; the log is told."""
        begins = "the database stores again" if self.reason else "the spool is drained"
        _log.info(
            "{begins}, after {seconds:.1f} s: of the spool {stored} posts were stored, "
            "{set_aside} set aside",
            begins=begins,
            seconds=monotonic() - self._began,
            stored=drained.stored - self._before.stored,
            set_aside=drained.set_aside - self._before.set_aside,
        )
        self.since, self.reason, self.remedy = None, "", ""
        self.lacked_room = False
        self.lasts = False
