"""Numbers that are good enough for a while: ten open pages do not ask for them ten times."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from time import monotonic
from typing import Any, TypeVar

MOST = 100
"""Things that are remembered; beyond them the oldest is forgotten."""

T = TypeVar("T")


class Remembered:
    """What was found out lately. May be asked in any thread."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._found: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()

    def get(self, key: Hashable, seconds: float, find: Callable[[], T]) -> T:
        """What `find` returns, or returned within the last `seconds`."""
        now = self._clock()
        known = self._found.get(key)
        if known is not None and now - known[0] < seconds:
            value: T = known[1]
            return value
        value = find()
        self._found[key] = (now, value)
        while len(self._found) > MOST:
            try:
                self._found.popitem(last=False)
            except KeyError:  # another thread was quicker
                break
        return value
