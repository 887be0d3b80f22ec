"""How often somebody may try to log in: a few times a minute from one address."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

from receiptd.web.server.limits import peer

MOST = 10
"""Logins that may fail in `SECONDS`, from one address."""

MOST_IN_ALL = 300
"""The same from all addresses: tokens are not guessed with this many either."""

SECONDS = 60.0

MOST_ADDRESSES = 1000
"""Addresses that are remembered; beyond them the oldest is forgotten."""


class Attempts:
    """Counts logins that have failed. Links of `receiptd console` are not counted: they cannot be
    guessed, so nobody who fails keeps the operator out."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._failed: OrderedDict[str, list[float]] = OrderedDict()
        self._all: list[float] = []

    def wait(self, address: str | None) -> int:
        """0 for somebody who may try, else the seconds to wait."""
        now = self._clock()
        own = self._recent(self._failed.get(peer(address or ""), []), now)
        self._all = self._recent(self._all, now)
        waits = [
            times[-most] + SECONDS - now
            for times, most in ((own, MOST), (self._all, MOST_IN_ALL))
            if len(times) >= most
        ]
        return int(max(waits)) + 1 if waits else 0

    def failed(self, address: str | None) -> None:
        """That a login has failed."""
        now = self._clock()
        key = peer(address or "")
        times = [*self._recent(self._failed.pop(key, []), now), now]
        self._failed[key] = times[-MOST:]
        while len(self._failed) > MOST_ADDRESSES:
            self._failed.popitem(last=False)
        self._all = [*self._recent(self._all, now), now][-MOST_IN_ALL:]

    @staticmethod
    def _recent(times: list[float], now: float) -> list[float]:
        return [each for each in times if now - each < SECONDS]
