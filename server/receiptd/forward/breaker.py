"""The circuit breaker: a destination that fails is left alone but for a probe now and then."""

from __future__ import annotations

import random
from collections.abc import Callable

from receiptd.forward.schedule import jittered

IN_A_ROW = 5
"""Failures of the destination, one after the other, that open it."""

FIRST_PROBE, LAST_PROBE = 5.0, 60.0
"""Seconds to the first probe; each further one waits twice as long, up to the last."""


class Breaker:
    """Says whether another request may go out. Times are seconds of a monotonic clock."""

    def __init__(self, concurrency: int, chance: Callable[[], float] = random.random) -> None:
        """
        :param concurrency: requests that may be under way at once when all is well.
        """
        self.concurrency = concurrency
        self.open = False
        self.next_probe = 0.0
        """When the next probe may go out; of an open one."""
        self._allowed = concurrency
        self._failures = 0
        self._delay = FIRST_PROBE
        self._chance = chance

    def allows(self, in_flight: int, now: float) -> bool:
        """Whether a request may go out beside so many that are under way."""
        if self.open:
            return in_flight == 0 and now >= self.next_probe
        return in_flight < min(self._allowed, self.concurrency)

    def succeeded(self) -> bool:
        """The destination has taken something, or has at least understood it; whether that has
        closed the breaker. What waits then follows slowly at first: one request at once, then
        two, four and so on."""
        was_open = self.open
        if was_open:
            self.open = False
            self._allowed = 1
            self._delay = FIRST_PROBE
        elif self._allowed < self.concurrency:
            self._allowed *= 2
        self._failures = 0
        return was_open

    def failed(self, now: float) -> bool:
        """The destination has failed; whether that has opened the breaker."""
        self._failures += 1
        if self.open:
            self._delay = min(2 * self._delay, LAST_PROBE)
        elif self._failures >= IN_A_ROW:
            self._delay = FIRST_PROBE
        else:
            return False
        opened = not self.open
        self.open = True
        self.next_probe = now + jittered(self._delay, self._chance)
        return opened
