"""Write transactions beside a running server: short ones, with room between them for others'.

A server's receipts wait while another process has the database's write turn. SQLite hands the
turn to whoever asks at the right moment, not to who waits longest, so one process after the
other would starve a server if it took its turns back to back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from receiptd.store.database.errors import StoreTaken, is_locked, shown

TURN_TIMEOUT = 60.0
"""Seconds that a turn is waited for."""

LARGEST = 500
SMALLEST = 50
"""Rows that a transaction should change."""

LONG = 0.025
"""Seconds of work in a transaction above which the next one is made smaller."""

T = TypeVar("T")


class WriteTurns:
    """Takes the database's write turn, again and again, for a share of the time."""

    def __init__(
        self,
        engine: Engine,
        *,
        share: float = 0.5,
        patience: float = TURN_TIMEOUT,
        rest: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        :param engine: opened for writing.
        :param share: of the time, how much the turn may be held.
        :param patience: seconds to wait for a turn.
        :param rest: waits so many seconds, or less.
        """
        self.batch = LARGEST
        """How many rows the next transaction should change: fewer where that takes long."""
        self._engine = engine
        self._rests_per_turn = (1 - share) / share
        self._patience = patience
        self._rest = rest
        self._clock = clock
        self._not_before = 0.0

    def take(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in a transaction; returns what it returns once that is committed.

        :raises StoreTaken: where no turn came within the patience.
        """
        if (early := self._not_before - self._clock()) > 0:
            self._rest(early)
        deadline = self._clock() + self._patience
        while True:
            begun = None
            try:
                with self._engine.begin() as connection:
                    begun = self._clock()
                    result = work(connection)
                    worked = self._clock() - begun
            except OperationalError as error:
                if begun is not None or not is_locked(error):
                    raise
                if self._clock() >= deadline:
                    raise StoreTaken(
                        f"{shown(self._engine.url)}: another process has kept the "
                        f"database locked for {self._patience:.0f} s. Is a transaction left "
                        f"open in a shell, or a backup under way? Then try again"
                    ) from None
                continue
            ended = self._clock()
            self._not_before = ended + (ended - begun) * self._rests_per_turn
            self._adjust(worked)
            return result

    def _adjust(self, worked: float) -> None:
        """The commit itself does not count: on a slow disk it is no quicker with fewer rows."""
        if worked > LONG:
            self.batch = max(self.batch // 2, SMALLEST)
        elif worked < LONG / 4:
            self.batch = min(self.batch * 2, LARGEST)
