"""A reactor for services that do something now and then."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.python.failure import Failure


class Reactor(Clock):
    """A clock, and threads that are done with before they are begun."""

    def getThreadPool(self) -> Any:  # noqa: N802
        return self

    def callInThreadWithCallback(self, done: Any, work: Any, *args: Any) -> None:  # noqa: N802
        try:
            result = work(*args)
        except Exception:
            done(False, Failure())
        else:
            done(True, result)

    def callFromThread(self, work: Any, *args: Any) -> None:  # noqa: N802
        work(*args)
