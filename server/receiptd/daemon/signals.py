"""Signals: SIGTERM and SIGINT end the process, SIGHUP reloads its configuration."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

_held: list[int] = []


def hold() -> None:
    """Until `obey`: bear in mind a SIGHUP that comes while the server starts, and do without a
    SIGUSR1: by themselves both would end it."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, lambda number, _frame: _held.append(number))


def obey(
    reactor: Any,
    *,
    stop: Callable[[], object],
    reload: Callable[[], object],
    abandon: Callable[[], object] = lambda: None,
) -> None:
    """Handle signals from now on, in place of Twisted's own way, which knows no second SIGTERM.

    :param stop: called in the reactor at the first SIGTERM or SIGINT.
    :param reload: called in the reactor at a SIGHUP, also at one that came since `hold`.
    :param abandon: called at the second SIGTERM or SIGINT, right before the process is gone.
    """
    stopping = False

    def end(number: int, _frame: object) -> None:
        nonlocal stopping
        if stopping:
            abandon()
            # By the signal itself, so that whoever waits for the process sees why.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        stopping = True
        reactor.callFromThread(stop)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(reload))
    if _held:
        _held.clear()
        reactor.callWhenRunning(reload)


def obey_supervisor(reactor: Any, *, stop: Callable[[], object]) -> None:
    """As `obey`, for a worker: what a terminal sends to all its processes, the supervisor tells
    the workers in its own way, and it is in no hurry if it sends SIGTERM twice.

    :param stop: called in the reactor at the first SIGTERM.
    """
    stopping = False

    def end(_number: int, _frame: object) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            reactor.callFromThread(stop)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
